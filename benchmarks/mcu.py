"""Networks on three emulated microcontrollers in three memory plans: one table, as text and CSV.

python benchmarks/mcu.py OUT --pictures DIR [--weights NETWORK=FILE]... [--graph RUN=FILE.etn]...
[--only RUN]... [-n 20]: OUT is a folder for graphs, which are not to be shared; DIR has pictures,
which calibrate and are compared; a network without --weights gets random ones, its normalizations
fitted to pictures of DIR; --graph takes a graph made before instead of quantizing. Every run of the
first picture compares all tensors, those of the others the scores. Rows go to results/mcu.csv. What
is modelled (docs/cycle-model.md) has columns of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import append_rows

from etinynet.artefact import provenance
from etinynet.backend.c import MODES, macs
from etinynet.commands.quantizing import Request, quantize_file
from etinynet.data.collect import find_pictures
from etinynet.data.images import Preprocess, to_input
from etinynet.data.reading import prepared
from etinynet.errors import FitError
from etinynet.graph import Graph, execute
from etinynet.graph.io import graph_digest
from etinynet.model.config import named_config
from etinynet.model.networks import build_untrained
from etinynet.model.weights import save_weights
from etinynet.opened import graph_of, open_graph
from etinynet.show import print_table
from etinynet.target.cycles import VALIDATION
from etinynet.target.mcu import McuProgram, McuTarget
from etinynet.target.parts import get_part
from etinynet.target.profile import profile
from etinynet.target.verify import verify
from etinynet.train.pictures import to_network

__all__ = ["RUNS", "main", "measure"]

_PARTS = ("stm32f412", "stm32f746", "stm32h743")
#: Pictures that random weights' normalizations are fitted to.
_FITTED = 16


@dataclass(frozen=True)
class Run:
    """A network of 1000 classes (model.config.named_config), quantized one way, on some parts.

    `size`: side of its input in pixels.
    """

    network: str
    weight_bits: int
    size: int = 224
    parts: tuple[str, ...] = _PARTS

    @property
    def name(self) -> str:
        """As --graph and --only take it."""
        return f"{self.network}-{self.weight_bits}bit-{self.size}"


RUNS = (
    Run("etinynet-1.0", 8),
    Run("etinynet-1.0", 4),
    Run("etinynet-0.75", 4),
    Run("etinynet-1.0", 8, 256, ("stm32f746",)),
    Run("etinynet-1.0", 4, 256, ("stm32f746",)),
    Run("mobilenet-v1-0.25", 8),
    Run("mobilenet-v1-0.25", 4),
    Run("mobilenet-v2-0.35", 8),
    Run("mobilenet-v2-0.35", 4),
)
#: Of each row: what the printed table shows.
_SHOWN = (
    *("run", "part", "plan", "instructions", "per_mac", "ram", "arena", "stack", "flash"),
    *("equal", "modelled_cycles"),
)


def measure(run: Run, model: str, weights: str, folder: Path, n: int) -> Iterator[dict[str, Any]]:
    """One row for each part and plan of `run`, whose graph is the file `model`."""
    opened = open_graph(model)
    graph = graph_of(opened)
    images = [to_input(p) for p in prepared(find_pictures(folder, n), opened.preprocess)]
    scores = [execute(graph, image) for image in images]
    head = {
        "run": run.name,
        "network": run.network,
        "weight_bits": run.weight_bits,
        "size": run.size,
        "weights": weights,
        "quantized_by": graph.metadata.get("provenance", {}).get("command", ""),
        "graph_sha256": graph_digest(graph),
        "graph_bytes": Path(model).stat().st_size,
        "macs": sum(macs(graph, op) for op in graph.ops),
    }
    for part in run.parts:
        for plan in MODES:
            try:
                with McuTarget(get_part(part), mode=plan).load(graph) as program:
                    found = _costs(graph, program, images, scores)
                reason = ""
            except FitError as error:
                found, reason = dict.fromkeys(_COSTS), str(error)
            yield {**head, "part": part, "plan": plan, **found, "does_not_fit": reason}


_COSTS = (
    *("instructions", "per_mac", "ram", "arena", "stack", "flash"),
    *("flash_weights", "flash_constants", "flash_code", "equal", "compared", "tools"),
    *("modelled_cpu", "modelled_cycles", "modelled_cycles_per_mac", "modelled_validation"),
)


def _costs(
    graph: Graph, program: McuProgram, images: list[Any], scores: list[Any]
) -> dict[str, Any]:
    found = profile(graph, program, images[0])
    equal = verify(graph, program, images[:1], tensors=True).equal
    for image, expected in zip(images[1:], scores[1:], strict=True):
        equal += np.array_equal(program.run(image).scores, expected)
    memory = found.memory
    planned = json.loads(program.files["report.json"])["planned"]
    values = (
        found.instructions,
        round(found.instructions / found.macs, 4),
        memory.ram,
        planned["arena_bytes"],
        memory.stack,
        memory.flash,
        memory.weights,
        memory.constants,
        memory.code,
        equal,
        len(images),
        found.tools,
        found.cpu,
        found.cycles,
        round(found.cycles / found.macs, 4),
        VALIDATION[found.cpu],
    )
    return dict(zip(_COSTS, values, strict=True))


def _write_random(name: str, path: Path, folder: Path) -> None:
    """Writes random weights of the network `name`, its normalizations fitted to pictures."""
    config = named_config(name)
    pictures = prepared(find_pictures(folder, _FITTED), Preprocess.for_size(config.size))
    inputs = to_network(torch.from_numpy(np.stack(list(pictures))))
    model = build_untrained(config, inputs)
    save_weights(path, model, provenance=provenance("benchmarks/mcu.py", {}))


def _graph_of(run: Run, arguments: argparse.Namespace) -> tuple[str, str]:
    """The graph's file, and what its weights are."""
    if run.name in arguments.graph:
        return arguments.graph[run.name], f"of {Path(arguments.graph[run.name]).name}, given"
    given = arguments.weights.get(run.network)
    weights = arguments.out / f"{run.network}.safetensors"
    if given is None:
        _write_random(run.network, weights, arguments.pictures)
    made = arguments.out / f"{run.name}.etn"
    request = Request(run.weight_bits, pictures=arguments.calibration_pictures)
    quantize_file(given or str(weights), arguments.pictures, made, request, run.size)
    return str(made), "random, seed 0" if given is None else Path(given).name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--weights", action="append", default=[], metavar="NETWORK=FILE")
    parser.add_argument("--graph", action="append", default=[], metavar="RUN=FILE")
    parser.add_argument("--only", action="append", choices=[run.name for run in RUNS])
    parser.add_argument("--calibration-pictures", type=int, default=512)
    parser.add_argument("-n", type=int, default=20)
    arguments = parser.parse_args()
    for option in ("weights", "graph"):
        pairs = (text.partition("=") for text in getattr(arguments, option))
        setattr(arguments, option, {name: file for name, _, file in pairs})
    torch.set_num_threads(1)  # the same sums whatever the computer
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for run in RUNS:
        if arguments.only and run.name not in arguments.only:
            continue
        model, weights = _graph_of(run, arguments)
        for row in measure(run, model, weights, arguments.pictures, arguments.n):
            append_rows("mcu", [row])
            rows.append(row)
    print_table(_SHOWN, [["" if row[key] is None else row[key] for key in _SHOWN] for row in rows])
    for row in rows:
        if row["does_not_fit"]:
            print(f"{row['run']} {row['part']} {row['plan']}: {row['does_not_fit']}")
    print("modelled_cycles are not measured: see docs/cycle-model.md")


if __name__ == "__main__":
    main()
