"""Every rule of a legal graph: one change that breaks it alone, and the words of the refusal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graph_edits import edit_op, edit_rule, edit_tensor, edit_window, every_kind

from etinynet.errors import GraphError
from etinynet.graph import Classification, Graph, Precision, Requantization, Tensor, check
from graph_cases import WIDE

Edit = Callable[[Graph], Graph]
REFUSED: dict[str, tuple[Edit, str]] = {}


def graph_with(words: str, /, **changes: Any) -> None:
    _add(lambda graph: replace(graph, **changes), words)


def op_with(words: str, name: str, /, **changes: Any) -> None:
    _add(lambda graph: edit_op(graph, name, **changes), words)


def window_with(words: str, name: str, /, **changes: Any) -> None:
    _add(lambda graph: edit_window(graph, name, **changes), words)


def rule_with(words: str, name: str, /, **changes: Any) -> None:
    _add(lambda graph: edit_rule(graph, name, **changes), words)


def tensor_with(words: str, name: str, /, **changes: Any) -> None:
    _add(lambda graph: edit_tensor(graph, name, **changes), words)


def _add(edit: Edit, words: str) -> None:
    assert words not in REFUSED
    REFUSED[words] = edit, words


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def without(graph: Graph, name: str) -> Graph:
    return replace(graph, ops=tuple(op for op in graph.ops if op.name != name))


def rewired(graph: Graph) -> Graph:
    """The tensor of pool_all is 2 x 1, as if the average kept a row."""
    return edit_tensor(graph, "pool_all", shape=(2, 1, 5))


def dense_on_a_map(graph: Graph) -> Graph:
    return edit_op(graph, "pw", kind="dense")


# containers and references
graph_with("graph: tensors is 'list', allowed is dict", tensors=[])
graph_with("graph: ops is 'list', allowed is tuple", ops=[])
graph_with("graph: metadata is 'NoneType', allowed is dict", metadata=None)
graph_with("graph: part is 'str', allowed is Op", ops=("stem",))
graph_with("graph: part is 'int', allowed is Tensor", tensors={"input": 3})
op_with("graph: name or reference is 7, allowed is a string", "dw", inputs=(7,))
op_with(r"graph: name or reference is \['pw'\], allowed is a string", "dw2", inputs=("pw", ["pw"]))
op_with(r"graph: inputs of an operator is \[\], allowed is a tuple of at", "dw", inputs=[])
op_with(r"graph: inputs of an operator is \(\), allowed is a tuple of at", "dw", inputs=())
graph_with("graph: outputs is 'str', allowed is tuple", outputs="fc")
graph_with("graph: name or reference is None, allowed is a string", outputs=(None,))
graph_with("graph: part is 'str', allowed is Precision", precision="mixed")
graph_with(
    "graph: metadata is 'Object of type set is not JSON .*', allowed is JSON, at most 64 levels",
    metadata={"classes": {1}},
)
graph_with("graph: metadata is 'Out of range float values", metadata={"x": float("nan")})
graph_with("graph: name is 'two words', allowed is a C identifier", name="two words")
graph_with("graph: name is 3, allowed is a C identifier", name=3)
graph_with("graph: name is 'n{33}', allowed is a C identifier", name="n" * 33)
# tensors
tensor_with("tensor 'a b': name is 'a b', allowed is letters, digits, _ and .", "dw", name="a b")
tensor_with("tensor 5: name is 5, allowed is letters", "dw", name=5)
tensor_with(
    r"tensor 'dw': shape is \(3, 0, 4\), allowed is three integers of 1 to 4096",
    "dw",
    shape=(3, 0, 4),
)
tensor_with(r"tensor 'dw': shape is \(3, 2\), allowed is three", "dw", shape=(3, 2))
tensor_with(r"tensor 'dw': shape is \[3, 2, 4\], allowed is three", "dw", shape=[3, 2, 4])
tensor_with(r"tensor 'dw': shape is \(3, 2.0, 4\), allowed is three", "dw", shape=(3, 2.0, 4))
tensor_with(r"tensor 'dw': shape is \(3, 2, 4097\), allowed is three", "dw", shape=(3, 2, 4097))
tensor_with("tensor 'dw': shape is None, allowed is three", "dw", shape=None)
tensor_with("tensor 'dw': bits is 1, allowed is 2 to 16", "dw", bits=1)
tensor_with("tensor 'dw': bits is 17, allowed is 2 to 16", "dw", bits=17)
tensor_with("tensor 'dw': bits is 12.0, allowed is 2 to 16", "dw", bits=12.0)
tensor_with("tensor 'pw': zero_point is 128, allowed is -128 to 127", "pw", zero_point=128)
tensor_with("tensor 'pw': zero_point is -129, allowed is -128 to 127", "pw", zero_point=-129)
tensor_with("tensor 'pw': zero_point is '0', allowed is -128 to 127", "pw", zero_point="0")
for bad_scale in (0.0, -1.0, float("inf"), float("nan"), 1):
    tensor_with(
        f"tensor 'pw': scale is {bad_scale!r}, allowed is a finite number above 0",
        "pw",
        scale=bad_scale,
    )
# wiring
graph_with("graph: number of operators is 0, allowed is at least one", ops=())
graph_with("graph: input or output is 'x', allowed is a tensor of the graph", input="x")
graph_with("graph: input or output is 'y', allowed is a tensor of the graph", outputs=("y",))
op_with("operator 'a-b': name is 'a-b', allowed is letters, digits, _ and .", "dw", name="a-b")
op_with("operator 'pw': name is 'pw', allowed is a name used once", "dw", name="pw")
op_with(
    "operator 'dw': input is 'pw', allowed is a tensor made by an earlier", "dw", inputs=("pw",)
)
op_with("operator 'dw2': input is 'no', allowed is a tensor made by", "dw2", inputs=("pw", "no"))
op_with("operator 'dw': output is 'no', allowed is a tensor of the graph", "dw", output="no")
op_with("operator 'dw': output is 'pool', allowed is a tensor not yet made", "dw", output="pool")
_add(
    lambda graph: replace(graph, tensors={**graph.tensors, "other": graph.tensors["dw"]}),
    "tensor 'other': name is 'dw', allowed is the key it is stored under",
)
_add(
    lambda graph: replace(
        graph, tensors={**graph.tensors, "more": Tensor("more", (1, 1, 1), 8, 0, 1.0)}
    ),
    "tensor 'more': use is 'unused', allowed is made and read",
)
_add(
    lambda graph: edit_op(
        edit_op(without(graph, "dw2"), "avg", inputs=("pw",)), "sum", inputs=("avg", "pw")
    ),
    "tensor 'dw2': use is 'unused', allowed is made and read",
)
# ends
tensor_with("tensor 'input': bits of the graph's input is 7, allowed is 8", "input", bits=7)
_add(
    lambda graph: replace(without(graph, "fc"), outputs=("pool_all",)),
    "tensor 'fc': use is 'unused'",
)
_add(
    lambda graph: replace(
        graph,
        ops=graph.ops[:5],
        outputs=("dw2",),
        tensors={
            k: v for k, v in graph.tensors.items() if k not in ("avg", "sum", "pool_all", "fc")
        },
    ),
    r"tensor 'dw2': shape of the scores is \(3, 2, 5\), allowed is \(1, 1, classes\)",
)
graph_with(
    "graph: number of outputs is 2, allowed is 1 with a Classification", outputs=("fc", "pool_all")
)
graph_with(
    r"graph: outputs is \('fc', 'fc'\), allowed is different tensors, not the input",
    outputs=("fc", "fc"),
    head=None,
)
graph_with(
    r"graph: outputs is \('fc', 'input'\), allowed is different tensors",
    outputs=("fc", "input"),
    head=None,
)
graph_with("graph: head is 'dict', allowed is Classification or none", head={})
graph_with("graph: class_names is 'str', allowed is a tuple of strings", head=Classification("abc"))
graph_with(
    "graph: class_names is 'tuple', allowed is a tuple of strings",
    head=Classification(("a", "b", 3)),
)
graph_with(
    "graph: number of class_names is 2, allowed is 3, one a score", head=Classification(("a", "b"))
)
# precision
_add(
    lambda graph: replace(graph, precision=Precision("narrow", matrix_bits=11, sum_bits=16)),
    "operator 'pw': bits of 'dw' is 12, allowed is at most 11 by precision 'narrow'",
)
tensor_with(
    "operator 'dw2': bits of 'pw' is 9, allowed is at most 8 by precision 'mixed'", "pw", bits=9
)
_add(
    lambda graph: replace(graph, precision=Precision("narrow", matrix_bits=16, sum_bits=7)),
    "operator 'dw2': bits of 'pw' is 8, allowed is at most 7 by precision 'narrow'",
)
# geometry
op_with("operator 'dw': kind is 'matmul', allowed is conv2d, depthwise,", "dw", kind="matmul")
op_with("operator 'dw': kind is None, allowed is conv2d,", "dw", kind=None)
op_with("operator 'stem': window is 'int', allowed is a Window", "stem", window=3)
for kernel in (0, 8, "3", (3,), (3, 0), (3, 3.0), [3, 3], (True, 3)):
    shown = re.escape(repr((kernel,) * 2 if type(kernel) is int else kernel))
    window_with(
        f"operator 'stem': kernel is {shown}, allowed is 2 integers of 1 to 7",
        "stem",
        kernel=kernel,
    )
for stride in (0, 5, (1, 5), True):
    shown = re.escape(repr((stride,) * 2 if type(stride) is int else stride))
    window_with(
        f"operator 'stem': stride is {shown}, allowed is 2 integers of 1 to 4",
        "stem",
        stride=stride,
    )
for padding in (-1, (0, 0, 0, 7), (1, 1), None):
    shown = re.escape(repr((padding,) * 4 if type(padding) is int else padding))
    window_with(
        f"operator 'stem': padding is {shown}, allowed is 4 integers of 0 to 6",
        "stem",
        padding=padding,
    )
window_with(
    r"operator 'stem': padding is \(0, 0, 3, 0\), allowed is below the kernel's height, 3",
    "stem",
    padding=(0, 0, 3, 0),
)
window_with(
    r"operator 'stem': padding is \(0, 3, 0, 0\), allowed is below the kernel's width, 3",
    "stem",
    padding=(0, 3, 0, 0),
)
window_with(r"operator 'pw': kernel is \(3, 3\), allowed is 2 .* 1 to 1", "pw", kernel=3)
window_with(r"operator 'fc': stride is \(2, 2\), allowed is 2 .* 1 to 1", "fc", stride=2)
window_with(
    r"operator 'pool_all': padding is \(1, 1, 1, 1\), allowed is 4 .* 0 to 0", "pool_all", padding=1
)
window_with(
    r"operator 'pool': kernel is \(6, 6\), allowed is at most the padded input of \(6, 5, 4\)",
    "pool",
    kernel=6,
)
op_with("operator 'dw': number of inputs is 3, allowed is 1 to 2", "dw", inputs=("pool",) * 3)
_add(
    dense_on_a_map,
    r"operator 'pw': input shape is \(3, 2, 4\), allowed is \(1, 1, channels\)",
)
_add(rewired, r"operator 'pool_all': output shape is \(2, 1, 5\), allowed is \(1, 1, 5\)")
tensor_with(
    r"operator 'dw': output shape is \(3, 3, 4\), allowed is \(3, 2, 4\)", "dw", shape=(3, 3, 4)
)
tensor_with(
    r"operator 'dw': output shape is \(3, 2, 6\), allowed is \(3, 2, 4\)", "dw", shape=(3, 2, 6)
)
_add(
    lambda graph: edit_tensor(edit_window(graph, "pool", padding=1), "pool", shape=(4, 3, 4)),
    r"operator 'pool': padding is \(1, 1, 1, 1\), allowed is 0",
)
for changed in ({"bits": 9}, {"scale": 9.0}, {"zero_point": -1}):
    field = next(iter(changed))
    _add(
        lambda graph, changed=changed: edit_tensor(graph, "pool", **changed),
        rf"operator 'pool': bits, zero_point, scale is .*, allowed is its input's(?#{field})",
    )
# constants
op_with(
    r"operator 'pw': weight is 'int8 \(5, 3\)', allowed is int8 \(5, 4\)",
    "pw",
    weight=np.zeros((5, 3), np.int8),
)
op_with(
    r"operator 'pw': weight is 'int16 \(5, 4\)', allowed is int8 \(5, 4\)",
    "pw",
    weight=np.zeros((5, 4), np.int16),
)
op_with("operator 'pw': weight is 'NoneType', allowed is int8", "pw", weight=None)
op_with("operator 'pw': weight is 'list', allowed is int8", "pw", weight=[[1] * 4] * 5)
op_with(r"operator 'stem': .*, allowed is int8 \(4, 3, 3, 3\)", "stem", weight=None)
op_with(r"operator 'dw': .*, allowed is int8 \(4, 3, 3\)", "dw", weight=None)
op_with("operator 'pw': weight_bits is 1, allowed is 2 to 8", "pw", weight_bits=1)
op_with("operator 'pw': weight_bits is 9, allowed is 2 to 8", "pw", weight_bits=9)
op_with("operator 'pw': weight_bits is '4', allowed is 2 to 8", "pw", weight_bits="4")
op_with("operator 'pool': weight_bits is 4, allowed is 8 for max_pool", "pool", weight_bits=4)
op_with(
    "operator 'pw': weight is 8, allowed is -8 to 7 at 4 bits",
    "pw",
    weight=np.full((5, 4), 8, np.int8),
)
op_with(
    "operator 'pw': weight is -9, allowed is -8 to 7 at 4 bits",
    "pw",
    weight=np.full((5, 4), -9, np.int8),
)
op_with(
    r"operator 'dw2': bias is 'int32 \(4,\)', allowed is int32 \(5,\)", "dw2", bias=ints(1, 2, 3, 4)
)
op_with(
    r"operator 'dw2': bias is 'int64 \(5,\)', allowed is int32", "dw2", bias=np.zeros(5, np.int64)
)
window_with(r"operator 'avg': kernel is \(8, 8\), allowed is 2 .* 1 to 7", "avg", kernel=8)
window_with("operator 'avg': padding is .*, allowed is below the kernel's", "avg", padding=3)
window_with(r"operator 'sum': kernel is \(2, 2\), allowed is 2 .* 1 to 1", "sum", kernel=2)
op_with("operator 'sum': weight_bits is 4, allowed is 8 for add", "sum", weight_bits=4)
op_with(
    "operator 'sum': weight or bias is 'present', allowed is none for add",
    "sum",
    bias=ints(1, 2, 3, 4, 5),
)
tensor_with(
    r"operator 'sum': output shape is \(3, 2, 3\), allowed is \(3, 2, 5\)", "sum", shape=(3, 2, 3)
)
for pool, kind in (("pool", "max"), ("avg", "avg"), ("pool_all", "global_avg")):
    op_with(
        f"operator '{pool}': weight or bias is 'present', allowed is none for {kind}_pool",
        pool,
        bias=ints(1, 2, 3, 4, 5),
    )
op_with(
    "operator 'pool': requantization is 'present', allowed is none for max_pool",
    "pool",
    requantization=Requantization(ints(1), ints(1), 0),
)
op_with(
    "operator 'pool': number of inputs is 2, allowed is 1 for max_pool",
    "pool",
    inputs=("stem", "input"),
)
op_with("operator 'pw': requantization is None, allowed is present", "pw", requantization=None)
op_with(
    "operator 'pw': requantization is 'str', allowed is a Requantization", "pw", requantization="x"
)
for field in ("multiplier", "offset"):
    rule_with(
        rf"operator 'pw': {field} is 'int32 \(2,\)', allowed is int32 \(5,\) or int32 \(1,\)",
        "pw",
        **{field: ints(1, 2)},
    )
    rule_with(
        rf"operator 'pw': {field} is 'float64 \(1,\)', allowed is int32",
        "pw",
        **{field: np.ones(1)},
    )
    rule_with(f"operator 'pw': {field} is 'int', allowed is int32", "pw", **{field: 3})
rule_with("operator 'pw': shift is -17, allowed is -16 to 24", "pw", shift=-17)
rule_with("operator 'pw': shift is 25, allowed is -16 to 24", "pw", shift=25)
rule_with("operator 'pw': shift is 1.0, allowed is -16 to 24", "pw", shift=1.0)
rule_with("operator 'pw': relu is 1, allowed is true or false", "pw", relu=1)
# residuals
rule_with(
    "operator 'pw': residual_multiplier is 'present', allowed is none without a residual",
    "pw",
    residual_multiplier=ints(1),
)
rule_with(
    "operator 'dw2': residual_multiplier is 'NoneType', allowed is int32",
    "dw2",
    residual_multiplier=None,
)
rule_with(
    r"operator 'dw2': residual_multiplier is 'int32 \(2,\)', allowed is int32 \(5,\) or int32",
    "dw2",
    residual_multiplier=ints(1, 2),
)
op_with(
    r"operator 'dw2': residual's shape is \(3, 2, 4\), allowed is \(3, 2, 5\)",
    "dw2",
    inputs=("pw", "pool"),
)
op_with(
    "operator 'pool_all': number of inputs is 2, allowed is 1 for global_avg_pool",
    "pool_all",
    inputs=("sum", "pw"),
)
_add(
    lambda graph: edit_rule(
        edit_op(graph, "sum", inputs=("avg",)), "sum", residual_multiplier=None
    ),
    "operator 'sum': number of inputs is 1, allowed is 2 for add",
)
# overflow
op_with(
    "operator 'dw2': accumulator bound is 2147.*, allowed is int32",
    "dw2",
    bias=np.full(5, 2**31 - 1, np.int32),
)
op_with(
    "operator 'dw2': accumulator bound is -2147.*, allowed is int32",
    "dw2",
    bias=np.full(5, -(2**31), np.int32),
)
rule_with(
    "operator 'fc': requantized sum bound is 2147.*, allowed is int32",
    "fc",
    offset=ints(2**31 - 1),
)
rule_with(
    "operator 'fc': requantized sum bound is -2147.*, allowed is int32", "fc", offset=ints(-(2**31))
)
rule_with("operator 'sum': accumulator bound is -8589934592, allowed is int32", "sum", shift=-10)
_add(
    lambda graph: edit_rule(
        replace(edit_tensor(graph, "pw", bits=16), precision=WIDE),
        "dw2",
        offset=ints(2**30 + 2**16),
        multiplier=ints(1),
        residual_multiplier=ints(-(2**31)),
    ),
    "operator 'dw2': requantized sum bound is 2147549185, allowed is int32",
)
rule_with(
    "operator 'dw2': requantized sum bound is 21.*, allowed is int32(?#8 bits)",
    "dw2",
    offset=ints(2**31 - 2**21),
    multiplier=ints(1),
    residual_multiplier=ints(-(2**31)),
)


@pytest.mark.parametrize(("edit", "words"), REFUSED.values(), ids=REFUSED)
def test_a_broken_rule_is_refused_in_words(edit: Edit, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        check(edit(every_kind()))


def test_the_unbroken_graph_is_legal() -> None:
    check(every_kind())


def test_one_part_less_of_the_shortcut_is_legal() -> None:
    """The refused sum above is within int32 without the shortcut: its spread was counted."""
    graph = edit_rule(
        every_kind(), "dw2", offset=ints(2**31 - 2**22 - 2**20), multiplier=ints(1),
        residual_multiplier=ints(-(2**31)),
    )  # fmt: skip
    check(graph)


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(GraphError) as caught:
        check(edit_op(every_kind(), "dw", name="x" * 100_000))
    assert len(str(caught.value)) < 300


def test_class_names_as_many_as_scores_are_legal() -> None:
    head = Classification(("a", "b", "c"))
    check(replace(every_kind(), head=head, metadata={"other": [1, None]}))


def test_several_outputs_are_legal_without_a_head() -> None:
    """One of them read further, in different sizes."""
    check(replace(every_kind(), head=None, outputs=("pw", "fc")))
