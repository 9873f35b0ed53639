"""Multiply-accumulates, parameters and bytes of each layer, beside the paper's figures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from etinynet.model.config import EtinyNetConfig, NetworkConfig, etinynet_0_75, etinynet_1_0
from etinynet.model.shapes import Layer, layer_name, layers

__all__ = ["PAPER", "LayerSummary", "Summary", "summarize"]

#: Table 1, at 224 x 224 with 1000 classes: (multiply-adds, parameters).
PAPER = {"etinynet-1.0": (117_000_000, 976_000), "etinynet-0.75": (75_000_000, 680_000)}

_COUNTS = (
    "macs counts convolutions and the classifier; paper_macs adds one a batch-normalized value, "
    "and with it gives the paper's figure. parameters counts what is learned; paper_parameters "
    "adds the running means and variances, and with them gives the paper's figure. bytes_float32 "
    "holds paper_parameters; bytes_int8 and bytes_int4 hold the convolution and classifier "
    "weights alone, without the constants of requantization"
)


@dataclass(frozen=True)
class LayerSummary:
    """One layer; shapes are (height, width, channels)."""

    name: str
    kind: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    macs: int
    norm_macs: int
    parameters: int
    statistics: int
    bytes_float32: int
    bytes_int8: int
    bytes_int4: int


@dataclass(frozen=True)
class Summary:
    """All layers of a network at one input side; totals are properties."""

    name: str
    size: int
    rows: tuple[LayerSummary, ...]
    paper: tuple[int, int] | None

    def _total(self, field: str) -> int:
        return sum(getattr(row, field) for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and classifier."""
        return self._total("macs")

    @property
    def paper_macs(self) -> int:
        """As the paper counts: with one for each batch-normalized value."""
        return self.macs + self._total("norm_macs")

    @property
    def parameters(self) -> int:
        """Learned values: weights, scales, biases."""
        return self._total("parameters")

    @property
    def paper_parameters(self) -> int:
        """As the paper counts: with the running means and variances."""
        return self.parameters + self._total("statistics")

    def to_json(self) -> dict[str, Any]:
        """Rows and totals as plain JSON, with what each total counts."""
        totals = {
            name: getattr(self, name)
            for name in ("macs", "paper_macs", "parameters", "paper_parameters")
        }
        totals |= {
            name: self._total(name) for name in ("bytes_float32", "bytes_int8", "bytes_int4")
        }
        paper = None if self.paper is None else {"macs": self.paper[0], "parameters": self.paper[1]}
        return {
            "name": self.name,
            "size": self.size,
            "layers": [asdict(row) for row in self.rows],
            "totals": totals,
            "paper": paper,
            "counts": _COUNTS,
        }


def summarize(config: NetworkConfig, size: int | None = None) -> Summary:
    """Counts for an input of `size` pixels a side; None: `config.size`.

    `paper` is table 1's (multiply-adds, parameters) where the network and the side are its own.
    """
    side = config.size if size is None else size
    rows = tuple(_row(layer) for layer in layers(config, side))
    return Summary(config.name, side, rows, _paper_figures(config, side))


def _paper_figures(config: NetworkConfig, side: int) -> tuple[int, int] | None:
    if side != 224 or config.classes != 1000 or not isinstance(config, EtinyNetConfig):
        return None
    for paper in (etinynet_1_0(), etinynet_0_75()):
        if (config.stem_channels, config.stages) == (paper.stem_channels, paper.stages):
            return PAPER[paper.name]
    return None


def _row(layer: Layer) -> LayerSummary:
    height, width, channels = layer.output
    weights = 0 if layer.weight_shape is None else math.prod(layer.weight_shape)
    values = height * width * channels
    learned = weights
    if layer.is_unit:
        learned += 2 * channels
    elif layer.kind == "dense":
        learned += channels
    statistics = 2 * channels if layer.is_unit else 0
    return LayerSummary(
        name=layer_name(layer.name),
        kind=layer.kind,
        input=layer.input,
        output=layer.output,
        macs=height * width * weights,
        norm_macs=values if layer.is_unit else 0,
        parameters=learned,
        statistics=statistics,
        bytes_float32=4 * (learned + statistics),
        bytes_int8=weights,
        bytes_int4=(weights + 1) // 2,
    )
