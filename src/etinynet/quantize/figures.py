"""Figures 3 and 4 of the paper, drawn from a layer's weights (matplotlib)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from etinynet.extras import not_installed
from etinynet.quantize.analysis import LAMBDAS, Occupancy, Rescaling
from etinynet.quantize.quantizers import rescaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_3", "figure_4", "require_matplotlib"]

# Distinct for colour-blind readers (Okabe and Ito), and in grey by their order.
_COLOURS = ("#000000", "#0072b2", "#009e73", "#e69f00", "#cc79a7")
_ORIGINAL, _QUANTIZED = "#56b4e9", "#d55e00"
_BINS = 81
_DOTS_PER_INCH = 150


def require_matplotlib() -> None:
    """Raises ToolError where the package that draws is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise not_installed("matplotlib") from None


def _figure(panels: int, title: str) -> tuple[Figure, Sequence[Any]]:
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * panels, 3.4), layout="constrained")
    figure.suptitle(title)
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    # The version of matplotlib is no part of the picture.
    figure.savefig(data, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return data.getvalue()


def figure_3(layer: str, found: Sequence[Occupancy]) -> bytes:
    """PNG: for each quantizer the weights in [-1, 1] before rounding, and the share of each level.

    `found` is analysis.occupancies' for `layer`. Raises ToolError without matplotlib.
    """
    figure, axes = _figure(len(found), f"{layer}: weights before and after rounding (figure 3)")
    edges = np.linspace(-1, 1, _BINS + 1)
    for axis, one in zip(axes, found, strict=True):
        count, _ = np.histogram(one.normal.numpy(), edges)
        axis.stairs(count / count.sum(), edges, fill=True, color=_ORIGINAL, label="before")
        places = np.linspace(-1, 1, len(one.shares))
        axis.vlines(places, 0, one.shares, colors=_QUANTIZED, linewidth=3, label="after")
        axis.set_title(f"{one.quantizer}: {one.zeros:.1%} zero, {one.visible} levels", fontsize=9)
        axis.set_xlabel("weight, largest magnitude 1")
        axis.set_ylabel("share of weights")
        axis.legend()
    return _png(figure)


def figure_4(layer: str, weight: Tensor, points: Sequence[Rescaling]) -> bytes:
    """PNG: (a) the re-scaled weights for each λ and reading of it, (b) J and E against λ.

    `points` is analysis.rescalings' for `weight`. Raises ToolError without matplotlib.
    """
    figure, axes = _figure(3, f"{layer}: re-scaled weights, J and E (figure 4)")
    edges = np.linspace(-1, 1, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    for axis, multiply in zip(axes, (False, True), strict=False):
        for lam, colour in zip(LAMBDAS, _COLOURS, strict=True):
            normal = rescaled(weight.double(), weight.double().new_tensor(lam), multiply=multiply)
            count, _ = np.histogram(normal.numpy(), edges)
            axis.plot(middles, count / count.sum(), color=colour, label=f"λ = {lam:g}", lw=1)
        axis.set_title(f"(a) λ {'multiplies' if multiply else 'divides'}", fontsize=9)
        axis.set_xlabel("re-scaled weight")
        axis.set_ylabel("share of weights")
        axis.legend(fontsize=8)
    error, entropy = axes[2], axes[2].twinx()
    for multiply, line in ((False, "-"), (True, "--")):
        chosen = [point for point in points if point.multiply == multiply]
        lams, word = [point.lam for point in chosen], "multiplies" if multiply else "divides"
        errors, entropies = [p.error for p in chosen], [p.entropy for p in chosen]
        error.plot(lams, errors, line, color=_COLOURS[1], label=f"J, λ {word}")
        entropy.plot(lams, entropies, line, color=_COLOURS[3], label=f"E, λ {word}")
    error.set_title("(b) quantization error J, entropy E", fontsize=9)
    error.set_xlabel("λ")
    error.set_ylabel("J")
    error.set_ylim(bottom=0)
    entropy.set_ylabel("E in nats")
    handles = [*error.get_lines(), *entropy.get_lines()]
    error.legend(handles=handles, fontsize=8, loc="lower left")
    return _png(figure)
