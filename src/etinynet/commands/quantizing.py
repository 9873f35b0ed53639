"""quantize: float weights and a folder of pictures become an .etn file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from etinynet.artefact import provenance, read_file, sha256, write_file
from etinynet.data.collect import find_pictures, prepared
from etinynet.data.images import Preprocess, to_input
from etinynet.errors import UnsupportedError
from etinynet.graph import graph_to_bytes
from etinynet.opened import identifier, open_model
from etinynet.show import note, tracked

__all__ = ["quantize_file"]

_FEW = 100


def quantize_file(
    weights: str, calibration: Path, output: Path, bits: int, pictures: int, size: int | None
) -> dict[str, Any]:
    """Writes the integer graph of the model `weights` to `output`; returns sizes and counts.

    `size` None: the side that the weights are meant for. Raises the errors of all its steps, and
    then writes nothing.
    """
    import torch

    from etinynet.quantize.post_training import PostTraining, quantize_model

    config = PostTraining(bits, pictures)
    opened = open_model(weights)
    if opened.loaded is None:
        raise UnsupportedError(f"{weights}: already an integer graph; float weights are needed")
    preprocess = opened.preprocess if size is None else Preprocess.for_size(size)
    paths = find_pictures(calibration, config.pictures)
    if len(paths) < _FEW:
        note(f"only {len(paths)} calibration pictures; {_FEW} or more give steadier ranges")
    shown = tracked(prepared(paths, preprocess), len(paths), "calibration pictures")
    inputs = torch.from_numpy(np.stack([to_input(picture) for picture in shown]))
    used = dataclasses.replace(config, pictures=len(paths))
    hashes = "".join(sha256(read_file(path, "picture")) for path in paths)
    origin = provenance(
        f"quantize {Path(weights).name} --weight-bits {bits} --pictures {len(paths)}",
        {"calibration": hashes.encode()},
    )
    metadata = {
        "class_names": None if opened.class_names is None else list(opened.class_names),
        "preprocess": preprocess.to_json(),
        "network": opened.loaded.config.to_json(),
        "weights": opened.loaded.provenance,
        "provenance": origin,
    }
    graph = quantize_model(
        opened.loaded.model,
        inputs.permute(0, 3, 1, 2).float(),
        used,
        identifier(output.stem),
        json.loads(json.dumps(metadata)),  # tuples become lists
    )
    data = graph_to_bytes(graph)
    write_file(output, data)
    return {
        "graph": str(output),
        "bytes": len(data),
        "weight_bits": bits,
        "pictures": len(paths),
        "size": preprocess.size,
    }
