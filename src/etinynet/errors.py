"""The one tree of errors; every message names the thing, the rule, the value and what is allowed.

EtinynetError
├── ConfigError        a configuration value is not allowed
├── DataError          a picture, a folder or a label file cannot be used
├── ArtefactError      a weights, graph or report file is missing, damaged or of another kind
├── GraphError         an integer graph breaks a rule of docs/graph.md
├── UnsupportedError   legal, but the chosen backend or target does not do it
├── FitError           the program is larger than the part's flash or RAM
├── ToolError          a compiler, an emulator or a library is missing or failed
├── DeviceFault        the emulated core made an illegal access (address and function)
└── MismatchError      a target's numbers differ from the reference's
"""

from __future__ import annotations

from etinynet.text import one_line

__all__ = [
    "ArtefactError",
    "ConfigError",
    "DataError",
    "DeviceFault",
    "EtinynetError",
    "FitError",
    "GraphError",
    "MismatchError",
    "ToolError",
    "UnsupportedError",
]


class EtinynetError(Exception):
    """Base of all errors a user can cause or meet; the CLI prints one line and exits with 2.

    The message is one line that a terminal can show, whatever files and tools have put into it.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class ConfigError(EtinynetError):
    """A configuration value is not allowed."""


class DataError(EtinynetError):
    """A picture, a folder of pictures or a label file cannot be used."""


class ArtefactError(EtinynetError):
    """A file of weights, a graph or a report is missing, damaged or of another kind."""


class GraphError(EtinynetError):
    """An integer graph breaks a rule; the message names operator, rule and value."""


class UnsupportedError(EtinynetError):
    """The graph is legal, but this backend or target does not implement it."""


class FitError(EtinynetError):
    """The program does not fit the part; the message gives the sizes."""


class ToolError(EtinynetError):
    """A compiler, an emulator or an optional library is missing or failed."""


class DeviceFault(EtinynetError):
    """The emulated core made an illegal access; the message names address and function."""


class MismatchError(EtinynetError):
    """A target's numbers differ from the reference's; exit code 1."""

    exit_code = 1
