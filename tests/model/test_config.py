"""Configurations: the paper's two networks, widths, JSON, refusals in words."""

from __future__ import annotations

import json

import pytest

from etinynet.errors import ConfigError
from etinynet.model.config import (
    NAMES,
    Block,
    EtinyNetConfig,
    etinynet,
    etinynet_0_75,
    etinynet_1_0,
    named_config,
)


def _triples(config: EtinyNetConfig) -> list[tuple[int, int]]:
    return [(block.in_channels, block.out_channels) for block in config.blocks]


def test_channels_are_those_of_table_1():
    assert etinynet_1_0().stem_channels == 32
    assert _triples(etinynet_1_0()) == (
        [(32, 32)] * 4
        + [(32, 128)] + [(128, 128)] * 3
        + [(128, 192)] + [(192, 192)] * 2
        + [(192, 256), (256, 256), (256, 512)]
    )  # fmt: skip
    assert _triples(etinynet_0_75()) == (
        [(24, 24)] * 4
        + [(24, 96)] + [(96, 96)] * 3
        + [(96, 168)] + [(168, 168)] * 2
        + [(168, 192), (192, 192), (192, 384)]
    )  # fmt: skip


def test_strides_and_kinds_are_those_of_table_1():
    blocks = etinynet_1_0().blocks
    assert [i for i, block in enumerate(blocks) if block.stride == 2] == [4, 8, 11]
    assert [block.kind for block in blocks] == ["lb"] * 8 + ["dlb"] * 6
    assert [i for i, b in enumerate(blocks) if b.first_shortcut] == [9, 10, 12]


@pytest.mark.parametrize("width", [0.1, 0.25, 0.5, 0.75, 1.0, 1.4])
def test_json_round_trip(width):
    config = etinynet(width, 10, 96, activation_clip=12.0)
    assert EtinyNetConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_named():
    assert [named_config(name).name for name in NAMES] == list(NAMES)
    assert named_config("etinynet-0.5", 10, 96) == etinynet(0.5, 10, 96)
    with pytest.raises(ConfigError, match=r"unknown network 'resnet'; allowed: etinynet-1\.0"):
        named_config("resnet")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "name is ''"),
        ("name", "a\nb", "name is"),
        ("stem_channels", 0, "stem_channels is 0; an integer 1 to 4096"),
        ("stem_channels", 33, r"blocks\[0\].in_channels is 32; the layer before it gives 33"),
        ("classes", -1, "classes is -1; an integer 0 to 65535"),
        ("classes", True, "classes is True"),
        ("size", 7, "size is 7; an integer 8 to 4096"),
        ("size", 224.0, r"size is 224\.0"),
        ("normalization", "relu", "normalization is 'relu'; allowed: conv_bn_relu"),
        ("activation_clip", 0, "activation_clip is 0; None or a number above 0"),
        ("activation_clip", float("nan"), "activation_clip is nan"),
        ("bn_epsilon", 0.0, r"bn_epsilon is 0\.0"),
        ("stages", [], "0 blocks; 1 to 256"),
        ("stages", 3, "stages is 3; lists of blocks"),
        ("stages", [[]], "tuples of blocks"),
        ("stages", [[3]], "block: 3 is not a JSON object"),
    ],
)
def test_bad_field_is_refused_in_words(field, value, words):
    with pytest.raises(ConfigError, match=words):
        EtinyNetConfig.from_json({**etinynet_1_0().to_json(), field: value})


def test_unknown_and_missing_fields_are_refused():
    record = etinynet_1_0().to_json()
    with pytest.raises(ConfigError, match="unknown field 'colour'; allowed: name, stem_channels"):
        EtinyNetConfig.from_json({**record, "colour": 1})
    del record["size"]
    with pytest.raises(ConfigError, match="field 'size' is missing"):
        EtinyNetConfig.from_json(record)
    with pytest.raises(ConfigError, match="is not a JSON object"):
        EtinyNetConfig.from_json([])


@pytest.mark.parametrize("width", [0, -1, 9, "1", None])
def test_bad_width_is_refused(width):
    with pytest.raises(ConfigError, match="a number above 0 and up to 8"):
        etinynet(width)


def test_bad_block_is_refused():
    with pytest.raises(ConfigError, match="kind is 'mb'; allowed: lb, dlb"):
        Block("mb", 8, 8)
    with pytest.raises(ConfigError, match="stride is 3; an integer 1 to 2"):
        Block("lb", 8, 8, 3)
