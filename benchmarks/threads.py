"""Training and quantization beside busy loops, by how OpenMP's threads wait, as CSV rows.

python benchmarks/threads.py DATA --rounds 3: DATA holds class folders, such as sign-digits. Every
policy runs once in each round, first alone, then beside as many busy loops as there are cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from record import append_rows

__all__ = ["main", "measured", "worked"]

CORES = len(os.sched_getaffinity(0))
#: OpenMP's settings of each policy; the first is what GNU's OpenMP does without any.
POLICIES = {
    "spinning, all threads": {"GOMP_SPINCOUNT": "300000", "OMP_NUM_THREADS": str(CORES)},
    "sleeping, all threads": {"OMP_NUM_THREADS": str(CORES)},
    "as etinynet chooses": {},
}
WORKS = ("train", "quantize")
PICTURES, SIZE, MODEL = 256, 96, "etinynet-0.75"


def worked(work: str, data: Path) -> float:
    """Seconds of `work` on pictures of `data`, in this process, after torch is loaded."""
    from etinynet.commands.quantizing import Request, quantize_file
    from etinynet.data.images import Preprocess
    from etinynet.data.labels import list_folder
    from etinynet.model.config import named_config
    from etinynet.model.networks import build
    from etinynet.model.weights import save_weights
    from etinynet.threads import choose_threads
    from etinynet.train.loop import fit, label_loss
    from etinynet.train.pictures import load_training_data
    from etinynet.train.recipe import Recipe

    dataset = list_folder(data)
    step = max(len(dataset.examples) // PICTURES, 1)
    some = dataclasses.replace(dataset, examples=dataset.examples[::step])
    model = build(named_config(MODEL, len(dataset.class_names), SIZE))
    recipe = Recipe(epochs=1, warmup_epochs=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if work == "train":
            loaded = load_training_data(some, Preprocess.for_size(SIZE))
            choose_threads(SIZE)
            began = time.monotonic()
            fit(model, loaded, recipe, label_loss(recipe), folder, identity={})
            return time.monotonic() - began
        weights = folder / "model.safetensors"
        save_weights(weights, model.eval(), provenance={})
        began = time.monotonic()
        quantize_file(str(weights), data, folder / "model.etn", Request(pictures=64))
        return time.monotonic() - began


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """`count` processes that do nothing but count."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measured(data: Path, rounds: int) -> dict[tuple[str, str, int], list[float]]:
    """Seconds of each round by work, policy and number of busy loops."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for count in (0, CORES):
            with _busy(count):
                for work in WORKS:
                    for policy, settings in POLICIES.items():
                        command = [sys.executable, __file__, str(data), "--work", work]
                        said = subprocess.run(
                            command, env={**clean, **settings},
                            check=True, stdout=subprocess.PIPE, text=True,
                        )  # fmt: skip
                        found[work, policy, count].append(float(said.stdout))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=WORKS, help="measure this in this process alone")
    arguments = parser.parse_args()
    if arguments.work is not None:
        print(worked(arguments.work, arguments.data))
        return
    load = os.getloadavg()[1]
    found = measured(arguments.data, arguments.rounds)
    rows = []
    for work in WORKS:
        for policy in POLICIES:
            alone, beside = (found[work, policy, count] for count in (0, CORES))
            ratios = [b / a for a, b in zip(alone, beside, strict=True)]
            rows.append(
                {
                    "work": work,
                    "policy": policy,
                    "cores": CORES,
                    "load_before": f"{load:.1f}",
                    "rounds": arguments.rounds,
                    "seconds_alone": f"{statistics.median(alone):.2f}",
                    "seconds_beside_busy_loops": f"{statistics.median(beside):.2f}",
                    "busy_by_alone": f"{statistics.median(ratios):.2f}",
                }
            )
            print(*rows[-1].values())
    append_rows("threads", rows)


if __name__ == "__main__":
    main()
