"""The record of a written folder: a JSON file of it with the SHA-256 of every file.

It proves which files are still as they were written. What it does not prove is the user's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from etinynet.artefact.content import sha256
from etinynet.artefact.temporary import MARK
from etinynet.errors import ArtefactError
from etinynet.text import parse_json

__all__ = ["SYSTEM_FILES", "Record", "check_ours", "folders_of", "recorded", "with_record"]

#: What file managers and file systems put into folders: nobody's work, and left where it is.
SYSTEM_FILES = (".DS_Store", "Thumbs.db", "desktop.ini", "lost+found")
_OWN = "own_sha256"
_UNKNOWN = "0" * 64
_SHOWN = 3


@dataclass(frozen=True)
class Record:
    """`name` of the JSON file that records a folder, and the `writer` of it, for messages."""

    name: str
    writer: str


def with_record(files: Mapping[str, bytes], record: Record) -> dict[str, bytes]:
    """`files` (relative name → content) whose record lists the SHA-256 of each in "files".

    "own_sha256" is that of the record itself with zeros in this place. Raises ArtefactError for a
    name that would leave the folder.
    """
    for name in files:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or "/".join(parts) != name or set(name) & set("\\:\0"):
            raise ArtefactError(f"file name {name!r} is not one inside the folder to be written")
    content = json.loads(files[record.name])
    hashes = {name: sha256(data) for name, data in files.items() if name != record.name}
    content |= {"files": dict(sorted(hashes.items())), _OWN: _UNKNOWN}
    data = (json.dumps(content, indent=2) + "\n").encode()
    return {**files, record.name: data.replace(_UNKNOWN.encode(), sha256(data).encode())}


def recorded(folder: Path, record: Record) -> dict[str, str] | None:
    """SHA-256 by name of every file that the record of `folder` lists, itself included.

    {} without a record; None where it is damaged or edited, or lists none.
    """
    try:
        data = (folder / record.name).read_bytes()
    except FileNotFoundError:
        return {}
    try:
        content = parse_json(data)
        own, files = content[_OWN], dict(content["files"])
        blank = data.replace(own.encode(), _UNKNOWN.encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if sha256(blank) != own:
        return None
    return {**files, record.name: sha256(data)}


def check_ours(folder: Path, record: Record, shown: Path) -> None:
    """Raises ArtefactError unless the record of `folder` proves every file of it unchanged.

    `shown` is its name in messages. SYSTEM_FILES are passed over.
    """
    known = recorded(folder, record)
    if known is None:
        raise ArtefactError(
            f"{shown}: {record.name} does not prove what {record.writer} wrote here, it was edited "
            "or is of an earlier version; move the folder or name another"
        )
    found = list(islice(_strangers(folder, known, folders_of(known)), _SHOWN + 1))
    edited = [name for name in found[:_SHOWN] if name in known]
    foreign = [name for name in found[:_SHOWN] if name not in known]
    reasons = []
    if edited:
        it = "them" if len(edited) > 1 else "it"
        reasons.append(f"{_were(edited)} edited after {record.writer} wrote {it}")
    if foreign:
        reasons.append(f"{_were(foreign)} not among what {record.writer} wrote")
    if reasons:
        words = "; ".join(reasons) + (" (and more)" if len(found) > _SHOWN else "")
        them = "them" if len(found) > 1 else "it"
        raise ArtefactError(f"{shown}: {words}: move {them} or name another folder")


def _were(names: list[str]) -> str:
    return f"{', '.join(names)} {'were' if len(names) > 1 else 'was'}"


def folders_of(names: Iterable[str]) -> set[str]:
    """The folders, "/" between their parts, in which the files `names` lie; not the outermost."""
    parents = (PurePosixPath(name).parents for name in names)
    return {str(parent) for several in parents for parent in several} - {"."}


def _strangers(
    folder: Path, known: Mapping[str, str], folders: set[str], inner: str = ""
) -> Iterator[str]:
    """What is not as `known` says, in order of the names; a folder that is not ours as one."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = inner + entry.name
        if entry.name in SYSTEM_FILES or entry.name.startswith(f".{MARK}"):
            continue
        if entry.is_dir(follow_symlinks=False):
            if name in folders:
                yield from _strangers(Path(entry.path), known, folders, f"{name}/")
            else:
                yield f"{name}/"
        elif (
            name not in known
            or not entry.is_file(follow_symlinks=False)
            or sha256(Path(entry.path).read_bytes()) != known[name]
        ):
            yield name
