"""Weights by name: those in the package, and the authors' files, fetched once and checked."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from etinynet.artefact import read_file, sha256, write_file
from etinynet.errors import ArtefactError

__all__ = ["ENTRIES", "Entry", "cache_folder", "fetch", "packaged"]

_AUTHORS = "https://raw.githubusercontent.com/aztc/EtinyNet"
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Entry:
    """A named file: in the package (`url` None) or at a pinned address with its SHA-256."""

    name: str
    file: str
    what: str
    url: str | None = None
    sha256: str | None = None
    size: int | None = None


_CLASSIFIER = "0.6553-imagenet-mobilenet_lite313_477k_nownorm_4433_224-293-best.params"
_BACKBONE = "0.6662_imagenet_etinynet_477k-294-best.params"

#: All names; the authors state no licence, so their files are fetched by the user, never shipped.
ENTRIES = (
    Entry("sign-digits", "sign-digits.etn", "ten hand signs, integer graph, in this package"),
    Entry(
        "imagenet",
        _CLASSIFIER,
        "EtinyNet-1.0, 1000 ImageNet classes, the paper's authors",
        f"{_AUTHORS}/e71b7bdbc3b29043a461f96bbcff0a9fda5c7442/{_CLASSIFIER}",
        "b70e621c4b25016de9a46dccc0c4ed931cb48c0c95280e7fcd3b21f5ad0204d1",
        3_920_950,
    ),
    Entry(
        "imagenet-backbone",
        _BACKBONE,
        "EtinyNet-1.0 with clipped activations, no classifier, the paper's authors",
        f"{_AUTHORS}/d3270389fb09057bbcd9006520e6307ec4984518/{_BACKBONE}",
        "7a2b2b87a9276bba13d8b45f9f5036902d630add70ca4147319816fdc81aa662",
        3_247_687,
    ),
)


def _entry(name: str) -> Entry:
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    allowed = ", ".join(entry.name for entry in ENTRIES)
    raise ArtefactError(f"unknown weights {name!r}; allowed: {allowed}, or the path of a file")


def cache_folder() -> Path:
    """Where fetched files lie: ETINYNET_HOME, else ~/.cache/etinynet."""
    home = os.environ.get("ETINYNET_HOME")
    return Path(home) if home else Path.home() / ".cache" / "etinynet"


def packaged(name: str) -> bytes:
    """Content of the packaged file called `name`; raises ArtefactError if there is none."""
    entry = _entry(name)
    if entry.url is not None:
        raise ArtefactError(f"{name!r} is not in the package: it is fetched from its authors")
    try:
        return (resources.files("etinynet") / "assets" / entry.file).read_bytes()
    except OSError:
        raise ArtefactError(f"{name!r}: this installation lacks assets/{entry.file}") from None


def fetch(name: str) -> Path:
    """Path of the file called `name`, downloaded at first use into `cache_folder()`.

    The SHA-256 is checked before the file gets its name, and again each time.
    Raises ArtefactError: unknown name, no network, other content.
    """
    entry = _entry(name)
    if entry.url is None or entry.sha256 is None or entry.size is None:
        raise ArtefactError(f"{name!r} is in the package and is not fetched")
    path = cache_folder() / entry.file
    if path.exists():
        _check(read_file(path, "weights"), entry, f"{path}: delete this file to fetch it again")
        return path
    data = _download(entry.url, entry.size)
    _check(data, entry, entry.url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(f"{path.parent}: cannot make this folder: {error.strerror}") from None
    write_file(path, data)
    return path


def _download(url: str, size: int) -> bytes:
    """At most one byte more than `size`: a longer answer cannot be the file."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
            return bytes(answer.read(size + 1))
    except urllib.error.HTTPError as error:
        reason = f"the server answers {error.code}"
        error.close()
    except urllib.error.URLError as error:
        reason = str(getattr(error.reason, "strerror", None) or error.reason)
    # http.client's errors and time-outs while reading.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    raise ArtefactError(
        f"cannot fetch {url}: {reason}; fetch it elsewhere and run `etinynet import FILE.params`"
    )


def _check(data: bytes, entry: Entry, source: str) -> None:
    if sha256(data) != entry.sha256:
        raise ArtefactError(
            f"{source}: SHA-256 is not the recorded {entry.sha256} ({len(data)} bytes, "
            f"{entry.size} expected)"
        )
