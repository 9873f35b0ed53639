"""predict, evaluate, run and verify: models on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etinynet.commands.building import memory_json
from etinynet.data.collect import find_pictures, prepared
from etinynet.data.images import to_input
from etinynet.data.labels import Dataset, list_folder, list_table, split_held_out
from etinynet.errors import ConfigError, DataError
from etinynet.graph.ops import macs
from etinynet.opened import (
    Opened,
    graph_of,
    host_scores,
    open_graph,
    open_model,
    rank,
    real_scores,
    scores,
)
from etinynet.show import tracked
from etinynet.target.base import get_target
from etinynet.target.verify import verify

__all__ = ["evaluate_model", "labelled", "predict_pictures", "run_pictures", "verify_target"]

_TOP = 5


def predict_pictures(model: str, images: Sequence[Path], top: int) -> dict[str, Any]:
    """The `top` best classes of each picture."""
    if top < 1:
        raise ConfigError(f"--top is {top!r}, allowed are 1 and more")
    opened = open_model(model)
    found = scores(opened, prepared(list(images), opened.preprocess))
    pictures = [
        {
            "picture": str(path),
            "top": [entry.to_json() for entry in rank(values, opened.class_names, top)],
        }
        for path, values in zip(images, found, strict=True)
    ]
    return {"model": model, "pictures": pictures, "top": pictures[0]["top"]}


def labelled(
    opened: Opened, data: Path, labels: Path | None, limit: int | None, held_out: bool
) -> Dataset:
    """Pictures of class folders, or of the table `labels`, whose classes `opened` knows by name."""
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit is {limit!r}, allowed are 1 and more")
    dataset = list_folder(data) if labels is None else list_table(labels, data)
    names = opened.class_names
    if labels is None and names is not None and dataset.class_names != names:
        unknown = [name for name in dataset.class_names if name not in names]
        what = f"class folder {unknown[0]!r} is unknown" if unknown else "class folders differ"
        raise DataError(f"{data}: {what}; {opened.source} knows {', '.join(names)[:200]}")
    return split_held_out(dataset)[1] if held_out else dataset


def evaluate_model(
    model: str, data: Path, labels: Path | None, limit: int | None, held_out: bool
) -> dict[str, Any]:
    """Percentages top1 and top5 over n labelled pictures."""
    opened = open_model(model)
    examples = labelled(opened, data, labels, limit, held_out).examples[:limit]
    by = "float network" if opened.graph is None else "compiled C, checked against the reference"
    function = scores if opened.graph is None else host_scores
    pictures = prepared([example.path for example in examples], opened.preprocess)
    found = function(opened, tracked(pictures, len(examples), "pictures"))
    first = five = 0
    for example, values in zip(examples, found, strict=True):
        if example.label >= len(values):
            raise DataError(
                f"{example.path}: class index {example.label}, "
                f"{opened.source} knows 0 to {len(values) - 1}"
            )
        best = np.argsort(-values, kind="stable")[:_TOP]
        first += int(best[0] == example.label)
        five += int(example.label in best)
    count = len(examples)
    return {
        "model": model,
        "top1": 100 * first / count,
        "top5": 100 * five / count,
        "correct1": first,
        "correct5": five,
        "n": count,
        "by": by,
    }


def run_pictures(
    model: str, on: str, images: Sequence[Path], plan: str | None = None
) -> dict[str, Any]:
    """Scores and costs of each picture on a target; the first one's are repeated at the top."""
    target = get_target(on, mode=plan)
    opened = open_graph(model)
    graph = graph_of(opened)
    inputs = [to_input(picture) for picture in prepared(list(images), opened.preprocess)]
    pictures: list[dict[str, Any]] = []
    result = None
    with target.load(graph) as program:
        for path, image in zip(images, inputs, strict=True):
            result = program.run(image)
            best = rank(real_scores(graph, result.scores), opened.class_names, _TOP)
            pictures.append(
                {
                    "picture": str(path),
                    "top": [entry.to_json() for entry in best],
                    "scores": result.scores.tolist(),
                    "instructions": result.instructions,
                    "instructions_per_operator": dict(result.instructions_per_op or {}) or None,
                    "stack_bytes": result.stack_bytes,
                }
            )
    assert result is not None
    operations = sum(macs(op, graph.tensors[op.output]) for op in graph.ops)
    instructions = pictures[0]["instructions"]
    is_counted = instructions is not None and operations > 0
    return {
        "model": model,
        "target": on,
        "plan": result.plan,
        "macs": operations,
        "top": pictures[0]["top"],
        "instructions": instructions,
        "instructions_per_mac": round(instructions / operations, 4) if is_counted else None,
        "flash_bytes": result.flash_bytes,
        "ram_bytes": result.ram_bytes,
        "memory": memory_json(result.memory),
        "tools": result.tools,
        "pictures": pictures,
    }


def verify_target(
    model: str, on: str, data: Path, n: int, layers: bool, plan: str | None = None
) -> dict[str, Any]:
    """Whether `n` pictures of `data` give the reference's numbers on a target, and where not."""
    if n < 1:
        raise ConfigError(f"-n is {n!r}, allowed are 1 and more")
    target = get_target(on, mode=plan)
    opened = open_graph(model)
    graph = graph_of(opened)
    paths = find_pictures(data, n)
    pictures = tracked(prepared(paths, opened.preprocess), len(paths), "pictures")
    with target.load(graph) as program:
        outcome = verify(graph, program, (to_input(p) for p in pictures), tensors=layers)
    difference = None
    if outcome.first is not None:
        first = outcome.first
        difference = {
            "picture": str(paths[first.picture]),
            "operator": first.operator,
            "tensor": first.tensor,
            "index": list(first.index),
            "expected": first.expected,
            "got": first.got,
            "words": str(first),
        }
    return {
        "model": model,
        "target": on,
        "equal": outcome.passed,
        "n": outcome.pictures,
        "layers": layers,
        "difference": difference,
    }
