"""An ordinary module with the update of one sample's cores added to the weights."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from metalora.adapters.cores import Cores
from metalora.adapters.layers import AdaptedLayer
from metalora.adapters.trained_copy import TrainedCopy
from metalora.models.backbones import Backbone
from metalora.models.extractors import silence_stages
from metalora.models.folding import unfold_batchnorm
from metalora.models.normalise import Normalise
from metalora.util.errors import InputError


@torch.no_grad()
def plain_network(backbone: Backbone, layers: Mapping[str, AdaptedLayer], cores: Cores | None) -> nn.Module:
    """Build a copy of an adapted backbone that consists of torch's own modules, its updates in the weights.

    Args:
        backbone: with adapted layers.
        layers: name → adapted layer.
        cores: of one sample; None for a static format.

    Raises:
        InputError: no weights give the updates, or the cores are of several samples.
    """
    if cores is not None and len(cores) != 1:
        raise InputError(f"One core can be folded at a time, not {len(cores)}: choose one, as in cores[0].")
    for adapted in layers.values():
        if reason := adapted.adapter.format.not_a_weight:
            raise InputError(f"This adapter cannot be folded into weights, since {reason}: use it as it is.")
    net = _bare(backbone, trained=True)
    for name, adapted in layers.items():
        layer: Any = net.get_submodule(name)
        core = None if cores is None else cores[name]
        # New parameters, since a weight may be tied to another layer's.
        layer.weight = nn.Parameter(layer.weight + adapted.delta(core)[0], requires_grad=False)
        offset = adapted.bias_delta(core)
        if offset is not None:
            bias = offset[0] if layer.bias is None else layer.bias + offset[0]
            layer.bias = nn.Parameter(bias.clone(), requires_grad=False)
    if backbone.name is None:
        return net
    plain = nn.Sequential(copy.deepcopy(backbone.preprocess), net)
    for name, module in list(plain[0].named_modules(prefix="0")):
        if isinstance(module, Normalise):
            plain.set_submodule(name, module.plain())
    return plain


def unadapted(backbone: Backbone) -> Backbone:
    """Return a copy of an adapted backbone as it was before it was adapted."""
    kinds: dict[str, Any] = {"name": backbone.name, "image_size": backbone.image_size, "known": backbone.known}
    made = Backbone(
        _bare(backbone, trained=False),
        preprocess=copy.deepcopy(backbone.preprocess),
        stages=dict(backbone.stages),
        rows_by_image=backbone.rows_by_image,
        **kinds,
    )
    made.old_features = backbone.old_features
    return made


def _bare(backbone: Backbone, *, trained: bool) -> nn.Module:
    """Return a copy of an adapted network without its adapters; with modules trained as a whole, or the frozen ones."""
    net = copy.deepcopy(backbone.net)
    for alias, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, TrainedCopy) and trained:
            net.set_submodule(alias, module.copy.requires_grad_(False).to(next(module.base.parameters()).dtype))
        elif isinstance(module, AdaptedLayer | TrainedCopy):
            net.set_submodule(alias, module.base)
    silence_stages(net, [*backbone.stages, *([backbone.head] if backbone.head else [])])
    unfold_batchnorm(net)
    return net
