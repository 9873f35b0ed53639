"""The program: the calls that the planner plans, a graph's operators and copies between layouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from etinynet.backend.c.layout import Layout, given_layout, wanted_layout
from etinynet.backend.c.schedule import Choice
from etinynet.graph.ir import Graph, Op
from etinynet.graph.ops import COPY

__all__ = ["program_of"]


def _copies(graph: Graph, tight: bool) -> Iterator[tuple[str, list[int]]]:
    """Tensors to be copied, and for each copy the operators that read it."""
    choice = Choice(tight=tight, rows={})
    for name, tensor in graph.tensors.items():
        given = given_layout(graph, name)
        readers: dict[Layout, list[int]] = {} if given is None else {given: []}
        for index, op in enumerate(graph.ops):
            if op.input == name and op.kind != "add":
                gathers = choice.gathers(graph, index)
                readers.setdefault(wanted_layout(op, tensor, tight, gathers), []).append(index)
        for others in list(readers.values())[1:]:
            yield name, others


def program_of(graph: Graph, *, tight: bool) -> Graph:
    """`graph` with a copy of every tensor that its readers want in different layouts.

    The copy is a call of kind COPY in front of the first operator that reads it; its tensor has the
    values of the one it copies. `tight` as in schedule.Choice.
    """
    tensors, ops = dict(graph.tensors), list(graph.ops)
    before: dict[int, list[Op]] = {}
    for number, (name, readers) in enumerate(_copies(graph, tight)):
        copy = f"{name}@{number}"
        tensors[copy] = replace(graph.tensors[name], name=copy)
        before.setdefault(readers[0], []).append(Op(COPY, copy, (name,), copy))
        for index in readers:
            ops[index] = replace(ops[index], inputs=(copy, *ops[index].inputs[1:]))
    if not before:
        return graph
    calls = [call for index, op in enumerate(ops) for call in (*before.get(index, ()), op)]
    return replace(graph, tensors=tensors, ops=tuple(calls))
