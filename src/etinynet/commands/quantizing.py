"""quantize: float weights and folders of pictures become an .etn file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etinynet.artefact import (
    check_file,
    check_run_folder,
    provenance,
    read_file,
    sha256,
    write_file,
)
from etinynet.backend.c.names import check_library_name, library_name
from etinynet.commands.calibrating import Calibration, calibrated
from etinynet.commands.pictures import told, trained_rule
from etinynet.commands.training import resumable, shown_training, steps_shown
from etinynet.data.collect import training_pictures
from etinynet.data.images import Preprocess
from etinynet.data.reading import Reading
from etinynet.errors import ConfigError
from etinynet.graph import MIXED, graph_to_bytes
from etinynet.opened import Opened, held_out_of, loaded_of, open_float
from etinynet.show import note, progress
from etinynet.threads import choose_threads

if TYPE_CHECKING:
    from torch import Tensor

    from etinynet.quantize.finetune import Finetuning
    from etinynet.quantize.pipeline import Quantization

__all__ = ["Request", "Teaching", "quantize_file"]


@dataclass(frozen=True)
class Teaching:
    """Quantization-aware training from the command line: folders, pictures of each, epochs."""

    folders: tuple[Path, ...]
    pictures: int
    epochs: int
    seed: int
    resume: bool

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise ConfigError(f"--data-pictures is {self.pictures!r}, allowed are 1 and more")


@dataclass(frozen=True)
class Request:
    """What is wanted of the weights, as typed: pipeline.Quantization, layer_bits PATTERN=BITS."""

    weight_bits: int = 8
    method: str = "best"
    layer_bits: tuple[str, ...] = ()
    per_layer: bool = False
    pictures: int = 512
    precision: str | None = None

    def checked(self) -> Quantization:
        """The configuration; raises ConfigError."""
        from etinynet.quantize.pipeline import Quantization

        pairs = []
        for entry in self.layer_bits:
            pattern, _, bits = entry.rpartition("=")
            if not (pattern and bits.isascii() and bits.isdigit() and len(bits) < 4):
                raise ConfigError(
                    f"--layer-bits is {entry!r}; PATTERN=BITS is allowed, such as '*.dw?=8'"
                )
            pairs.append((pattern, int(bits)))
        precision = MIXED.name if self.precision is None else self.precision
        return Quantization(
            self.weight_bits, self.method, tuple(pairs), self.per_layer, self.pictures, precision
        )


def quantize_file(
    weights: str,
    calibration: Path,
    output: Path,
    request: Request,
    size: int | None = None,
    teaching: Teaching | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Writes the integer graph of the model `weights` to `output`; returns sizes and counts.

    `size` None: the side that the weights are meant for. `name` is the graph's and that of its C
    library, None for one made of that of `output`. With `teaching` the quantized weights are
    trained first, in the folder `output`.training. Raises the errors of all its steps, and then
    writes no graph.
    """
    from etinynet.quantize.pipeline import quantize_model
    from etinynet.train.loop import STATE

    config = request.checked()
    check_file("-o", output, ".etn")
    name = _graph_name(output, name)
    if teaching is not None:
        check_run_folder("-o", _training(output), f"*/{STATE}", teaching.resume)
    opened = open_float(weights)
    preprocess = opened.preprocess if size is None else Preprocess.for_size(size)
    choose_threads(preprocess.size)
    found = calibrated(opened, calibration, config.pictures, preprocess)
    hashes = "".join(sha256(read_file(path, "picture")) for path in found.paths).encode()
    used = dataclasses.replace(config, pictures=len(found.paths))
    finetuning = None
    if teaching is not None:
        finetuning = _finetuning(opened, preprocess, teaching, output, used, hashes)
    metadata = _metadata(weights, opened, preprocess, hashes, used, finetuning)
    with resumable(_training(output)), progress() as display:
        graph = quantize_model(
            loaded_of(opened).model,
            _inputs(found),
            used,
            name,
            opened.class_names,
            metadata,
            finetuning,
            progress=steps_shown(display),
            rounded=lambda number, count: display.show("layers", number, count),
        )
    data = graph_to_bytes(graph)
    write_file(output, data)
    result = {
        "graph": str(output),
        "name": name,
        "bytes": len(data),
        "method": config.method,
        "weight_bits": config.weight_bits,
        "precision": config.precision,
        "pictures": len(found.paths),
        "size": preprocess.size,
        **found.said,
    }
    if finetuning is not None:
        record = graph.metadata["training"]
        result["training"] = {**record["history"][-1], "labels": record["labels"]}
    return result


def _graph_name(output: Path, name: str | None) -> str:
    """The graph's name; where it is not the file's, that is said."""
    if name is not None:
        check_library_name(name, "--name")
        return name
    made = library_name(output.stem)
    if made != output.stem:
        note(f"the network is called {made}, as a C library can be; --name gives another name")
    return made


def _inputs(found: Calibration) -> Tensor:
    """Pictures as network input (N, 3, size, size), pixel minus 128."""
    import torch

    from etinynet.train.pictures import to_network

    return to_network(torch.from_numpy(found.pixels))


def _metadata(
    weights: str,
    opened: Opened,
    preprocess: Preprocess,
    hashes: bytes,
    config: Quantization,
    finetuning: Finetuning | None,
) -> dict[str, Any]:
    """What the graph says of itself, as plain JSON; `hashes` are the calibration pictures'."""
    loaded = loaded_of(opened)
    inputs = {"calibration": hashes}
    command = (
        f"quantize {Path(weights).name} --method {config.method} "
        f"--weight-bits {config.weight_bits} --pictures {config.pictures}"
    )
    if config.precision != MIXED.name:
        command += f" --precision {config.precision}"
    if finetuning is not None:
        command += f" --epochs {finetuning.recipe.epochs} --seed {finetuning.recipe.seed}"
        inputs["training data"] = finetuning.data.digest.encode()
    metadata = {
        "preprocess": preprocess.to_json(),
        "network": loaded.config.to_json(),
        "weights": loaded.provenance,
        "provenance": provenance(command, inputs),
    }
    return dict(json.loads(json.dumps(metadata)))  # tuples become lists


def _finetuning(
    opened: Opened,
    preprocess: Preprocess,
    teaching: Teaching,
    output: Path,
    config: Quantization,
    hashes: bytes,
) -> Finetuning:
    """The training pictures opened, and how to train on them; shows the progress."""
    from etinynet.quantize.finetune import Finetuning, recipe_of
    from etinynet.quantize.methods import is_gradual
    from etinynet.train.pictures import load_split, load_unlabelled

    gradual = is_gradual(config.method, config.per_channel)
    recipe = recipe_of(teaching.epochs, teaching.seed, gradual)
    dataset, labelled = training_pictures(
        teaching.folders,
        teaching.pictures,
        opened.class_names,
        trained_rule(opened),
        held_out_of(opened),
    )
    what = f"to train on, {'with' if labelled else 'without'} labels"
    reading = Reading(len(dataset.examples))
    with shown_training(len(dataset.examples)) as (shown, _):
        load = load_split if labelled else load_unlabelled
        data = load(dataset, preprocess, told(shown, what, dataset, reading), reading)
    identity = {
        "weights": loaded_of(opened).provenance,
        "quantization": json.loads(json.dumps(dataclasses.asdict(config))),
        "calibration": sha256(hashes),
    }
    return Finetuning(data, labelled, recipe, _training(output), identity, teaching.resume)


def _training(output: Path) -> Path:
    """The folder of the training whose graph is `output`."""
    return Path(f"{output}.training")
