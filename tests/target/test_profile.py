"""A profile adds up, and says of each layer what the graph and the run say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from etinynet.graph.ops import macs
from etinynet.opened import graph_of, open_graph
from etinynet.target.mcu import McuTarget
from etinynet.target.parts import CLOCKS, PARTS, get_part
from etinynet.target.profile import Profile, profile
from graph_cases import random_graph, random_image


@pytest.fixture(scope="module", params=["stm32f412", "stm32f746"])
def found(request: pytest.FixtureRequest) -> Profile:
    graph = graph_of(open_graph("sign-digits"))
    grey = np.zeros(graph.tensors[graph.input].shape, np.int8)
    with McuTarget(get_part(request.param), mode="stream").load(graph) as program:
        result = program.run(grey)
        made = profile(graph, program, grey)
    assert made.instructions == result.instructions
    assert made.memory == result.memory
    per_op = {layer.name: layer.cost.instructions for layer in made.layers}
    assert {"": made.outside.instructions, **per_op} == result.instructions_per_op
    assert [layer.macs for layer in made.layers] == [
        macs(op, graph.tensors[op.output]) for op in graph.ops
    ]
    return made


def test_clocks_are_those_of_the_data_sheets(found: Profile) -> None:
    assert {name: clock.hz // 1_000_000 for name, clock in CLOCKS.items()} == {
        "stm32f412": 100,
        "stm32f746": 216,
        "stm32h743": 480,
    }
    assert CLOCKS.keys() == PARTS.keys()
    assert found.clock == CLOCKS[found.part]
    assert found.clock.milliseconds(found.clock.hz) == 1000


def test_layers_add_up(found: Profile) -> None:
    costs = [found.outside, *(layer.cost for layer in found.layers)]
    assert found.instructions == sum(cost.instructions for cost in costs)
    assert found.cycles == sum(cost.cycles for cost in costs)
    for cost in costs:
        assert cost.instructions == sum(cost.kinds.values())
    assert found.macs == 13_342_920
    assert (found.plan, found.graph) == ("stream", "sign_digits")


def test_bytes_are_those_of_the_arrays(found: Profile) -> None:
    layers = {layer.name: layer for layer in found.layers}
    weights = sum(layer.weight_bytes for layer in found.layers)
    constants = sum(layer.constant_bytes for layer in found.layers)
    assert weights == found.memory.weights
    assert 0 < constants <= found.memory.constants
    stem = layers["stem"]
    assert (stem.read_bytes, stem.written_bytes) == (96 * 96 * 3, 48 * 48 * 24)
    middle = layers["b0.pw"]  # between a tensor of int16 and one of int8
    assert (middle.read_bytes, middle.written_bytes) == (2 * 24 * 24 * 24, 24 * 24 * 24)
    assert layers["b8.dw2"].read_bytes == 2 * 6 * 6 * 168  # its input and its shortcut


def test_modelled_cycles_keep_the_limits(found: Profile) -> None:
    for layer in found.layers:
        assert layer.cost.cycles >= max(layer.arithmetic_limit, layer.bytes_limit)
    per_instruction = found.cycles / found.instructions
    assert 1 < per_instruction < 2 if found.cpu == "cortex_m4" else 0.5 < per_instruction < 1


@pytest.mark.parametrize("name", ["op_1_x", "kernel_0_dense", "memory"])
def test_names_take_nothing_from_other_operators(name: str) -> None:
    """Neither the graph's name nor those of its operators change what is counted for whom."""
    rng = np.random.default_rng(4)
    plain = random_graph(rng)
    image = random_image(rng, plain)
    names = [f"op_{(n + 1) % len(plain.ops)}_{op.kind}" for n, op in enumerate(plain.ops)]
    ops = tuple(replace(op, name=n) for op, n in zip(plain.ops, names, strict=True))
    named = replace(plain, name=name, ops=ops)
    counts = []
    for graph in (plain, named):
        with McuTarget(get_part("stm32f412")).load(graph) as program:
            found = profile(graph, program, image)
        counts.append([found.outside, *(layer.cost for layer in found.layers)])
        assert list(program.run(image).instructions_per_op.values()) == [
            cost.instructions for cost in counts[-1]
        ]
    assert counts[0] == counts[1]
