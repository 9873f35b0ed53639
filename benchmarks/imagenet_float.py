"""Top-1 and top-5 of the authors' imported classifier on the ImageNet sample, as one CSV row.

python benchmarks/imagenet_float.py DATA WEIGHTS.params: DATA holds labels.tsv and its pictures.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import platform
from pathlib import Path

import numpy as np
import PIL
import torch

from etinynet.artefact import read_file
from etinynet.data.images import Preprocess, load_picture, to_input
from etinynet.data.labels import Example, list_table
from etinynet.model.etinynet import EtinyNet
from etinynet.model.mxnet_params import import_params
from etinynet.model.weights import build_model

__all__ = ["count_right", "main"]

RESULTS = Path(__file__).parent / "results" / "imagenet_float.csv"
FIELDS = ("date", "python", "torch", "numpy", "pillow", "machine", "weights", "n", "top1", "top5")
BATCH = 50


def count_right(model: EtinyNet, examples: tuple[Example, ...]) -> tuple[int, int]:
    """How many pictures have their label first, and among the first five scores."""
    preprocess = Preprocess.for_size(model.config.size)
    first = five = 0
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        pixels = [to_input(preprocess.apply(load_picture(e.path))) for e in batch]
        x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
        labels = torch.tensor([[e.label] for e in batch])
        with torch.no_grad():
            found = model(x).topk(5).indices == labels
        first += int(found[:, 0].sum())
        five += int(found.sum())
    return first, five


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    source = arguments.weights.name
    config, state, _ = import_params(read_file(arguments.weights, "weights"), source)
    examples = list_table(arguments.data / "labels.tsv").examples
    first, five = count_right(build_model(config, state, source), examples)
    count = len(examples)
    row = (
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        platform.python_version(),
        torch.__version__,
        np.__version__,
        PIL.__version__,
        f"{platform.system()} {platform.machine()}",
        source,
        count,
        f"{first / count:.4f}",
        f"{five / count:.4f}",
    )
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(FIELDS)
        writer.writerow(row)
    print(f"{count} pictures: top-1 {first}, top-5 {five}")


if __name__ == "__main__":
    main()
