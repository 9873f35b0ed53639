"""Every layer's shape and every stored array's shape, from the configuration alone, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from etinynet.model.config import EtinyNetConfig

__all__ = ["Layer", "layers", "state_shapes"]


@dataclass(frozen=True)
class Layer:
    """One layer; `kind` is the integer graph's word, shapes are (height, width, channels)."""

    name: str
    kind: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: int = 1
    stride: int = 1

    @property
    def is_unit(self) -> bool:
        """Whether it is a ConvUnit: a convolution without bias, then batch normalization."""
        return self.kind in ("conv2d", "depthwise", "pointwise")

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        """Shape of the float weight as torch stores it; None for pools."""
        channels, outputs, side = self.input[2], self.output[2], self.kernel
        if self.kind == "dense":
            return outputs, channels
        if self.kind == "depthwise":
            return channels, 1, side, side
        return (outputs, channels, side, side) if self.is_unit else None


def layers(config: EtinyNetConfig, size: int | None = None) -> tuple[Layer, ...]:
    """All layers in order for an input of `size` pixels a side; None: `config.size`.

    The side halves, rounded up, in the stem and in each block of stride 2, and is halved,
    rounded down, by the pool after the stem.
    """
    side = config.size if size is None else size
    result: list[Layer] = []
    shape = (side, side, 3)

    def add(name: str, kind: str, channels: int, side: int, kernel: int, stride: int) -> None:
        nonlocal shape
        output = (side, side, channels)
        result.append(Layer(name, kind, shape, output, kernel, stride))
        shape = output

    side = (side + 1) // 2
    add("stem", "conv2d", config.stem_channels, side, 3, 2)
    side //= 2
    add("pool", "max_pool", config.stem_channels, side, 2, 2)
    for index, block in enumerate(config.blocks):
        side = (side + block.stride - 1) // block.stride
        add(f"blocks.{index}.dw1", "depthwise", block.in_channels, side, 3, block.stride)
        add(f"blocks.{index}.pw", "pointwise", block.out_channels, side, 1, 1)
        add(f"blocks.{index}.dw2", "depthwise", block.out_channels, side, 3, 1)
    add("average", "global_avg_pool", config.feature_channels, 1, side, 1)
    if config.classes:
        add("classifier", "dense", config.classes, 1, 1, 1)
    return tuple(result)


def state_shapes(config: EtinyNetConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of each float32 array of a weights file, in the network's order.

    Names are those of `EtinyNet.state_dict()`, without `num_batches_tracked`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(config):
        weight, channels = layer.weight_shape, layer.output[2]
        if weight is None:
            continue
        if layer.is_unit:
            shapes[f"{layer.name}.conv.weight"] = weight
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{layer.name}.norm.{part}"] = (channels,)
        else:
            shapes[f"{layer.name}.weight"] = weight
            shapes[f"{layer.name}.bias"] = (channels,)
    return shapes
