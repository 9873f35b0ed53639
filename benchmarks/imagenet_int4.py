"""4-bit EtinyNet-1.0 by every method with one budget: accuracy and bytes of the graph, as CSV.

python benchmarks/imagenet_int4.py WEIGHTS SAMPLE OUT --calibration DIR --data DIR --data DIR
--epochs 0 N [--only NAME]: float weights of 1000 classes; a folder with labels.tsv, which is only
evaluated; a folder for graphs and training states, which are not to be shared. A run that was
interrupted goes on where it stopped. Rows go to results/imagenet_int4.csv, every epoch of every
training to results/imagenet_int4_epochs.csv. `score_error` is the squared error of the scores
against the float network's, each picture's mean left out, relative to their variance, `divergence`
that of the class probabilities from the float network's (Kullback-Leibler, nats): they tell apart
what the top-1 of so few pictures does not.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import append_rows, seconds_of, trained_epochs
from torch import Tensor
from torch.nn import functional

from etinynet.commands.quantizing import Request, Teaching, quantize_file
from etinynet.commands.using import evaluate_model
from etinynet.data.labels import list_table
from etinynet.data.reading import prepared
from etinynet.graph import read_graph
from etinynet.opened import host_scores, open_model, scores
from etinynet.train.distil import scores_error

__all__ = ["RUNS", "main", "measure"]

_WIDE = ("*.dw?=8", "stem=8")
#: Name: method, layers at other widths, one scale a layer.
RUNS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "best": ("best", (), False),
    "best, depthwise and stem 8 bits": ("best", _WIDE, False),
    "lsq": ("lsq", (), False),
    "asq": ("asq", (), False),
    "asq-paper": ("asq-paper", (), False),
    "dorefa": ("dorefa", (), True),
}


def scores_of(model: str, sample: Path) -> Tensor:
    """Scores (pictures, classes) of the pictures that evaluate_model looks at."""
    opened = open_model(model)
    pictures = [example.path for example in list_table(sample / "labels.tsv", sample).examples]
    function = scores if opened.graph is None else host_scores
    return torch.from_numpy(np.stack(list(function(opened, prepared(pictures, opened.preprocess)))))


def divergence(given: Tensor, real: Tensor) -> Tensor:
    """Mean divergence of the probabilities of `given` scores from those of `real` ones, in nats."""
    logarithms = given.log_softmax(1), real.log_softmax(1)
    return functional.kl_div(*logarithms, log_target=True, reduction="batchmean")


def measure(name: str, arguments: argparse.Namespace, float_top1: float, real: Tensor) -> None:
    """Quantizes by the run `name` of RUNS with each number of epochs, and records the results;
    `real` are the float network's scores."""
    method, wide, per_layer = RUNS[name]
    request = Request(4, method, wide, per_layer, arguments.pictures)
    sample, weights = arguments.sample, str(arguments.weights)
    for epochs in arguments.epochs:
        file = arguments.out / f"{name.replace(', ', '-').replace(' ', '-')}-{epochs}.etn"
        folders = tuple(arguments.data)
        state = file.with_name(f"{file.name}.training")
        teaching = Teaching(folders, arguments.data_pictures, epochs, 0, state.exists())
        started = time.monotonic() - seconds_of(trained_epochs(state))  # of an interrupted run
        made = quantize_file(
            weights, arguments.calibration, file, request, None, teaching if epochs else None
        )
        seconds = time.monotonic() - started
        found = evaluate_model(str(file), sample, sample / "labels.tsv", None, False)
        given = scores_of(str(file), sample)
        metadata = read_graph(file).metadata
        record: dict[str, Any] = metadata.get("training", {})
        row = {
            "network": metadata["network"]["name"],
            "run": name,
            "method": method,
            "layer_bits": " ".join(wide),
            "calibration_pictures": made["pictures"],
            "epochs": epochs,
            "training_pictures": record.get("pictures", 0),
            "seconds": round(seconds),
            "graph_bytes": made["bytes"],
            "n": found["n"],
            "float_top1": float_top1,
            "top1": found["top1"],
            "top5": found["top5"],
            "score_error": round(float(scores_error(given, real)), 4),
            "divergence": round(float(divergence(given, real)), 4),
        }
        append_rows("imagenet_int4", [row])
        if record:
            named = {"network": row["network"], "run": name}
            rows = [{**named, **epoch} for epoch in record["history"]]
            append_rows("imagenet_int4_epochs", rows)
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("weights", "sample", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=1039)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--data-pictures", type=int, default=8000)
    parser.add_argument("--epochs", type=int, nargs="+", required=True)
    parser.add_argument("--only", choices=list(RUNS), action="append")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sample = arguments.sample
    weights = str(arguments.weights)
    found = evaluate_model(weights, sample, sample / "labels.tsv", None, False)
    real = scores_of(weights, sample)
    for name in arguments.only or RUNS:
        measure(name, arguments, found["top1"], real)


if __name__ == "__main__":
    main()
