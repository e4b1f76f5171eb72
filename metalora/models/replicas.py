"""Replicas of `nn.DataParallel`, whose connections lead to the original's parts until they are made anew."""

from typing import cast

from torch import nn

from metalora.adapters.layers import AdaptedLayer, Adapter
from metalora.adapters.trained_copy import TrainedCopy
from metalora.models.backbones import Backbone
from metalora.models.extractors import NetworkExtractor
from metalora.models.folding import remove_folds


def link_replica(
    frozen: nn.ModuleDict, trained: nn.Module, extractor: nn.Module | None
) -> tuple[dict[str, AdaptedLayer], dict[str, TrainedCopy]]:
    """Connect the parts of a replica with each other; return its adapted layers and trained copies by name.

    Args:
        frozen: of the replica, with the backbone.
        trained: of the replica.
        extractor: of the replica; None where nothing is generated.
    """
    backbone = cast(Backbone, frozen["backbone"])
    linked = _relink(backbone.net, trained)
    if isinstance(extractor, NetworkExtractor):
        extractor._backbone = (extractor.own if extractor.own is not None else backbone,)
    for module in frozen.modules():
        if isinstance(module, Backbone):
            module.folds = []
    remove_folds(frozen)
    return linked


def _relink(net: nn.Module, trained: nn.Module) -> tuple[dict[str, AdaptedLayer], dict[str, TrainedCopy]]:
    """Connect what stands in a replica of a network with the replica's trained parts; return both by name."""
    layers, saved = {}, {}
    for module in net.modules():
        if isinstance(module, AdaptedLayer):
            layers[module.name] = module
            module.link(cast(Adapter, trained.get_submodule(f"adapters.{module.name}")))
        elif isinstance(module, TrainedCopy):
            saved[module.name] = module
            module.link(trained.get_submodule(f"modules_to_save.{module.name}"))
    return layers, saved
