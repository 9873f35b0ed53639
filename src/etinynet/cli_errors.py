"""What ends a command before its time: one line on stderr, and the exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer
from typer.exceptions import TyperException

from etinynet.errors import EtinynetError
from etinynet.extras import EXTRAS, not_installed
from etinynet.show import note
from etinynet.text import one_line

__all__ = ["end_on_sigterm", "guarded"]

_INTERRUPTED = 130
_TERMINATED = 143


def end_on_sigterm() -> None:
    """SIGTERM ends a command as Ctrl-C does, so that it leaves nothing half done."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # not where the caller ignores it
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(_TERMINATED)


def guarded(command: Callable[[], Any]) -> int:
    """The exit code of `command`; what a user can cause or meet becomes one line."""
    try:
        status = command()
        sys.stdout.flush()
    except SystemExit as leave:
        if leave.code != _TERMINATED:
            raise
        return _failed("terminated", _TERMINATED)
    except EtinynetError as error:
        return _failed(str(error), error.exit_code)
    except typer.Exit as leave:
        return int(leave.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _failed("interrupted", _INTERRUPTED)
    except TyperException as error:
        return _failed(error.format_message(), int(error.exit_code))
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        return _failed(str(not_installed(error.name)), 2)
    except BrokenPipeError:
        # Nobody reads on, as in `| head`: what is left in the buffer must not fail once more.
        # Typer ends so where it meets this itself.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _failed(f"{where}{error.strerror or error}", 2)
    if status == _INTERRUPTED:  # what Typer makes of ^C
        return _failed("interrupted", _INTERRUPTED)
    return status if isinstance(status, int) else 0


def _failed(words: str, status: int) -> int:
    note(f"etinynet: {one_line(words)}")
    return status
