"""quantize --analyse: what quantization does to each layer, as figures and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from etinynet.artefact import Record, check_replaceable, write_directory
from etinynet.commands.calibrating import calibrated
from etinynet.commands.pictures import labelled, note_reading
from etinynet.data.images import Preprocess
from etinynet.data.labels import Example
from etinynet.data.reading import Reading, prepared
from etinynet.errors import ConfigError, DataError
from etinynet.opened import Opened, loaded_of, open_float
from etinynet.show import print_lines, print_table, tracked
from etinynet.text import json_text
from etinynet.threads import choose_threads

if TYPE_CHECKING:
    from torch import Tensor

    from etinynet.frontend.float_graph import FloatGraph, Layer
    from etinynet.quantize.single_layer import Sensitivities

__all__ = ["analyse_file", "print_analysis"]

_BATCH = 16
_NOISE = "snr_db"
_RECORD = Record("analysis.json", "quantize --analyse")


def analyse_file(
    weights: str,
    calibration: Path,
    output: Path,
    bits: int,
    pictures: int,
    size: int | None = None,
    layers: Sequence[str] = (),
    data: Path | None = None,
    labels: Path | None = None,
) -> dict[str, Any]:
    """Writes figures 3 and 4 of `layers` and a table of all layers into the folder `output`.

    `layers` empty: the paper's two, the first and the last pointwise. Gain and shift are fitted
    on up to `pictures` of `calibration`; accuracy is that on up to as many of `data`, spread over
    it, or the agreement with the float network on the calibration pictures. Returns what
    analysis.json holds. Raises the errors of all its steps, and then writes nothing.
    """
    from etinynet.quantize.figures import require_matplotlib
    from etinynet.quantize.pipeline import Quantization, network_of

    Quantization(bits, pictures=pictures)
    if labels is not None and data is None:
        raise ConfigError(f"--labels is {str(labels)!r}; it needs --data, the folder of its paths")
    check_replaceable("-o", output, _RECORD)
    require_matplotlib()
    opened = open_float(weights)
    model = loaded_of(opened).model
    network = network_of(model, model.config.size if size is None else size)
    drawn = _chosen(network, layers)
    preprocess = opened.preprocess if size is None else Preprocess.for_size(size)
    choose_threads(preprocess.size)
    examples = None if data is None else _spread(opened, data, labels, pictures)
    fitted = calibrated(opened, calibration, pictures, preprocess)
    found = _measure(network, bits, fitted.pixels, examples, preprocess)
    result: dict[str, Any] = {
        "model": weights,
        "weight_bits": bits,
        "calibration_pictures": len(fitted.paths),
        "measured_on": str(calibration if data is None else data),
        "n": found.n,
        "float_top1": found.float_top1,
        "layers": [
            _row(layer, bits, found) for layer in network.layers if layer.weight is not None
        ],
    }
    files, result["figures"] = _figures(drawn, bits)
    files["layers.csv"] = _csv(result["layers"])
    files["analysis.json"] = f"{json_text(result)}\n".encode()
    write_directory(output, files, _RECORD)
    return {**result, "folder": str(output)}


def _chosen(network: FloatGraph, names: Sequence[str]) -> list[Layer]:
    """The layers called `names`; without any, the two that the paper shows."""
    by_name = {layer.name: layer for layer in network.layers if layer.weight is not None}
    if not names:
        pointwise = [layer.name for layer in by_name.values() if layer.kind == "pointwise"]
        names = [pointwise[0], pointwise[-1]]
    for name in names:
        if name not in by_name:
            raise ConfigError(f"--layer is {name!r}, allowed are {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(names)]


def _spread(opened: Opened, data: Path, labels: Path | None, most: int) -> list[Example]:
    """At most `most` labelled pictures at even distances, so that classes in order all count."""
    examples = labelled(opened, data, labels, False).examples
    count = min(most, len(examples))
    chosen = [examples[i * len(examples) // count] for i in range(count)]
    classes = loaded_of(opened).config.classes
    for example in chosen:
        if example.label >= classes:
            raise DataError(
                f"{example.path}: class index {example.label}, "
                f"{opened.source} knows 0 to {classes - 1}"
            )
    return chosen


def _inputs(pictures: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
    """Prepared pictures as batches of network input (N, 3, H, W), pixel minus 128."""
    import torch

    from etinynet.train.pictures import to_network

    iterator = iter(pictures)
    while batch := list(islice(iterator, _BATCH)):
        yield to_network(torch.from_numpy(np.stack(batch)))


def _measure(
    network: FloatGraph,
    bits: int,
    pixels: NDArray[np.uint8],
    examples: Sequence[Example] | None,
    preprocess: Preprocess,
) -> Sensitivities:
    """Every layer fitted on pictures `pixels` and measured, on `examples` if there are any."""
    import torch

    from etinynet.quantize.single_layer import fitted_versions, measure_versions

    inputs, layers = list(_inputs(pixels)), network.layers
    versions = dict(tracked(fitted_versions(layers, bits, inputs), len(layers), "layers fitted"))
    if examples is None:
        batches = tracked(inputs, len(inputs), "batches measured")
        return measure_versions(network, versions, ((batch, None) for batch in batches))
    reading = Reading(len(examples))
    opened = list(prepared([example.path for example in examples], preprocess, reading))
    note_reading(reading)
    labels = torch.split(torch.tensor([examples[i].label for i in reading.kept]), _BATCH)
    batches = _inputs(tracked(opened, len(opened), "pictures measured"))
    return measure_versions(network, versions, zip(batches, labels, strict=True))


def _row(layer: Layer, bits: int, found: Sensitivities) -> dict[str, Any]:
    """One line of the table: noise of each quantizer in decibels, cost of this layer alone."""
    from etinynet.quantize.analysis import nearest, signal_to_noise

    assert layer.weight is not None
    noise = {
        quantizer: signal_to_noise(layer.weight, values)
        for quantizer, values in nearest(layer.weight, bits).items()
    }
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "shape": list(layer.weight.shape),
        "weights": layer.weight.numel(),
        _NOISE: noise,
        **found.costs[layer.name].to_json(),
    }


def _figures(drawn: Sequence[Layer], bits: int) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The pictures by file name, and their numbers."""
    from etinynet.quantize.analysis import occupancies, rescalings
    from etinynet.quantize.figures import figure_3, figure_4

    files: dict[str, bytes] = {}
    numbers = []
    for layer in drawn:
        assert layer.weight is not None
        found, points = occupancies(layer.weight, bits), rescalings(layer.weight, bits)
        files[f"figure3-{layer.name}.png"] = figure_3(layer.name, found)
        files[f"figure4-{layer.name}.png"] = figure_4(layer.name, layer.weight, points)
        numbers.append(
            {
                "layer": layer.name,
                "shape": list(layer.weight.shape),
                "figure3": [one.to_json() for one in found],
                "figure4": [point.to_json() for point in points],
            }
        )
    return files, numbers


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """The table with one column a number; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    flat = []
    for row in rows:
        noise = {f"{_NOISE}_{name}": value for name, value in row[_NOISE].items()}
        shape = "x".join(map(str, row["shape"]))
        flat.append({**row, "shape": shape, **noise})
        del flat[-1][_NOISE]
    writer.writerow(flat[0])
    for row in flat:
        writer.writerow(f"{v:.6g}" if type(v) is float else v for v in row.values())
    return text.getvalue().encode()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def print_analysis(result: dict[str, Any]) -> None:
    """The table of layers and the numbers of both figures on stdout."""
    labels = result["float_top1"] is not None
    share = "top1" if labels else "agreement"
    quantizers = list(result["layers"][0][_NOISE])
    heading = ("layer", "shape", "weights", *quantizers, f"{share} %", "score error")
    rows = [
        (
            row["layer"],
            "x".join(map(str, row["shape"])),
            row["weights"],
            *(_number(value, 2) for value in row[_NOISE].values()),
            f"{100 * row[share]:.2f}",
            f"{row['score_error']:.5f}",
        )
        for row in result["layers"]
    ]
    print_table(heading, rows)
    own = f", float {100 * result['float_top1']:.2f} %" if labels else ""
    print_lines(
        f"decibels at {result['weight_bits']} bits; {share} of {result['n']} pictures with that "
        f"layer alone quantized{own}"
    )
    for figures in result["figures"]:
        print_lines("", f"{figures['layer']}: figure 3, and figure 4")
        print_table(
            ("quantizer", "zero %", "levels", "of 0.1 %", "E"),
            [
                (
                    one["quantizer"],
                    f"{100 * one['zeros']:.1f}",
                    one["occupied"],
                    one["visible"],
                    f"{one['entropy']:.2f}",
                )
                for one in figures["figure3"]
            ],
        )
        for word, multiply in (("divides", False), ("multiplies", True)):
            points = [point for point in figures["figure4"] if point["multiply"] == multiply]
            for name, key, digits in (("J", "error", 1), ("E", "entropy", 2)):
                values = ", ".join(f"{point[key]:.{digits}f}" for point in points)
                print_lines(f"{name} where λ {word}: {values}")
    print_lines("", f"figures, layers.csv, analysis.json -> {result['folder']}")
