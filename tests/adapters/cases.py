"""Adapted layers of every geometry, with cores, for the tests beside this file."""

import torch
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.cores import Cores
from metalora.adapters.formats import make_format
from metalora.adapters.forward_context import forward_context
from metalora.adapters.layers import ADAPTED, Adapter
from metalora.adapters.methods import METHODS
from metalora.util.seeding import seeded_generator

RANK = 2
GEOMETRIES = {
    "1x1": {"kernel_size": 1},
    "3x3": {"kernel_size": 3, "padding": 1},
    "5x5 without padding": {"kernel_size": 5},
    "3x1": {"kernel_size": (3, 1), "padding": (1, 0)},
    "1x5": {"kernel_size": (1, 5), "padding": (0, 2)},
    "stride 2": {"kernel_size": 3, "stride": 2, "padding": 1},
    "stride (2, 1)": {"kernel_size": 3, "stride": (2, 1), "padding": (0, 2)},
    "same": {"kernel_size": 3, "padding": "same"},
    "same, dilation": {"kernel_size": (5, 3), "padding": "same", "dilation": (1, 2)},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "reflect, same": {"kernel_size": 3, "padding": "same", "padding_mode": "reflect"},
    "replicate": {"kernel_size": 3, "padding": (1, 2), "padding_mode": "replicate"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "groups, stride, circular": {"kernel_size": 3, "padding": 1, "groups": 3, "stride": 2, "padding_mode": "circular"},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 6},
    "no bias": {"kernel_size": 3, "bias": False},
}


# Methods with an equation of their own; those of the others are built on them.
EQUATIONS = (
    *("lora", "multi-lora", "metalora-cp", "metalora-tr", "metalora-tucker"),
    *("lora-mixture", "molora", "condconv", "bottleneck"),
)
# What the others are with their tensors contracted.
BUILT_ON = {
    "full": "lora",
    "fact-tt": "lora",
    "fact-tucker": "lora",
    "metalora-tt": "metalora-tucker",
    "moelora": "lora-mixture",
    "mtlora": "lora-mixture",
    "lora-per-task": "lora-mixture",
}


def config_of(method, rank=RANK, **settings):
    return AdapterConfig(method=method, rank=rank, branches=2, **settings).with_tasks(3)


def make_layer(base, method, randomise, *, alpha=None, dropout=0.0, rank=RANK, **kwargs):
    config = config_of(method, rank, alpha=alpha)
    adapter = Adapter(
        base, make_format(config, rank, len(base.weight)), config.scale(rank), dropout, seeded_generator(0)
    )
    randomise(adapter)
    kind = nn.Linear if isinstance(base, nn.Linear) else nn.Conv2d
    return ADAPTED[kind]("layer", base, adapter, **kwargs)


def make_core(method, count, rank=RANK, seed=3):
    if not METHODS[method].generated:
        return None
    shape = make_format(config_of(method, rank), rank, 1).core_shape
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(layer, x, core):
    with forward_context(cores=None if core is None else Cores({"layer": core})):
        return layer(x)


def relative_error(found, wanted):
    assert found.shape == wanted.shape
    return float((found - wanted).detach().norm() / wanted.detach().norm())
