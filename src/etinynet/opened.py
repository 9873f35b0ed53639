"""A MODEL of the command line, opened: a name, float weights or an integer graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from etinynet.artefact import provenance, read_file
from etinynet.data.images import Preprocess, to_input
from etinynet.data.record import HeldOut
from etinynet.errors import (
    ArtefactError,
    ConfigError,
    DataError,
    MismatchError,
    UnsupportedError,
)
from etinynet.graph import Graph, execute, graph_from_bytes, read_graph
from etinynet.model.registry import ENTRIES, fetch, packaged

if TYPE_CHECKING:
    from etinynet.model.weights import LoadedModel

__all__ = [
    "Opened",
    "Ranked",
    "graph_of",
    "graph_preprocess",
    "held_out_of",
    "host_scores",
    "load_params",
    "loaded_of",
    "open_float",
    "open_graph",
    "open_model",
    "rank",
    "real_scores",
    "scores",
]

Pictures = Iterable[NDArray[np.uint8]]

_CHECKED_PICTURES = 4


@dataclass(frozen=True, eq=False)
class Opened:
    """A model with what is needed to use it; either `graph` or `loaded` is present."""

    source: str
    preprocess: Preprocess
    class_names: tuple[str, ...] | None
    graph: Graph | None = None
    loaded: LoadedModel | None = None


@dataclass(frozen=True)
class Ranked:
    """One class of a prediction; `score` is its softmax probability."""

    index: int
    name: str
    score: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: class, name, score."""
        return {"class": self.index, "name": self.name, "score": round(self.score, 6)}


def open_model(text: str) -> Opened:
    """The model that `text` names: a registered name, an `.etn`, `.safetensors` or `.params` file.

    Raises ArtefactError or GraphError where it cannot be had.
    """
    suffix = Path(text).suffix
    if suffix == ".etn":
        return _from_graph(read_graph(Path(text)), text)
    if suffix in (".safetensors", ".params"):
        return _from_weights(Path(text), text)
    for entry in ENTRIES:
        if entry.name == text:
            if entry.url is None:
                return _from_graph(graph_from_bytes(packaged(text), text), text)
            return _from_weights(fetch(text), text)
    names = ", ".join(entry.name for entry in ENTRIES)
    raise ArtefactError(
        f"model {text!r} is neither a name ({names}) nor a .etn, .safetensors or .params file"
    )


def open_graph(text: str) -> Opened:
    """As `open_model`, for an integer graph only; UnsupportedError for float weights."""
    opened = open_model(text)
    if opened.graph is None:
        raise UnsupportedError(f"{text}: float weights; make a graph of them: etinynet quantize")
    return opened


def graph_of(opened: Opened) -> Graph:
    """The graph of what `open_graph` gave."""
    assert opened.graph is not None
    return opened.graph


def open_float(text: str) -> Opened:
    """As `open_model`, for float weights only; UnsupportedError for an integer graph."""
    opened = open_model(text)
    if opened.loaded is None:
        raise UnsupportedError(f"{text}: already an integer graph; float weights are needed")
    return opened


def loaded_of(opened: Opened) -> LoadedModel:
    """The float network of what `open_float` gave."""
    assert opened.loaded is not None
    return opened.loaded


def held_out_of(opened: Opened) -> HeldOut | None:
    """What its training held out, None where no record says it; raises ArtefactError."""
    if opened.loaded is not None:
        sources = [opened.loaded.provenance.get("data")]
    else:
        metadata = graph_of(opened).metadata
        weights = metadata.get("weights")
        sources = [weights.get("data") if isinstance(weights, dict) else None]
        sources.append(metadata.get("training"))
    for source in sources:
        marks = source.get("held_out_pictures") if isinstance(source, dict) else None
        if marks not in (None, ""):
            return HeldOut.from_json(marks, opened.source)
    return None


