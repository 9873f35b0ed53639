"""Every layer's shape and every stored array's shape, from the configuration alone, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from etinynet.model.config import EtinyNetConfig, NetworkConfig
from etinynet.model.mobilenet_config import MobileNetConfig

__all__ = ["INPUT", "SCORES", "Layer", "layer_name", "layers", "state_shapes"]

INPUT = "input"
SCORES = "scores"
_NAMES = {"average": "features", "mean": "features", "classifier": SCORES}


@dataclass(frozen=True)
class Layer:
    """One layer; `kind` is the integer graph's word, shapes are (height, width, channels).

    `source` and `residual` are the names of the layers whose outputs it reads and adds, the
    picture's being INPUT. `activated`: whether an activation follows.
    """

    name: str
    kind: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: int = 1
    stride: int = 1
    source: str = ""
    residual: str | None = None
    activated: bool = False

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


class _Chain:
    """Layers one after the other, on an input of `side` pixels a side."""

    def __init__(self, side: int) -> None:
        self.layers: list[Layer] = []
        self.shape = (side, side, 3)
        self.last = INPUT

    def add(
        self,
        name: str,
        kind: str,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        activated: bool = False,
        residual: str | None = None,
    ) -> None:
        """One layer more; convolutions are padded by half of their kernel."""
        padding = kernel // 2 if kind in ("conv2d", "depthwise") else 0
        side = (self.shape[0] + 2 * padding - kernel) // stride + 1
        output = (side, side, channels)
        self.layers.append(
            Layer(name, kind, self.shape, output, kernel, stride, self.last, residual, activated)
        )
        self.shape, self.last = output, name

    def finish(self, channels: int, classes: int) -> tuple[Layer, ...]:
        """The global average and the classifier, if there is one; returns all layers."""
        self.add("average", "global_avg_pool", channels, self.shape[0])
        if classes:
            self.add("classifier", "dense", classes)
        return tuple(self.layers)


def layers(config: NetworkConfig, size: int | None = None) -> tuple[Layer, ...]:
    """All layers in order for an input of `size` pixels a side; None: `config.size`."""
    chain = _Chain(config.size if size is None else size)
    chain.add("stem", "conv2d", config.stem_channels, 3, 2, activated=True)
    if isinstance(config, MobileNetConfig):
        _mobile_blocks(chain, config)
    else:
        _linear_blocks(chain, config)
    return chain.finish(config.feature_channels, config.classes)


def _linear_blocks(chain: _Chain, config: EtinyNetConfig) -> None:
    chain.add("pool", "max_pool", config.stem_channels, 2, 2)
    for index, block in enumerate(config.blocks):
        name, source = f"blocks.{index}", chain.last
        chain.add(f"{name}.dw1", "depthwise", block.in_channels, 3, block.stride)
        first = source if block.first_shortcut else None
        chain.add(f"{name}.pw", "pointwise", block.out_channels, activated=True, residual=first)
        second = chain.last if block.second_shortcut else None
        chain.add(
            f"{name}.dw2", "depthwise", block.out_channels, 3, activated=True, residual=second
        )


def _mobile_blocks(chain: _Chain, config: MobileNetConfig) -> None:
    for index, block in enumerate(config.blocks):
        name, source = f"blocks.{index}", chain.last
        if block.expansion > 1:
            chain.add(f"{name}.expand", "pointwise", block.inner_channels, activated=True)
        chain.add(f"{name}.dw", "depthwise", block.inner_channels, 3, block.stride, activated=True)
        shortcut = source if block.shortcut else None
        chain.add(
            f"{name}.pw",
            "pointwise",
            block.out_channels,
            activated=not block.inverted,
            residual=shortcut,
        )
    if config.head_channels:
        chain.add("head", "pointwise", config.head_channels, activated=True)


def layer_name(name: str) -> str:
    """What users call the layer that the torch module calls `name`: b12.dw1 for blocks.12.dw1.

    Summaries, messages, patterns of --layer-bits, the integer graph and profiles have this name;
    arrays of weights files have the module's. The average over the last map, which is no module,
    is "mean" where the network is traced.
    """
    return _NAMES.get(name, name.replace("blocks.", "b"))


def state_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of each float32 array of a weights file, in the network's order.

    Names are those of the network's `state_dict()`, without `num_batches_tracked`.
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
