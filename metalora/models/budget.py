"""What an adapter costs: parameters and floating-point operations, layer by layer."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from metalora.adapters.forward_context import forward_context
from metalora.adapters.layers import AdaptedLayer
from metalora.util.errors import InputError

if TYPE_CHECKING:
    from metalora.models.adapted_model import AdaptedModel

COLUMNS = ["adapter_parameters", "generator_parameters", "frozen_parameters"]
# The product that is added in place costs what the other does; torch counts only that.
IN_PLACE = {torch.ops.aten.baddbmm_: flop_registry[torch.ops.aten.baddbmm].__wrapped__}
FLOPS = ["adapter_flops", "generator_flops", "frozen_flops"]


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of a call, by torch's own counter (a multiply-add counts as two)."""
    return flops_by_module(call).get("Global", 0)


def flops_by_module(call: Callable[[], object]) -> dict[str, int]:
    """The same by module: path from the class of the module called, such as "Backbone.net.conv1" → operations."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        call()
    return {path: sum(counts.values()) for path, counts in counter.get_flop_counts().items()}


def budget(model: "AdaptedModel") -> pd.DataFrame:
    """A row per adapted layer, per left-out layer, for the rest of the backbone, the generator, and a total.

    Columns: "adapter_parameters" (trained, static), "generator_parameters" (trained; a layer's share is
    what maps the code to its core), "frozen_parameters", and the FLOPs of each for one image. The row
    "(mapping)" is what all layers share, "(extractor)" the features' cost, "(rest)" the backbone's
    unadapted modules. "note" says why a layer is left out.

    Raises:
        InputError: sizes are only known from data, and there was none yet.
    """
    if model.example is None:
        raise InputError("Sizes are known after a first batch: call the model once, or give adapt() an example.")
    example = model.example
    rows = {name: dict.fromkeys([*COLUMNS, *FLOPS], 0) | {"note": ""} for name in _names(model)}
    frozen, total, backbone_flops = _layer_flops(model)
    for name, layer in model.layers.items():
        adapter, core = layer.adapter, math.prod(layer.adapter.format.core_shape)
        rows[name]["adapter_parameters"] = sum(p.numel() for p in adapter.parameters())
        rows[name]["frozen_parameters"] = sum(p.numel() for p in layer.base.parameters())
        rows[name]["frozen_flops"] = frozen[name]
        rows[name]["adapter_flops"] = total[name] - frozen[name]
        if model.config.generates:
            rows[name]["generator_parameters"] = core * model.mapping.head.in_features
            rows[name]["generator_flops"] = 2 * core * model.mapping.head.in_features
        elif model.generated:
            rows[name]["adapter_parameters"] += core
    for name, reason in model.left_out.items():
        left = model.backbone.net.get_submodule(name)
        rows[name] |= {"frozen_parameters": sum(p.numel() for p in left.parameters()), "note": reason}
    rest = rows["(rest of the backbone)"]
    parameters = sum(p.numel() for p in model.backbone.net.parameters())
    rest["frozen_parameters"] = parameters - sum(row["frozen_parameters"] for row in rows.values())
    rest["frozen_flops"] = backbone_flops - sum(frozen.values())
    if model.config.generates:
        mapping, extractor = rows["(mapping)"], rows["(extractor)"]
        shared = [p for name, p in model.mapping.named_parameters() if not name.startswith("head")]
        mapping["generator_parameters"] = sum(p.numel() for p in shared)
        features = model.features(example)
        heads = sum(row["generator_flops"] for row in rows.values())
        mapping["generator_flops"] = count_flops(lambda: model.cores(model.mapping.codes(features))) - heads
        extractor["generator_flops"] = _extractor_flops(model)
        extractor["frozen_parameters"] = sum(p.numel() for p in model.extractor.parameters())
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")
    total = pd.DataFrame([frame[[*COLUMNS, *FLOPS]].sum()], index=pd.Index(["total"], name="layer")).assign(note="")
    return pd.concat([frame, total])


def _names(model: "AdaptedModel") -> list[str]:
    generator = ["(mapping)", "(extractor)"] if model.config.generates else []
    return [*model.layers, *model.left_out, "(rest of the backbone)", *generator]


def _extractor_flops(model: "AdaptedModel") -> int:
    # The stem is part of the embedding's own pass.
    return 0 if model.config.extractor == "stem" else count_flops(lambda: model.features(model.example))


def _layer_flops(model: "AdaptedModel") -> tuple[dict[str, int], dict[str, int], int]:
    """FLOPs of every adapted layer's base alone, and with its update; of the whole backbone without updates."""
    cores = model.generate(model.example) if model.generated else None
    with forward_context(cores=cores):
        counts = flops_by_module(lambda: model.backbone(model.example))
    frozen, total = dict.fromkeys(model.layers, 0), dict.fromkeys(model.layers, 0)
    # A layer that stands in several places is counted under one of its names.
    for name, module in model.backbone.named_modules(remove_duplicate=False):
        if isinstance(module, AdaptedLayer):
            path = f"{type(model.backbone).__name__}.{name}"
            total[module.name] += counts.get(path, 0)
            frozen[module.name] += counts.get(f"{path}.base", 0)
    return frozen, total, counts.get("Global", 0) - sum(total.values()) + sum(frozen.values())
