"""What an adapter costs: parameters and floating-point operations, layer by layer."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from metalora.adapters.cores import Cores
from metalora.adapters.forward_context import forward_context
from metalora.adapters.layers import AdaptedLayer
from metalora.models.backbones import Backbone
from metalora.models.context import reader_of
from metalora.models.mapping_net import MappingNet
from metalora.models.task_net import TaskNet

COLUMNS = ["adapter_parameters", "generator_parameters", "frozen_parameters"]
# The product that is added in place costs what the other does; torch counts only that.
IN_PLACE = {torch.ops.aten.baddbmm_: flop_registry[torch.ops.aten.baddbmm].__wrapped__}
FLOPS = ["adapter_flops", "generator_flops", "frozen_flops"]


def count_flops(call: Callable[[], object]) -> int:
    """Count the floating-point operations of a call, by torch's own counter (a multiply-add counts as two)."""
    return flops_by_module(call).get("Global", 0)


def flops_by_module(call: Callable[[], object]) -> dict[str, int]:
    """Count them by module: path from the class of the module called, such as "Backbone.net.conv1" → operations."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        call()
    return {path: sum(counts.values()) for path, counts in counter.get_flop_counts().items()}


def count_trainable(trained: nn.Module, frozen: nn.Module) -> str:
    """Say how many parameters are trained, of how many, in the words of PEFT."""
    count, rest = _count(trained), _count(frozen)
    share = 100 * count / max(1, count + rest)
    return f"trainable params: {count:,} || all params: {count + rest:,} || trainable%: {share:.4f}"


def budget(model: Any, example: Tensor, cores: Cores | None) -> pd.DataFrame:
    """Build a row per adapted layer, per left-out layer, for the rest of the backbone, the generator, and a total.

    Columns: "adapter_parameters" (trained, static), "generator_parameters" (trained; those of a layer map the code to
    its core, and to the variances of a Gaussian one), "frozen_parameters", and the FLOPs of each for one image, in use,
    which needs no variance. The row "(mapping)" is what all layers share, "(context)" what embeds sets without cores,
    "(extractor)" the features' cost, "(rest of the backbone)" its unadapted modules. "note" says why a layer is left
    out, and how many numbers folded BatchNorms take in memory beside the parameters.

    Args:
        model: an `AdaptedModel`.
        example: one image.
        cores: of the example; None for a static method.
    """
    backbone, layers, left_out = model.backbone, model.layers, model.left_out
    mapping = model.mapping if model.config.generates else None
    # The stem is read in the embedding's own pass.
    extractor = None if model.config.extractor == "stem" else model.extractor
    saved = {name: wrapper.copy for name, wrapper in model.saved_modules.items()}
    names = [
        *layers,
        *left_out,
        *(f"{name} (trained)" for name in saved),
        "(rest of the backbone)",
        *(["(mapping)"] if mapping else []),
        *(["(context)"] if model.context is not None else []),
        *(["(extractor)"] if reader_of(model) is not None else []),
    ]
    rows: dict[str, dict] = {name: dict.fromkeys([*COLUMNS, *FLOPS], 0) | {"note": ""} for name in names}
    frozen, updated, others = _layer_flops(backbone, layers, example, cores)
    counted: set[nn.Parameter] = set()
    for name, layer in layers.items():
        rows[name] |= _layer_row(layer, cores, mapping, counted)
        rows[name] |= {"frozen_flops": frozen[name], "adapter_flops": updated[name] - frozen[name]}
    for name, reason in left_out.items():
        rows[name] |= {"frozen_parameters": _count(backbone.net.get_submodule(name)), "note": reason}
    for name, module in saved.items():
        rows[f"{name} (trained)"] |= {"adapter_parameters": _count(module)}
    rest = _count(backbone.net) - sum(row["frozen_parameters"] for row in rows.values())
    copies = sum(fold.conv.weight.numel() for fold in backbone.folds)
    note = f"{copies:,} more numbers in memory: weights of convolutions with their BatchNorm folded in"
    rows["(rest of the backbone)"] |= {
        "frozen_parameters": rest,
        "frozen_flops": others,
        "note": note if copies else "",
    }
    if mapping is not None:
        rows["(mapping)"] |= _mapping_row(mapping)
    if model.context is not None:
        passes = sum((*updated.values(), others)) + (count_flops(lambda: extractor(example)) if extractor else 0)
        flops = count_flops(lambda: model(example)) - passes
        rows["(context)"] |= {"generator_parameters": _count(model.context), "generator_flops": max(0, flops)}
    if extractor is not None:
        flops = count_flops(lambda: extractor(example))
        rows["(extractor)"] |= {"frozen_parameters": _count(extractor), "generator_flops": flops}
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")
    total = pd.DataFrame([frame[[*COLUMNS, *FLOPS]].sum()], index=pd.Index(["total"], name="layer")).assign(note="")
    return pd.concat([frame, total])


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layer_row(
    layer: AdaptedLayer, cores: Cores | None, mapping: MappingNet | TaskNet | None, counted: set[nn.Parameter]
) -> dict[str, int]:
    """Count a layer's parameters; those that it shares with a layer before it are `counted` already."""
    core = math.prod(layer.adapter.format.core_shape) if cores is not None else 0
    own = set(layer.adapter.parameters()) - counted
    counted |= own
    row = {"adapter_parameters": sum(p.numel() for p in own), "frozen_parameters": _count(layer.base)}
    if mapping is None:
        row["adapter_parameters"] += core  # a constant one
        return row
    inputs = mapping.head.in_features if mapping.head else 0
    own_part = core * sum(map(_count, _heads(mapping))) // mapping.total
    return row | {"generator_parameters": own_part, "generator_flops": 2 * core * inputs}


def _mapping_row(mapping: MappingNet | TaskNet) -> dict[str, int]:
    """Count what all layers share: all but the heads."""
    features, heads = mapping.identity.new_zeros(1, mapping.width), _heads(mapping)
    used = heads if mapping.training else heads[:1]
    flops = count_flops(lambda: mapping.cores(mapping.codes(features))) - sum(2 * head.weight.numel() for head in used)
    return {"generator_parameters": _count(mapping) - sum(map(_count, heads)), "generator_flops": flops}


def _heads(mapping: MappingNet | TaskNet) -> list[nn.Linear]:
    """Return the last layers, which have outputs for each value of the cores."""
    return [head for head in (mapping.head, mapping.log_variance) if head is not None]


def _layer_flops(
    backbone: Backbone, layers: Mapping[str, AdaptedLayer], example: Tensor, cores: Cores | None
) -> tuple[dict[str, int], dict[str, int], int]:
    """Count FLOPs of every adapted layer's base alone, and with its update, and of all else in the backbone."""
    with forward_context(cores=cores, apart=True):
        counts = flops_by_module(lambda: backbone(example))
    frozen, updated = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)
    # A layer in several places is counted under one of its names.
    for name, module in backbone.named_modules(remove_duplicate=False):
        if isinstance(module, AdaptedLayer):
            path = f"{type(backbone).__name__}.{name}"
            updated[module.name] += counts.get(path, 0)
            frozen[module.name] += counts.get(f"{path}.base", 0)
    return frozen, updated, counts.get("Global", 0) - sum(updated.values())
