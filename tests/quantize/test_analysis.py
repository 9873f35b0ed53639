"""Numbers of figures 3 and 4 and of noise, against NumPy; the authors' layer gives the paper's."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import layers_of
from torch import Tensor

from etinynet.errors import ToolError
from etinynet.quantize.analysis import nearest, occupancies, rescalings, signal_to_noise
from etinynet.quantize.figures import figure_3, figure_4

CLASSIFIER = "0.6553-imagenet-mobilenet_lite313_477k_nownorm_4433_224-293-best.params"


def weights(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.06 * torch.randn(64, 48, 1, 1, generator=generator)


@pytest.fixture(scope="module")
def authors_layer(shared_data: Path) -> Tensor:
    """The 512x256 pointwise weights, called features3.2 in the authors' file."""
    from etinynet.opened import load_params

    path = shared_data / "weights" / CLASSIFIER
    loaded, _ = load_params(path.read_bytes(), path.name)
    (weight,) = (x.weight for x in layers_of(loaded.model) if x.name == "b13.pw")
    assert weight is not None
    assert weight.shape == (512, 256, 1, 1)
    return weight


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_occupancies(bits: int) -> None:
    weight, top = weights(), 2 ** (bits - 1) - 1
    found = occupancies(weight, bits)
    assert [one.quantizer.split(",")[0] for one in found] == ["DoReFa", "ASQ", "ASQ"]
    squashed = np.tanh(weight.double().numpy().ravel())
    codes = np.round(top * squashed / np.abs(squashed).max())
    shares = np.array([(codes == level).mean() for level in range(-top, top + 1)])
    first = found[0]
    assert np.allclose(first.shares, shares)
    assert first.zeros == shares[top]
    assert first.occupied == (shares > 0).sum()
    assert first.visible == (shares > 0.001).sum()
    present = shares[shares > 0]
    assert first.entropy == pytest.approx(-(present * np.log(present)).sum())
    for one in found:
        assert sum(one.shares) == pytest.approx(1)
        assert one.normal.abs().max() == 1
        assert "normal" not in one.to_json()


def test_rescalings() -> None:
    weight = weights().double().numpy().ravel()
    found = rescalings(weights(), 4)
    assert [(p.multiply, p.lam) for p in found] == [
        (multiply, lam) for multiply in (False, True) for lam in (1, 2, 3, 4, 5)
    ]
    for point in found:
        hat = weight / np.sqrt(weight.var() + 1e-5)
        normal = np.tanh(hat * point.lam if point.multiply else hat / point.lam)
        normal /= np.abs(normal).max()
        quantized = np.round(7 * normal) / 7
        assert point.error == pytest.approx(((normal - quantized) ** 2).sum())
        shares = np.unique(quantized, return_counts=True)[1] / weight.size
        assert point.entropy == pytest.approx(-(shares * np.log(shares)).sum())
        assert point.deviation == pytest.approx(normal.std())


def test_both_readings_meet_at_one() -> None:
    found = rescalings(weights(), 4)
    assert found[0].error == found[5].error
    assert found[0].entropy == found[5].entropy


def test_the_paper_s_figure_3(authors_layer: Tensor) -> None:
    """ "Nearly 60 % of the parameters become zero", "only five valid quantized values"."""
    dorefa, start, searched = occupancies(authors_layer, 4)
    assert dorefa.zeros == pytest.approx(0.631, abs=0.001)
    assert dorefa.visible == 5
    assert start.zeros == pytest.approx(0.119, abs=0.001)
    assert start.visible == 15
    assert searched.zeros < 0.2


def test_the_paper_s_figure_4(authors_layer: Tensor) -> None:
    """J falls from beyond 180 to 87, as drawn, only where λ multiplies; E in both readings."""
    found = rescalings(authors_layer, 4)
    dividing, multiplying = found[:5], found[5:]
    assert [p.error for p in multiplying] == pytest.approx([224.3, 180.5, 136.3, 107.4, 87.4], 1e-3)
    assert [p.error for p in dividing] == pytest.approx([223.1] * 5, rel=0.01)
    for points in (dividing, multiplying):
        entropies = [p.entropy for p in points]
        assert entropies == sorted(entropies, reverse=True)
        assert 1.7 < entropies[-1] < entropies[0] < 2.7
    deviations = [p.deviation for p in dividing]  # "more centralized": only where λ divides
    assert deviations == sorted(deviations, reverse=True)
    assert multiplying[4].deviation > multiplying[0].deviation


def test_nearest_and_its_noise() -> None:
    weight = weights() * torch.linspace(0.01, 3, 64).reshape(-1, 1, 1, 1)
    found = nearest(weight, 4)
    assert list(found) == ["dorefa_symmetric", "asq_2", "asq_search", "uniform"]
    noise = {}
    for name, values in found.items():
        assert values.shape == weight.shape
        for channel, original in zip(values.flatten(1), weight.double().flatten(1), strict=True):
            assert len(channel.unique()) <= 15
            if name != "uniform":  # a least-squares scale leaves no error along the weights
                error = original - channel
                assert abs((error * channel).sum()) < 1e-9 * (original**2).sum()
        noise[name] = signal_to_noise(weight, values)
        error = weight.double() - values
        expected = 10 * torch.log10((weight.double() ** 2).sum() / (error**2).sum())
        assert noise[name] == pytest.approx(expected.item())
    assert noise["asq_search"] > noise["asq_2"]
    assert noise["uniform"] > 16


def test_no_noise() -> None:
    assert signal_to_noise(torch.ones(3), torch.ones(3)) is None
    assert signal_to_noise(torch.zeros(3), torch.zeros(3)) is None


def test_figures_are_pictures_and_the_same_again() -> None:
    weight = weights()
    draw = (
        lambda: figure_3("b0.pw", occupancies(weight, 4)),
        lambda: figure_4("b0.pw", weight, rescalings(weight, 4)),
    )
    for one in draw:
        picture = one()
        with Image.open(io.BytesIO(picture)) as opened:
            assert opened.format == "PNG"
            assert opened.width > 1000
            assert len(np.unique(np.asarray(opened.convert("L")))) > 20
        assert one() == picture


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ToolError, match=r"'matplotlib', .*, is not installed; .* '\.\[plot\]'"):
        figure_3("b0.pw", occupancies(weights(), 4))