def graph_preprocess(graph: Graph, source: str) -> Preprocess:
    """How pictures become `graph`'s input: its metadata, else by its size; must fit its input."""
    shape = graph.tensors[graph.input].shape
    if shape[0] != shape[1] or shape[2] != 3:
        raise UnsupportedError(f"{source}: input {shape} is not a square colour picture")
    stored = graph.metadata.get("preprocess")
    try:
        found = Preprocess.for_size(shape[0]) if stored is None else Preprocess.from_json(stored)
    except ConfigError as error:
        raise ArtefactError(f"{source}: {error}") from None
    if found.size != shape[0]:
        raise ArtefactError(f"{source}: preprocess gives size {found.size}, the input is {shape}")
    return found


def _from_graph(graph: Graph, source: str) -> Opened:
    names = None if graph.head is None else graph.head.class_names
    return Opened(source, graph_preprocess(graph, source), names, graph=graph)


def _from_weights(path: Path, source: str) -> Opened:
    from etinynet.model.weights import load_weights

    if path.suffix == ".params":
        loaded, _ = load_params(read_file(path, "weights"), str(path))
    else:
        loaded = load_weights(path)
    return Opened(source, loaded.preprocess, loaded.class_names, loaded=loaded)


def load_params(data: bytes, source: str) -> tuple[LoadedModel, tuple[str, ...]]:
    """The authors' MXNet file as a network, and the names of arrays in it that it does not use."""
    from etinynet.model.mxnet_params import import_params
    from etinynet.model.weights import LoadedModel, build_model

    config, state, ignored = import_params(data, source)
    origin = provenance("import", {Path(source).name: data})
    model = build_model(config, state, source)
    preprocess = Preprocess.for_size(config.size)
    return LoadedModel(model, config, None, preprocess, origin), ignored


def scores(opened: Opened, pictures: Pictures) -> Iterator[NDArray[np.float64]]:
    """Real-valued scores (classes,) of each prepared picture, by the float net or the reference."""
    if opened.graph is not None:
        for picture in pictures:
            yield real_scores(opened.graph, execute(opened.graph, to_input(picture)))
        return
    from etinynet.train.evaluate import predict_float

    assert opened.loaded is not None
    if opened.loaded.config.classes == 0:
        raise UnsupportedError(f"{opened.source}: a backbone without classifier gives no scores")
    iterator = iter(pictures)
    while batch := list(islice(iterator, 16)):
        found = np.asarray(predict_float(opened.loaded, np.stack(batch)), np.float64)
        if not np.isfinite(found).all():
            raise DataError(f"{opened.source}: a score is not finite; these weights overflow")
        yield from found


def host_scores(opened: Opened, pictures: Pictures) -> Iterator[NDArray[np.float64]]:
    """As `scores` for a graph, by its compiled C on this computer: about ten times as quick.

    The first pictures are compared with the reference; MismatchError if a score differs.
    """
    from etinynet.target.host import HostTarget

    graph = graph_of(opened)
    iterator = (to_input(picture) for picture in pictures)
    first = list(islice(iterator, _CHECKED_PICTURES))
    with HostTarget().load(graph) as program:
        for image in first:
            result = program.run(image).scores
            if not np.array_equal(result, execute(graph, image)):
                raise MismatchError(f"{opened.source}: the compiled C differs from the reference")
            yield real_scores(graph, result)
        for values in program.run_many(iterator):
            yield real_scores(graph, values)


def real_scores(graph: Graph, integers: NDArray[np.int16]) -> NDArray[np.float64]:
    """Scores as real numbers: scale * (integer - zero_point)."""
    tensor = graph.tensors[graph.outputs[0]]
    return tensor.scale * (integers.astype(np.float64) - tensor.zero_point)


def rank(values: NDArray[np.float64], names: tuple[str, ...] | None, most: int) -> list[Ranked]:
    """The `most` best classes of real-valued scores, best first; ties by index."""
    powers = np.exp(values - values.max())
    order = np.argsort(-values, kind="stable")[:most]
    shares = powers / powers.sum()
    return [Ranked(int(i), names[i] if names else str(i), float(shares[i])) for i in order]
