"""Calibration pictures of a folder, without those held out from the training of the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.commands.pictures import counted, note_found, note_reading, to_json, trained_rule
from etinynet.data.collect import HELD_OUT, list_pictures
from etinynet.data.images import Preprocess
from etinynet.data.reading import Reading, prepared
from etinynet.data.split import BY_FOLDER
from etinynet.opened import Opened, held_out_of
from etinynet.show import note, tracked

__all__ = ["Calibration", "calibrated"]

_FEW = 100


@dataclass(frozen=True, eq=False)
class Calibration:
    """Pixels uint8 (N, size, size, 3) of `paths`; `said`: plain JSON of what was not used."""

    paths: tuple[Path, ...]
    pixels: NDArray[np.uint8]
    said: dict[str, Any]


def calibrated(opened: Opened, folder: Path, most: int, preprocess: Preprocess) -> Calibration:
    """At most `most` pictures of `folder`, mixed, ready to calibrate `opened` on.

    Pictures that its training held out are left out: figures measured on them stay honest. Weights
    without a record of them are taken by their rule, where the folder's classes are the model's.
    Shows the progress; raises DataError.
    """
    record = held_out_of(opened)
    rule = trained_rule(opened) if record is None else BY_FOLDER
    dataset = list_pictures(folder, opened.class_names, rule)
    paths = [example.path for example in dataset.examples]
    reading = Reading(len(paths), record)
    count = min(most, len(paths))
    shown = tracked(prepared(paths, preprocess, reading, most), count, "calibration pictures")
    pixels = np.stack(list(shown))
    if reading.spared:
        spared = dataset.passed_over.get(HELD_OUT, 0) + reading.spared
        dataset = replace(dataset, passed_over={**dataset.passed_over, HELD_OUT: spared})
    note_found(f"{counted(len(pixels), 'calibration picture', 'calibration pictures')}", dataset)
    note_reading(reading)
    if len(pixels) < _FEW:
        note(f"only {len(pixels)} calibration pictures; {_FEW} or more give steadier ranges")
    kept = tuple(paths[index] for index in reading.kept)
    return Calibration(kept, pixels, to_json(dataset, reading))
