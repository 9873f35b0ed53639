"""summary and import: what a network is made of, and the authors' weights made ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from etinynet.artefact import check_file, read_file, sha256
from etinynet.data.labels import read_class_names
from etinynet.model.registry import ENTRIES
from etinynet.opened import load_params
from etinynet.show import print_lines, print_table

if TYPE_CHECKING:
    from etinynet.model.summary import Summary

__all__ = ["import_file", "print_summary"]


def print_summary(found: Summary) -> None:
    """Rows and totals of a network, with what each total counts."""
    heading = ("layer", "kind", "output", "MACs", "parameters", "float32", "int8", "4-bit")
    rows = [
        (
            row.name,
            row.kind,
            "x".join(map(str, row.output)),
            row.macs,
            row.parameters,
            row.bytes_float32,
            row.bytes_int8,
            row.bytes_int4,
        )
        for row in found.rows
    ]
    print_table(heading, rows)
    paper_macs, paper_parameters = found.paper or ("-", "-")
    print_table(
        ("total", "counted", "as the paper counts", "paper says"),
        [
            ("MACs", found.macs, found.paper_macs, paper_macs),
            ("parameters", found.parameters, found.paper_parameters, paper_parameters),
        ],
    )
    print_lines(str(found.to_json()["counts"]))


def import_file(params: Path, output: Path, classes: Path | None) -> dict[str, Any]:
    """Writes the authors' file `params` as `output`; returns what it holds.

    Raises ArtefactError or DataError, and then writes nothing.
    """
    from etinynet.model.weights import save_weights

    check_file("-o", output, ".safetensors")
    data = read_file(params, "weights")
    loaded, ignored = load_params(data, str(params))
    names = None if classes is None else read_class_names(classes)
    save_weights(
        output,
        loaded.model,
        provenance=loaded.provenance,
        class_names=names,
        preprocess=loaded.preprocess,
    )
    return {
        "name": loaded.config.name,
        "classes": loaded.config.classes,
        "parameters": sum(int(p.numel()) for p in loaded.model.parameters()),
        "ignored": list(ignored),
        "known": sha256(data) in [entry.sha256 for entry in ENTRIES],
        "weights": str(output),
    }
