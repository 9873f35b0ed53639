"""Trains the packaged sign-digits classifier, quantizes it, measures both, as one CSV row.

python benchmarks/sign_digits.py DATA OUT: DATA holds the class folders 0 to 9; OUT is made, holds
the checkpoints and sign-digits.etn, and a run that was interrupted goes on from there.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from record import append_rows

from etinynet.artefact import write_file
from etinynet.commands.quantizing import Request, quantize_file
from etinynet.data.images import to_input
from etinynet.data.labels import Dataset, list_folder
from etinynet.data.split import split_held_out
from etinynet.graph import execute, read_graph
from etinynet.model.config import named_config
from etinynet.model.weights import load_weights
from etinynet.train.classify import train_classifier
from etinynet.train.evaluate import evaluate_float
from etinynet.train.loop import Progress
from etinynet.train.pictures import load_pictures
from etinynet.train.recipe import Recipe

__all__ = ["correct_integer", "main", "train"]

MODEL = "etinynet-0.75"
SIZE = 96
COMMAND = f"train sign-digits --model {MODEL} --size {SIZE}"
GRAPH = "sign-digits.etn"


def _show(at: Progress) -> None:
    if at.batch == 1 and at.finished is not None:
        row = at.finished
        print(
            f"{row.epoch} loss {row.loss:.3f} top-1 {row.top1:.4f} {row.seconds:.1f} s", flush=True
        )


def train(dataset: Dataset, folder: Path, recipe: Recipe) -> float:
    """Trains in `folder`, or goes on; returns the median of seconds an epoch."""
    config = named_config(MODEL, len(dataset.class_names), SIZE)
    resume = (folder / "last.safetensors").exists()
    result = train_classifier(
        dataset, config, recipe, folder, command=COMMAND, resume=resume, progress=_show
    )
    return float(np.median([row.seconds for row in result.history]))


def correct_integer(path: Path, dataset: Dataset) -> list[str]:
    """Keys of the pictures that the reference executor puts in their class."""
    graph = read_graph(path)
    preprocess = load_weights(path.parent / "model.safetensors").preprocess
    pictures = load_pictures(dataset, preprocess)
    correct = []
    for example, pixels in zip(dataset.examples, pictures.pixels.numpy(), strict=True):
        if int(np.argmax(execute(graph, to_input(pixels)))) == example.label:
            correct.append(example.key)
    return correct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # etinynet then chooses no other number
    torch.set_num_threads(arguments.threads)
    dataset = list_folder(arguments.data)
    training, held_out = split_held_out(dataset)
    recipe = Recipe()
    seconds = train(dataset, arguments.out, recipe)
    # leaves out what training held out
    quantize_file(
        str(arguments.out / "model.safetensors"),
        arguments.data,
        arguments.out / GRAPH,
        Request(pictures=512),
    )
    loaded = load_weights(arguments.out / "model.safetensors")
    found = evaluate_float(loaded.model, loaded.preprocess, held_out)
    correct = correct_integer(arguments.out / GRAPH, held_out)
    write_file(arguments.out / "correct.txt", "".join(f"{k}\n" for k in correct).encode())
    row = {
        "threads": arguments.threads,
        "model": MODEL,
        "size": SIZE,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "trained": len(training.examples),
        "n": found.n,
        "float_top1": f"{found.top1:.4f}",
        "integer_top1": f"{len(correct) / found.n:.4f}",
        "seconds_an_epoch": f"{seconds:.1f}",
    }
    append_rows("sign_digits", [row])
    print(f"{found.n} pictures: float top-1 {found.top1:.4f}, integer {len(correct)} correct")


if __name__ == "__main__":
    main()
