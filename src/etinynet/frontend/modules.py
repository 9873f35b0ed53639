"""Any torch module as a float graph: traced by torch.export, its operations fused into layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from etinynet.errors import UnsupportedError
from etinynet.frontend.float_graph import FloatGraph, Layer
from etinynet.frontend.operations import OPERATIONS
from etinynet.frontend.tracer import Traced, Tracer, parents_of

__all__ = ["float_graph"]


def float_graph(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    rename: Callable[[str], str] = lambda path: path,
) -> FloatGraph:
    """The layers of `module` in evaluation mode, for one image (height, width, channels).

    The module is called with a float batch (N, channels, height, width) and returns one tensor, or
    a tuple or list of them: the graph's outputs. A layer is named after the smallest submodule that
    holds its weights and no other layer's, given through `rename`. The layers of the smallest
    submodule that holds several are a stage. Raises UnsupportedError naming the submodule and the
    operation where the integer graph has no form for it.
    """
    traced = _export(module, input_shape)
    tracer = Tracer(traced, OPERATIONS, rename)
    for node in traced.nodes:
        tracer.visit(node)
    layers = tuple(draft.layer() for draft in tracer.drafts.values())
    return FloatGraph(layers, input_shape, tracer.outputs, _stages(tracer.paths, layers))


def _export(module: nn.Module, input_shape: tuple[int, int, int]) -> Traced:
    height, width, channels = input_shape
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    image = torch.zeros(1, channels, height, width, dtype=dtype)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        program = torch.export.export(module, (image,))
    except Exception as error:  # whatever the user's forward raises
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedError(
            f"{type(module).__name__}: cannot be traced for an image of {input_shape}: {reason}"
        ) from None
    finally:
        for part in training:
            part.training = True
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    state = dict(program.state_dict) | dict(program.constants)
    names |= signature.inputs_to_lifted_tensor_constants
    constants = {name: state[stored].detach() for name, stored in names.items() if stored in state}
    (picture,) = signature.user_inputs
    return Traced(tuple(program.graph.nodes), constants, str(picture))


def _stages(paths: dict[str, str], layers: Sequence[Layer]) -> tuple[tuple[str, ...], ...]:
    """Layers with weights by the smallest submodule, not the whole, that holds several of them."""
    counts: dict[str, int] = {}
    for path in paths.values():
        for parent in parents_of(path):
            counts[parent] = counts.get(parent, 0) + 1
    stages: dict[str, list[str]] = {}
    for layer in layers:
        if layer.weight is None or layer.name not in paths:
            continue
        around = [p for p in parents_of(paths[layer.name]) if p and counts[p] > 1]
        stages.setdefault(around[0] if around else f"/{layer.name}", []).append(layer.name)
    return tuple(map(tuple, stages.values()))
