"""How many bits the operators may read: a choice of the hardware, kept in the graph."""

from __future__ import annotations

from dataclasses import dataclass

from etinynet.errors import ConfigError

__all__ = ["INT8", "MIXED", "PRECISIONS", "Precision", "get_precision"]

#: Operators that sum over input channels, so that all of these need one scale.
_ACROSS_CHANNELS = ("conv2d", "pointwise", "dense")


@dataclass(frozen=True)
class Precision:
    """Most bits of the tensors that operators read; raises ConfigError.

    `matrix_bits` for pointwise and dense operators, `sum_bits` for a sum and a residual,
    `window_bits` for all others.
    """

    name: str
    matrix_bits: int
    sum_bits: int
    window_bits: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ConfigError(f"precision: name is {self.name!r:.50}, allowed is a string")
        for field in ("matrix_bits", "sum_bits", "window_bits"):
            bits = getattr(self, field)
            if type(bits) is not int or not 2 <= bits <= 16:
                raise ConfigError(
                    f"precision {self.name!r:.50}: {field} is {bits!r:.50}, allowed are 2 to 16"
                )

    def bits(self, kind: str) -> int:
        """Most bits that an operator of `kind` reads."""
        if kind in ("pointwise", "dense"):
            return self.matrix_bits
        return self.sum_bits if kind == "add" else self.window_bits

    @staticmethod
    def takes_channel_scales(kind: str) -> bool:
        """Whether the real scale of its input may differ from channel to channel."""
        return kind not in _ACROSS_CHANNELS


#: 16 bits where a matrix is multiplied, as the dual 16-bit multiplications of Cortex-M take them.
MIXED = Precision("mixed", matrix_bits=16, sum_bits=16)
#: 8 bits everywhere: half the memory of these tensors, for multipliers of 8 bits too.
INT8 = Precision("int8", matrix_bits=8, sum_bits=8)

PRECISIONS = {precision.name: precision for precision in (MIXED, INT8)}


def get_precision(name: str) -> Precision:
    """The precision called `name`; raises ConfigError with the names there are."""
    if name not in PRECISIONS:
        raise ConfigError(f"precision {name!r} is unknown, allowed are {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
