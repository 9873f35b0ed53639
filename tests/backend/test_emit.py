"""The generated library on the host: every tensor and score equals the reference executor's."""

from __future__ import annotations

import numpy as np
import pytest

from backend.host_library import build
from etinynet.graph import execute_all
from graph_cases import random_graph, random_image

FORMS = {"portable": (), "dsp": ("-DETN_EMULATE_DSP",)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(6))
def test_equals_reference(tmp_path, seed, form):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    library = build(tmp_path, graph, FORMS[form])
    for mode in ("rows", "frame"):
        image = random_image(rng, graph)
        expected = execute_all(graph, image)
        status, scores, tensors = library.run(image, mode)
        assert status == 0
        assert set(tensors) == set(expected) - {graph.input}
        for name, values in tensors.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=name)
        np.testing.assert_array_equal(scores, expected[graph.output].reshape(-1))
