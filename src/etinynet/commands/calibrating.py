"""Calibration pictures of a folder, without those held out from the training of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.commands.pictures import counted, note_found, note_reading, to_json, trained_rule
from etinynet.data.collect import list_pictures
from etinynet.data.images import Preprocess
from etinynet.data.reading import Reading, prepared
from etinynet.opened import Opened
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

    Where the folder's classes are the model's, pictures that its training held out are left out:
    figures measured on them stay honest. Shows the progress; raises DataError.
    """
    dataset = list_pictures(folder, opened.class_names, trained_rule(opened))
    paths = [example.path for example in dataset.examples]
    reading = Reading(len(paths))
    count = min(most, len(paths))
    if count < _FEW:
        note(f"only {count} calibration pictures; {_FEW} or more give steadier ranges")
    shown = tracked(prepared(paths, preprocess, reading, most), count, "calibration pictures")
    pixels = np.stack(list(shown))
    note_found(f"{counted(len(pixels), 'calibration picture', 'calibration pictures')}", dataset)
    note_reading(reading)
    kept = tuple(paths[index] for index in reading.kept)
    return Calibration(kept, pixels, to_json(dataset, reading))
