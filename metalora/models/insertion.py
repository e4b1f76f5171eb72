"""Adapted layers and trained copies, put into the places of a network; their trained parts form a tree of their own."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import Format, make_format
from metalora.adapters.layers import ADAPTED, AdaptedLayer, Adapter, trained_dtype
from metalora.adapters.methods import method
from metalora.adapters.places import weight_of
from metalora.adapters.targets import Selection, leave_out, select_layers, stem_of
from metalora.adapters.tokens import AdaptedTokens, Tokens
from metalora.adapters.trained_copy import TrainedCopy, modules_to_save
from metalora.models.backbones import Backbone
from metalora.models.survey import Survey
from metalora.util.seeding import seeded_generator


def choose_layers(
    backbone: Backbone, config: AdapterConfig, seen: Survey | None
) -> tuple[Selection, Mapping[str, nn.Module]]:
    """Return the layers to adapt, and the modules to train as a whole, by name.

    Args:
        backbone: not adapted yet.
        config: of the adapters.
        seen: what a pass of the backbone showed; None before one.
    """
    stem = next(iter(backbone.stages), None) if config.extractor == "stem" and config.generates else None
    kind = method(config.method)
    unsuited = seen.unsuited(generated=kind.generated) if seen else None
    selection = select_layers(backbone.net, config, stem, unsuited) if kind.format is not None else Selection({})
    copied = modules_to_save(backbone.net, config.modules_to_save)
    return leave_out(selection, copied, stem_of(backbone.net, stem)), copied


def insert_adapters(
    backbone: Backbone, ranks: Mapping[str, int], config: AdapterConfig, trained: nn.Module
) -> dict[str, AdaptedLayer]:
    """Replace layers by adapted ones, in all places that a layer has; return name → adapted layer.

    Args:
        backbone: its network is changed in place.
        ranks: layer name → rank.
        config: of the adapters; its seed draws first values.
        trained: gets the adapters, as "adapters.NAME".
    """
    net, layers = backbone.net, {}
    places = _places(net)
    shared: dict[tuple[Any, ...], nn.Parameter] = {}
    for index, (name, rank) in enumerate(ranks.items()):
        base: Any = net.get_submodule(name)
        rng = seeded_generator(config.seed, index)
        format, dtype = make_format(config, rank, len(weight_of(base))), trained_dtype(base, config)
        adapter = Adapter(base, format, config.scale(rank), config.dropout, rng, dtype)
        for kept in format.shared:  # the first layer's of that shape
            own = getattr(adapter, kept)
            setattr(adapter, kept, shared.setdefault((kept, weight_of(base).shape, rank, own.dtype), own))
        layers[name] = _adapted(base, format)(name, base, adapter, rows_by_image=backbone.rows_by_image)
        _put(net, places[base], layers[name])
        _add(trained, f"adapters.{name}", adapter)
    return layers


def insert_copies(
    net: nn.Module, modules: Mapping[str, nn.Module], config: AdapterConfig, trained: nn.Module
) -> dict[str, TrainedCopy]:
    """Replace modules by copies that are trained; return name → what took the module's place.

    Args:
        net: changed in place.
        modules: name → module.
        config: says the precision.
        trained: gets the copies, as "modules_to_save.NAME".
    """
    saved, places = {}, _places(net)
    for name, base in modules.items():
        copied = copy.deepcopy(base).requires_grad_(True)
        if config.adapter_dtype == "float32":
            for parameter in copied.parameters():
                if parameter.dtype in (torch.float16, torch.bfloat16):
                    parameter.data = parameter.data.float()
        saved[name] = TrainedCopy(name, base, copied)
        _put(net, places[base], saved[name])
        _add(trained, f"modules_to_save.{name}", copied)
    return saved


def _adapted(base: nn.Module, format: Format) -> type[AdaptedLayer]:
    if isinstance(format, Tokens):
        return AdaptedTokens
    return ADAPTED[nn.Linear if isinstance(base, nn.Linear) else nn.Conv2d]


def _places(net: nn.Module) -> dict[nn.Module, list[str]]:
    """Return every module of a network → all its names."""
    places: dict[nn.Module, list[str]] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        places.setdefault(module, []).append(name)
    return places


def _put(net: nn.Module, names: list[str], module: nn.Module) -> None:
    for name in names:
        net.set_submodule(name, module)


def _add(parent: nn.Module, name: str, module: nn.Module) -> None:
    """Add a module under a dotted name, with modules on the way where there are none."""
    *path, last = name.split(".")
    for part in path:
        if part not in parent._modules:
            parent.add_module(part, nn.Module())
        parent = parent.get_submodule(part)
    parent.add_module(last, module)
