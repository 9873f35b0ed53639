"""MobileNetV1-0.25 and MobileNetV2-0.35 on three emulated parts: sizes, instructions, as CSV.

python benchmarks/mobilenets.py: 224 x 224, 1000 classes, random weights of a fixed seed, 8 and 4
bits, every memory plan. No accuracy: nothing is trained, and the costs do not tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from record import append_rows

from etinynet.backend.c import MODES
from etinynet.errors import FitError
from etinynet.graph import Graph, execute
from etinynet.model.config import named_config
from etinynet.model.networks import build_untrained
from etinynet.model.summary import summarize
from etinynet.quantize.pipeline import Quantization, quantize_model
from etinynet.target.base import get_target

__all__ = [
    "NETWORKS",
    "PARTS",
    "costs",
    "generated_pictures",
    "main",
    "measured",
    "untrained_graph",
]

NETWORKS = ("mobilenet-v1-0.25", "mobilenet-v2-0.35")
PARTS = ("stm32f412", "stm32f746", "stm32h743")
SIZE, CLASSES = 224, 1000
_CALIBRATION = 16
_VERIFIED = 2


def generated_pictures(count: int, side: int, seed: int) -> torch.Tensor:
    """Smooth random pictures, pixel minus 128, float32 (count, 3, side, side), whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, side // 8, side // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    noise = torch.randn(count, 3, side, side, generator=generator)
    return (60 * smooth + 10 * noise).round().clamp(-128, 127)


def untrained_graph(name: str, weight_bits: int, size: int = SIZE, classes: int = CLASSES) -> Graph:
    """The integer graph of the network called `name` (model.config.named_config), random weights
    and normalizations fitted to generated pictures, which also calibrate."""
    inputs = generated_pictures(_CALIBRATION, size, seed=0)
    model = build_untrained(named_config(name, classes, size), inputs)
    config = Quantization(weight_bits, pictures=_CALIBRATION)
    return quantize_model(model, inputs, config, "network", {})


def _images(size: int) -> list[NDArray[np.int8]]:
    pictures = generated_pictures(_VERIFIED, size, seed=1)
    return [picture.permute(1, 2, 0).numpy().astype(np.int8) for picture in pictures]


def costs(graph: Graph, part: str, plan: str) -> dict[str, Any]:
    """What `graph` takes on `part` by memory plan `plan`; of one that does not fit, the refusal."""
    images = _images(graph.tensors[graph.input].shape[0])
    row: dict[str, Any] = {"target": part, "plan": plan, "verified": 0, "equal": 0}
    row |= dict.fromkeys(("instructions", "flash_bytes", "ram_bytes", "stack_bytes", "tools"), "")
    try:
        with get_target(part, mode=plan).load(graph) as program:
            results = [program.run(image) for image in images]
    except FitError as error:
        return {**row, "refused": str(error)}
    equal = [
        np.array_equal(result.scores, execute(graph, image))
        for result, image in zip(results, images, strict=True)
    ]
    first = results[0]
    return row | {
        "verified": len(equal),
        "equal": sum(equal),
        "instructions": first.instructions,
        "flash_bytes": first.flash_bytes,
        "ram_bytes": first.ram_bytes,
        "stack_bytes": first.stack_bytes,
        "tools": first.tools,
        "refused": "",
    }


def measured() -> Iterator[list[dict[str, Any]]]:
    """For each network and width of weights: a row for each part and plan."""
    for name in NETWORKS:
        summary = summarize(named_config(name, CLASSES, SIZE))
        for weight_bits in (8, 4):
            graph = untrained_graph(name, weight_bits)
            same = {
                "network": name,
                "macs": summary.macs,
                "parameters": summary.parameters,
                "weight_bits": weight_bits,
            }
            yield [same | costs(graph, part, plan) for part in PARTS for plan in MODES]


def main() -> None:
    torch.set_num_threads(1)  # the same sums whatever the computer
    for rows in measured():
        append_rows("mobilenets", rows)
        for row in rows:
            print(row, flush=True)


if __name__ == "__main__":
    main()
