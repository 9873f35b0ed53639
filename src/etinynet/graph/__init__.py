"""The integer graph: parts (ir, ops, precision), rules (check), meaning (execute), file (io)."""

from etinynet.graph.check import check
from etinynet.graph.execute import execute, execute_all
from etinynet.graph.io import graph_from_bytes, graph_to_bytes, read_graph
from etinynet.graph.ir import Classification, Graph, Op, Requantization, Tensor, Window
from etinynet.graph.precision import INT8, MIXED, PRECISIONS, Precision, get_precision

__all__ = [
    "INT8",
    "MIXED",
    "PRECISIONS",
    "Classification",
    "Graph",
    "Op",
    "Precision",
    "Requantization",
    "Tensor",
    "Window",
    "check",
    "execute",
    "execute_all",
    "get_precision",
    "graph_from_bytes",
    "graph_to_bytes",
    "read_graph",
]
