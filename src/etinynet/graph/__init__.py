"""The integer graph: its parts (ir), operators (ops), rules (check), meaning (execute) and file (io)."""

from etinynet.graph.check import check
from etinynet.graph.execute import execute, execute_all
from etinynet.graph.io import graph_from_bytes, graph_to_bytes, read_graph
from etinynet.graph.ir import Classification, Graph, Op, Requantization, Tensor, Window

__all__ = [
    "Classification",
    "Graph",
    "Op",
    "Requantization",
    "Tensor",
    "Window",
    "check",
    "execute",
    "execute_all",
    "graph_from_bytes",
    "graph_to_bytes",
    "read_graph",
]
