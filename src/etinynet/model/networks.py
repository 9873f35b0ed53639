"""From a configuration to its torch module, whatever the family; untrained ones to measure."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from etinynet.model.config import EtinyNetConfig, NetworkConfig
from etinynet.model.etinynet import EtinyNet
from etinynet.model.mobilenet import MobileNet

__all__ = ["FeatureMap", "Network", "build", "build_untrained"]

#: A network of any family.
Network = EtinyNet | MobileNet


def build(config: NetworkConfig) -> Network:
    """The module of `config`, in training mode, its weights random."""
    return EtinyNet(config) if isinstance(config, EtinyNetConfig) else MobileNet(config)


class FeatureMap(nn.Module):
    """`network` up to its last feature map, (N, feature_channels, H', W')."""

    #: The name of the network in it.
    PART = "network"

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), pixel minus 128, to the map."""
        return self.network.features(x)


@torch.no_grad()
def build_untrained(config: NetworkConfig, inputs: Tensor, seed: int = 0) -> Network:
    """The module of `config` in evaluation mode: random weights, normalizations fitted to `inputs`.

    `inputs` (N, 3, size, size), pixel minus 128: each normalization has the means and variances of
    this batch, so that every layer's outputs vary as in a trained network. For measurements that
    do not need one. The same `seed` gives the same network; the caller's random state is kept.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean over all batches, of which there is one
    model(inputs)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return model.eval()
