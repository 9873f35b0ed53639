"""The integer graph: its parts (ir), rules (check), meaning (execute) and file (io)."""

from etinynet.graph.check import check
from etinynet.graph.execute import execute, execute_all
from etinynet.graph.io import graph_from_bytes, graph_to_bytes, read_graph
from etinynet.graph.ir import Graph, Op, Requantization, Tensor

__all__ = [
    "Graph",
    "Op",
    "Requantization",
    "Tensor",
    "check",
    "execute",
    "execute_all",
    "graph_from_bytes",
    "graph_to_bytes",
    "read_graph",
]
