"""A narrower network cut out of a trained one: its most important channels are the start."""

from __future__ import annotations

import torch
from torch import Tensor

from etinynet.errors import ConfigError
from etinynet.model.blocks import ConvUnit
from etinynet.model.config import EtinyNetConfig, NetworkConfig
from etinynet.model.etinynet import EtinyNet
from etinynet.model.networks import Network

__all__ = ["narrowed"]


def narrowed(source: Network, config: NetworkConfig) -> EtinyNet:
    """The network of `config`, its weights those of the channels of `source` that matter most.

    A channel matters by how much its variation moves what reads it: the deviation that its
    normalization gives it, times the norm of the weights behind. Shortcuts join channels, which
    are kept or left together. Raises ConfigError where `config` is not `source`'s narrower twin:
    the same kinds, strides and number of blocks, classes and order of normalization.
    """
    if not isinstance(config, EtinyNetConfig) or not isinstance(source, EtinyNet):
        raise ConfigError(
            f"{config.name}: cannot be cut out of {source.config.name}; both have to be EtinyNets"
        )
    _check(source.config, config)
    kept = _kept(source, config)
    result = EtinyNet(config)
    _copy_unit(result.stem, source.stem, kept[0], None)
    inner = kept[0]
    for new, old, outer in zip(result.blocks, source.blocks, kept[1:], strict=True):
        _copy_unit(new.dw1, old.dw1, inner, None)
        _copy_unit(new.pw, old.pw, outer, inner)
        _copy_unit(new.dw2, old.dw2, outer, None)
        inner = outer
    if result.classifier is not None and source.classifier is not None:
        with torch.no_grad():
            result.classifier.weight.copy_(source.classifier.weight[:, inner])
            result.classifier.bias.copy_(source.classifier.bias)
    return result


def _check(wide: EtinyNetConfig, narrow: EtinyNetConfig) -> None:
    for field in ("classes", "normalization", "activation_clip"):
        if getattr(wide, field) != getattr(narrow, field):
            raise ConfigError(
                f"{narrow.name}: {field} is {getattr(narrow, field)!r}; "
                f"{wide.name}, of which it is to be a part, has {getattr(wide, field)!r}"
            )
    shapes = [[(b.kind, b.stride, b.first_shortcut) for b in one.blocks] for one in (wide, narrow)]
    if shapes[0] != shapes[1]:
        raise ConfigError(f"{narrow.name}: its blocks are not those of {wide.name}, narrower")
    pairs = [(wide.stem_channels, narrow.stem_channels)]
    pairs += [
        (a.out_channels, b.out_channels) for a, b in zip(wide.blocks, narrow.blocks, strict=True)
    ]
    for many, few in pairs:
        if few > many:
            raise ConfigError(f"{narrow.name}: {few} channels; {wide.name} has {many} there")


def _deviation(unit: ConvUnit) -> Tensor:
    return unit.norm.weight.detach().abs()


def _behind(unit: ConvUnit) -> Tensor:
    """Norm of the weights that read each input channel of a pointwise unit, or of a depthwise."""
    weight = unit.conv.weight.detach()
    axes = (1, 2, 3) if unit.conv.groups > 1 else (0, 2, 3)
    return weight.square().sum(axes).sqrt()


def _kept(source: EtinyNet, config: EtinyNetConfig) -> list[Tensor]:
    """Indices of the channels kept: after the stem, then after each block, in rising order."""
    blocks = list(source.blocks)
    scores = [_deviation(source.stem) * _behind(blocks[0].dw1) * _deviation(blocks[0].dw1)]
    for index, block in enumerate(blocks):
        score = _deviation(block.pw) + _deviation(block.dw2)
        if index + 1 < len(blocks):
            after = blocks[index + 1]
            score = score * _deviation(after.dw1) * _behind(after.pw)
        elif source.classifier is not None:
            score = score * source.classifier.weight.detach().norm(dim=0)
        scores.append(score / score.mean())
    counts = [config.stem_channels, *(block.out_channels for block in config.blocks)]
    group = list(range(len(scores)))
    for index, block in enumerate(blocks):
        if block.first_shortcut:
            group[index + 1] = group[index]
    kept = []
    for index, count in enumerate(counts):
        members = [s for s, number in zip(scores, group, strict=True) if number == group[index]]
        best = torch.stack(members).sum(0).topk(count).indices
        kept.append(best.sort().values)
    return kept


@torch.no_grad()
def _copy_unit(new: ConvUnit, old: ConvUnit, outer: Tensor, inner: Tensor | None) -> None:
    weight = old.conv.weight[outer]
    new.conv.weight.copy_(weight if inner is None else weight[:, inner])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(new.norm, name).copy_(getattr(old.norm, name)[outer])
