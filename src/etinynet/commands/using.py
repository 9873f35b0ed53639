"""predict, evaluate, run and verify: models on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etinynet.commands.building import memory_json
from etinynet.commands.pictures import counted, labelled, note_found, note_reading, to_json
from etinynet.data.collect import list_pictures, mixed
from etinynet.data.images import to_input
from etinynet.data.reading import Reading, prepared
from etinynet.data.recall import Recalls
from etinynet.errors import ConfigError, DataError
from etinynet.graph.ops import macs
from etinynet.opened import (
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

__all__ = ["evaluate_model", "predict_pictures", "run_pictures", "verify_target"]

_TOP = 5


def predict_pictures(model: str, images: Sequence[Path], top: int) -> dict[str, Any]:
    """The `top` best classes of each picture."""
    if top < 1:
        raise ConfigError(f"--top is {top!r}, allowed are 1 and more")
    opened = open_model(model)
    reading = Reading(len(images))
    found = scores(opened, prepared(images, opened.preprocess, reading))
    pictures = [
        {
            "picture": str(images[reading.kept[position]]),
            "top": [entry.to_json() for entry in rank(values, opened.class_names, top)],
        }
        for position, values in enumerate(found)
    ]
    note_reading(reading)
    return {"model": model, "pictures": pictures, "top": pictures[0]["top"], **reading.to_json()}


def evaluate_model(
    model: str, data: Path, labels: Path | None, limit: int | None, held_out: bool
) -> dict[str, Any]:
    """Percentages top1 and top5 over n labelled pictures, at most `limit`, of all classes mixed."""
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit is {limit!r}, allowed are 1 and more")
    opened = open_model(model)
    dataset = labelled(opened, data, labels, held_out)
    examples = dataset.examples if limit is None else mixed(dataset.examples, limit)
    by = "float network" if opened.graph is None else "compiled C, checked against the reference"
    function = scores if opened.graph is None else host_scores
    reading = Reading(len(examples))
    pictures = prepared([example.path for example in examples], opened.preprocess, reading)
    found = function(opened, tracked(pictures, len(examples), "pictures"))
    recalls = Recalls(opened.class_names or dataset.class_names)
    first = five = count = 0
    for position, values in enumerate(found):
        example = examples[reading.kept[position]]
        if example.label >= len(values):
            raise DataError(
                f"{example.path}: class index {example.label}, "
                f"{opened.source} knows 0 to {len(values) - 1}"
            )
        best = np.argsort(-values, kind="stable")[:_TOP]
        recalls.add(example.label, bool(best[0] == example.label))
        first += int(best[0] == example.label)
        five += int(example.label in best)
        count += 1
    classes = counted(recalls.classes, "class", "classes")
    note_found(f"{counted(count, 'picture', 'pictures')} of {classes}", dataset)
    note_reading(reading)
    return {
        "model": model,
        "top1": 100 * first / count,
        "top5": 100 * five / count,
        "correct1": first,
        "correct5": five,
        "n": count,
        "by": by,
        **recalls.to_json(),
        **to_json(dataset, reading),
    }


def run_pictures(
    model: str, on: str, images: Sequence[Path], plan: str | None = None
) -> dict[str, Any]:
    """Scores and costs of each picture on a target; the first one's are repeated at the top."""
    target = get_target(on, mode=plan)
    opened = open_graph(model)
    graph = graph_of(opened)
    reading = Reading(len(images))
    inputs = [to_input(picture) for picture in prepared(images, opened.preprocess, reading)]
    note_reading(reading)
    pictures: list[dict[str, Any]] = []
    result = None
    with target.load(graph) as program:
        for index, image in zip(reading.kept, inputs, strict=True):
            result = program.run(image)
            best = rank(real_scores(graph, result.scores), opened.class_names, _TOP)
            pictures.append(
                {
                    "picture": str(images[index]),
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
        **reading.to_json(),
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
    dataset = list_pictures(data)
    paths = [example.path for example in dataset.examples]
    reading = Reading(len(paths))
    inputs = prepared(paths, opened.preprocess, reading, most=n)
    pictures = tracked(inputs, min(n, len(paths)), "pictures")
    with target.load(graph) as program:
        outcome = verify(graph, program, (to_input(p) for p in pictures), tensors=layers)
    note_found(f"{counted(outcome.pictures, 'picture', 'pictures')} compared", dataset)
    note_reading(reading)
    difference = None
    if outcome.first is not None:
        first = outcome.first
        difference = {
            "picture": str(paths[reading.kept[first.picture]]),
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
        **to_json(dataset, reading),
    }
