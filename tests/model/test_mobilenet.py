"""MobileNets against the papers' figures, their computed shapes and their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from etinynet.artefact import provenance
from etinynet.errors import ConfigError
from etinynet.model.blocks import ConvUnit
from etinynet.model.config import config_from_json, etinynet, named_config
from etinynet.model.etinynet import EtinyNet
from etinynet.model.mobilenet import MobileNet
from etinynet.model.mobilenet_config import MobileBlock, MobileNetConfig, mobilenet
from etinynet.model.narrow import narrowed
from etinynet.model.networks import build, build_untrained
from etinynet.model.shapes import layers, state_shapes
from etinynet.model.summary import summarize
from etinynet.model.weights import load_weights, save_weights


@pytest.mark.parametrize(
    ("version", "width", "macs", "parameters"),
    [
        (1, 1.0, 569e6, 4.2e6),
        (1, 0.25, 41e6, 0.47e6),
        (2, 1.0, 300e6, 3.5e6),
        (2, 0.35, 59e6, 1.7e6),
    ],
)
def test_counts_are_the_papers(version: int, width: float, macs: float, parameters: float) -> None:
    """Table 7 of Howard et al.; table 4 and section 6.1 of Sandler et al., which give 3.4M."""
    summary = summarize(mobilenet(version, width))
    assert summary.macs == pytest.approx(macs, rel=0.01)
    assert summary.parameters == pytest.approx(parameters, rel=0.015)
    assert summary.paper is None


def test_channels_of_the_narrow_ones() -> None:
    one, two = mobilenet(1, 0.25), mobilenet(2, 0.35)
    assert [block.out_channels for block in one.blocks] == [
        16,
        *[32] * 2,
        *[64] * 2,
        *[128] * 6,
        *[256] * 2,
    ]
    assert (one.stem_channels, one.head_channels) == (8, 0)
    assert [block.out_channels for block in two.blocks] == (
        [8, *[8] * 2, *[16] * 3, *[24] * 4, *[32] * 3, *[56] * 3, 112]
    )  # fmt: skip
    assert (two.stem_channels, two.head_channels) == (16, 1280)
    assert [i for i, block in enumerate(two.blocks) if block.stride == 2] == [1, 3, 6, 13]
    assert [i for i, b in enumerate(two.blocks) if b.shortcut] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("classes", [0, 10])
def test_shapes_and_arrays_are_the_models(version: int, classes: int) -> None:
    config = mobilenet(version, 0.25, classes, 41)
    model = MobileNet(config).eval()
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, ConvUnit):
            module.register_forward_hook(
                lambda _module, _input, output, name=name: seen.update({name: output.shape})
            )
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 41, 41)).shape == (2, classes or config.feature_channels)
    units = [layer for layer in layers(config) if layer.is_unit]
    assert list(seen) == [layer.name for layer in units]
    for layer in units:
        _, channels, height, width = seen[layer.name]
        assert layer.output == (height, width, channels), layer.name
    state = model.state_dict()
    real = {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert list(state_shapes(config).items()) == list(real.items())


def test_every_activation_is_a_relu6_and_projections_are_linear() -> None:
    model = MobileNet(mobilenet(2, 0.35, 10, 32))
    assert model.stem.ceiling == model.head.ceiling == 6.0
    assert [unit.ceiling for unit in (model.blocks[1].expand, model.blocks[1].dw)] == [6.0, 6.0]
    assert (model.blocks[1].pw.activated, model.blocks[1].pw.ceiling) == (False, None)
    assert model.blocks[0].expand is None
    assert MobileNet(mobilenet(1, 0.25, 10, 32)).blocks[0].pw.ceiling == 6.0
    high = model.stem(torch.full((1, 3, 32, 32), 1e4))
    assert high.min() >= 0
    assert high.max() <= 6


@pytest.mark.parametrize("name", ["mobilenet-v1-0.25", "mobilenet-v2-0.35"])
def test_file_and_json_give_the_network_back(tmp_path: Path, name: str) -> None:
    config = named_config(name, 3, 32)
    assert config.name == name
    assert config_from_json(json.loads(json.dumps(config.to_json()))) == config
    model = build_untrained(config, torch.randn(4, 3, 32, 32) * 60)
    path = tmp_path / "model.safetensors"
    save_weights(path, model, provenance=provenance("test", {}))
    loaded = load_weights(path)
    assert loaded.config == config
    x = torch.randn(2, 3, 32, 32) * 60
    with torch.no_grad():
        assert torch.equal(loaded.model(x), model(x))


def test_an_untrained_network_is_the_same_again_and_its_outputs_vary() -> None:
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 60
    before = torch.random.get_rng_state()
    first, second = (build_untrained(mobilenet(1, 0.25, 4, 32), x, seed=5) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not first.training
    with torch.no_grad():
        assert torch.equal(first(x), second(x))
        assert torch.isfinite(first(x)).all()
        assert first(x).std(0).min() > 0.01
    assert {m.momentum for m in first.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


def test_build_knows_every_family() -> None:
    assert isinstance(build(etinynet(0.25, 2, 32)), EtinyNet)
    assert isinstance(build(mobilenet(2, 0.1, 2, 32)), MobileNet)


def test_no_part_of_a_mobilenet_is_cut_out() -> None:
    source = MobileNet(mobilenet(1, 0.25, 2, 32))
    for config in (etinynet(0.25, 2, 32), mobilenet(1, 0.1, 2, 32)):
        with pytest.raises(ConfigError, match=r"cannot be cut out of mobilenet-v1-0.25; both have"):
            narrowed(source, config)


SMALL = MobileNetConfig("m", 4, (MobileBlock(4, 8), MobileBlock(8, 8, 1, 3, True)), 5, 2, 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head_channels": -1}, "m: head_channels is -1; an integer 0 to 4096 is allowed"),
        ({"stem_channels": 5}, r"m: blocks\[0\].in_channels is 4; the layer before it gives 5"),
        ({"blocks": []}, r"m: 0 blocks; 1 to 256 are allowed"),
        ({"blocks": 3}, "config: blocks is 3; a list of blocks is allowed"),
        ({"blocks": [{"stride": 1}]}, "block: field 'in_channels' is missing"),
        ({"size": 7}, "m: size is 7; an integer 8 to 4096 is allowed"),
        ({"bn_epsilon": 0}, "m: bn_epsilon is 0; a number above 0 and up to 1 is allowed"),
        ({"stages": []}, "config: unknown field 'stages'; allowed: name, stem_channels, blocks"),
    ],
)  # fmt: skip
def test_bad_fields_are_refused_in_words(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config_from_json({**SMALL.to_json(), **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stride": 3}, "block: stride is 3; an integer 1 to 2 is allowed"),
        ({"expansion": 2000}, "block: expansion is 2000; an integer 1 to 1024 is allowed"),
        ({"inverted": 1}, "block: inverted is 1; true or false is allowed"),
        ({"out_channels": 0}, "block: out_channels is 0; an integer 1 to 4096 is allowed"),
    ],
)
def test_bad_blocks_are_refused_in_words(change: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MobileBlock(**{"in_channels": 4, "out_channels": 4, **change})


def test_names() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown network 'mobilenet-v3-1.0'; allowed: .*v2-<wid"
    ):
        named_config("mobilenet-v3-1.0")
    with pytest.raises(
        ConfigError, match=r"mobilenet: width is 9\.0; a number above 0 and up to 2"
    ):
        named_config("mobilenet-v1-9.0")
    with pytest.raises(ConfigError, match="mobilenet: version is 3; allowed: 1, 2"):
        mobilenet(3, 1.0)
    with pytest.raises(ConfigError, match="activation_clip is a field of EtinyNets only"):
        named_config("mobilenet-v1-0.25", activation_clip=12.0)
