"""A narrower network taught by a wider one on pictures without labels: accuracy, as CSV.

python benchmarks/taught.py WEIGHTS SAMPLE OUT --data DIR --data DIR [--model NAME] [--epochs N]:
float weights of the teacher; a folder with labels.tsv, which is only evaluated; a folder for the
student and its training state, not to be shared where WEIGHTS are not. A run that was interrupted
goes on where it stopped. A row goes to results/taught.csv, all epochs to results/taught_epochs.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from record import append_rows, seconds_of, trained_epochs

from etinynet.commands.training import teach
from etinynet.commands.using import evaluate_model
from etinynet.train.classify import WEIGHTS
from etinynet.train.loop import STATE

__all__ = ["main"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("weights", "sample", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--model", default="etinynet-0.75")
    parser.add_argument("--epochs", type=int, default=22)
    arguments = parser.parse_args()
    out, sample, epochs = arguments.out, arguments.sample, arguments.epochs
    resume = (out / STATE).exists()
    model = arguments.model
    made = teach(
        str(arguments.weights), arguments.data, out, model, None, {"epochs": epochs}, resume
    )
    found = evaluate_model(str(out / WEIGHTS), sample, sample / "labels.tsv", None, False)
    rows = [{"network": model, **row} for row in trained_epochs(out)]
    row = {
        "network": model,
        "folders": " ".join(folder.name for folder in arguments.data),
        "epochs": epochs,
        "seconds": round(seconds_of(rows)),
        "held_out": made["n"],
        "agreement": round(made["agreement"], 2),
        "n": found["n"],
        "top1": found["top1"],
        "top5": found["top5"],
    }
    append_rows("taught", [row])
    append_rows("taught_epochs", rows)
    print(row)


if __name__ == "__main__":
    main()
