"""What the layers' rounders are shown: moments of the calibration pictures, and of their crops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from lowering import steps_of, widths_of
from small_networks import ORDERS, SCORES, chain, layers_of, pictures, small_network
from torch import Tensor

from etinynet.frontend.float_graph import Layer, run_layer, run_layers
from etinynet.quantize.activations import ActivationRules
from etinynet.quantize.calibrate import calibrate
from etinynet.quantize.correct import round_and_correct, round_some
from etinynet.quantize.methods import rounder_of, start_rounder
from etinynet.quantize.quantizers import levels
from etinynet.quantize.rounding import InputMoments
from etinynet.quantize.sensitivity import output_sensitivity
from etinynet.quantize.weights import QuantizedWeight, lowest_code


def moments_of(inputs: Tensor) -> tuple[list[Layer], dict[str, InputMoments]]:
    """The float layers, and what each was shown at 8 bits."""
    layers = layers_of(small_network("conv_relu_bn"))
    batches, widths = [inputs], widths_of(layers, 8)
    importance = output_sensitivity(chain(layers), batches)
    rules = ActivationRules(chain(layers), calibrate(layers, batches), importance, widths)
    inner, shown = rounder_of("best", widths, True), {}

    def rounder(layer: Layer, moments: Callable[[], InputMoments]) -> QuantizedWeight:
        shown[layer.name] = moments()
        return inner(layer, lambda: shown[layer.name])

    round_and_correct(chain(layers), rounder, rules, batches)
    return layers, shown


@pytest.mark.parametrize(("side", "crop"), [(32, 32), (96, 64)])
def test_a_classifier_of_few_pictures_meets_their_crops_too(side: int, crop: int) -> None:
    """16 weights a class: 12 positions are few, and four corners, mirrored or not, are added."""
    x = pictures(12, side)
    layers, shown = moments_of(x)
    seen = [x]
    for top in (0, side - crop):
        for left in (0, side - crop):
            corner = x[:, :, top : top + crop, left : left + crop]
            seen += [corner, corner.flip(3)]
    features = [run_layers(layers, each)[layers[-1].input].flatten(1).double() for each in seen]
    wanted = torch.cat(features).T.cov(correction=0)
    assert shown[SCORES].count == 9 * 12
    found = shown[SCORES].central()[0]  # of features that 8 bits have changed a little
    assert float((found - wanted).norm() / wanted.norm()) < 0.15
    assert shown["b3.pw"].count == 12 * (side // 8) ** 2  # where there are many positions, no crops


def test_many_pictures_are_enough() -> None:
    _, shown = moments_of(pictures(128))
    assert shown[SCORES].count == 128


def before_relu(layer: Layer, x: Tensor) -> Tensor:
    """Mean of what its ReLU reads, of each channel."""
    one, zero = torch.ones_like(layer.gain), torch.zeros_like(layer.gain)
    bare = dataclasses.replace(layer, relu=False, gain=one, shift=zero)
    return run_layer(bare, x, None).mean((0, 2, 3))


@pytest.mark.parametrize("method", ["best", "asq"])
@pytest.mark.parametrize("order", ORDERS)
def test_some_layers_are_rounded_to_what_they_do_as_floats(order: str, method: str) -> None:
    """First the front, then the rest behind it: its ReLUs read the mean that they read before."""
    layers = layers_of(small_network(order, seed=4))
    widths, batches = widths_of(layers, 4), [pictures(16), pictures(16, seed=2)]
    rounder = start_rounder(method, widths)
    front, rest = list(widths)[:4], list(widths)[4:-1]
    once, integers = round_some(layers, front, rounder, batches)
    twice, others = round_some(once, rest, rounder, batches)
    assert (list(integers), list(others)) == (front, rest)
    x = torch.cat(batches)
    real, begun, done = (run_layers(each, x) for each in (layers, once, twice))
    for layer, before, after in zip(layers, once, twice, strict=True):
        assert (before is not layer) == (layer.name in front)
        assert (after is not before) == (layer.name in rest)
        weight = {**integers, **others}.get(layer.name)
        if weight is None:
            continue
        assert torch.equal(after.weight, weight.dequantized())
        lowest = lowest_code(layer.kind, 4) if method == "best" else -levels(4)
        assert lowest <= int(weight.integers.min())
        if layer.relu:
            wanted = real if layer.name in front else begun
            means = before_relu(layer, wanted[layer.input]), before_relu(after, done[layer.input])
            torch.testing.assert_close(*means, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("order", ORDERS)
def test_a_relu_reads_the_float_mean(order: str) -> None:
    """The first that follows a layer whose integers lose much: 3 bits."""
    layers = layers_of(small_network(order, seed=4))
    done = steps_of(layers, 3)
    stem, rounded = layers[0], done.corrected[0]
    x = torch.cat([pictures(16), pictures(16, seed=2)])
    wanted, found = before_relu(stem, x), before_relu(rounded, x)
    unbiased = before_relu(dataclasses.replace(rounded, bias=stem.bias), x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
    assert float((found - wanted).norm()) < 1e-2 * float((unbiased - wanted).norm())
