"""The folder as it is handed on: licence, README, bill of materials; nothing points outside."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from etinynet.commands.building import compile_to
from etinynet.graph.io import graph_digest, read_graph

Tool = Callable[[str], str]
ROOT = Path(__file__).parents[2]
MODEL = ROOT / "src" / "etinynet" / "assets" / "sign-digits.etn"
#: Without comments, or not text.
SILENT = (".json", ".svg", ".elf", "LICENSE")


@pytest.fixture(scope="module", params=["host", "stm32h743"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("folder") / "hands_c"
    compile_to(str(MODEL), request.param, path, None, "hands")
    return path


def texts(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".elf")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_every_file_says_its_licence(folder: Path) -> None:
    for name, text in texts(folder).items():
        if not name.endswith(SILENT):
            network = name in ("hands_weights.c", "hands_classes.c")
            licence = "LicenseRef-Network" if network else "MIT"
            first = text.split("\n", 1)[0]
            assert re.search(rf"SPDX-License-Identifier: {licence}( \*/| -->|$)", first), name
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_nothing_points_to_what_is_not_there(folder: Path) -> None:
    there = texts(folder)
    known = {Path(name).name for name in there} | {f"hands{end}" for end in (".elf", "_uart.elf")}
    outside = {"stddef.h", "stdint.h", "string.h", "Arduino.h"}
    pattern = re.compile(r"[\w./-]*\w\.(?:md|py|rst|html|c|h|jinja|svg|json|elf)\b")
    for name, text in there.items():
        if name.endswith((".json", ".svg")):
            continue
        for found in pattern.findall(text):
            file = Path(found).name
            assert file in known | outside or file.endswith("$.c"), f"{name}: {found}"
    assert "docs/" not in "".join(there.values())


def test_the_readme_has_the_numbers(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert f"| arena, RAM | {report['planned']['arena_bytes']} |" in text
    assert "`hands_best(scores, margin)`" in text
    assert "short side resized to 110 pixels" in text
    assert "UNALIGN_TRP" in text
    measured = report.get("measured")
    assert ("firmware/" in text) == (measured is not None)
    if measured is not None:
        assert f"flash | {measured['flash_bytes']} |" in text
        assert f"| {report['stack_bound']['library']} |" in text


def test_the_example_in_the_readme_compiles(folder: Path, tool: Tool) -> None:
    example = (folder / "README.md").read_text().split("```c\n", 1)[1].split("```", 1)[0]
    given = example.replace("uint8_t *rgb);", "uint8_t *rgb) { (void)camera; return rgb[row]; }")
    assert given != example
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{folder}")
    command = [tool("gcc"), *flags, "-xc", "-"]
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_bill_of_materials(folder: Path) -> None:
    bill = json.loads((folder / "bom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    code, network = bill["components"]
    assert code["licenses"] == [{"license": {"id": "MIT"}}]
    digest = graph_digest(read_graph(MODEL))
    assert network["hashes"] == [{"alg": "SHA-256", "content": digest}]
    report = json.loads((folder / "report.json").read_text())
    assert report["graph_sha256"] == digest
    tools = [entry["name"] for entry in bill["metadata"]["tools"]["components"]]
    measured = report.get("measured")
    assert tools == ["etinynet", *([] if measured is None else [measured["tools"]])]
    references = {entry["bom-ref"] for entry in bill["components"]}
    assert set(bill["dependencies"][0]["dependsOn"]) == references


def test_the_same_network_gives_the_same_folder(folder: Path, tmp_path: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    target = report["measured"]["part"] if "measured" in report else "host"
    compile_to(str(MODEL), target, tmp_path / "again", None, "hands")
    again = texts(tmp_path / "again")
    assert again == texts(folder)
