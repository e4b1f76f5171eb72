"""A configuration before anything is trained: its layers and its budget."""

import contextlib
import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import format_class
from metalora.adapters.mixture import TaskLoRA
from metalora.adapters.multi_lora import MultiLoRA
from metalora.adapters.targets import STEM
from metalora.experiments.table import format_count
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import Backbone, has_weights, load_backbone
from metalora.models.bundled_networks import BUNDLED
from metalora.runs.app_process import may_download
from metalora.suites.config import SuiteConfig
from metalora.util.errors import InputError
from metalora.util.quiet import ignore_warnings

KINDS = {"convolutions": nn.Conv2d, "linear layers": nn.Linear}


@dataclass(frozen=True, eq=False)
class AdapterSummary:
    """An adapter that is not trained yet, on a backbone.

    Attributes:
        model: with the adapter.
        layers: index "layer"; columns "weight" (its shape), "rank", "adapter", "generator", "frozen" (parameters),
            "flops" (the adapter's as a fraction of the layer's); adapted layers only.
        budget: of the whole model, see `AdaptedModel.budget`.
        notes: which layers are left out and why.
    """

    model: AdaptedModel
    layers: pd.DataFrame
    budget: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """What the adapter costs, in one sentence."""
        total = self.budget.loc["total"]
        parts = [f"{format_count(total['adapter_parameters'])} static parameters"]
        if self.model.config.generates:
            parts.append(f"{format_count(total['generator_parameters'])} in the generator")
        frozen = self.model.backbone.net.parameters()
        flops = (total["adapter_flops"] + total["generator_flops"]) / total["frozen_flops"]
        return (
            f"{len(self.layers)} layers adapted: {' and '.join(parts)}, beside "
            f"{format_count(sum(p.numel() for p in frozen))} frozen ones; {100 * flops:.0f} % more FLOPs per image."
        )

    def table(self) -> pd.DataFrame:
        """Return `layers` as text: layer, weight, R, static, generated, frozen, + FLOPs."""
        counts = {name: self.layers[name].map(format_count) for name in ("adapter", "generator", "frozen")}
        flops = self.layers["flops"].map(lambda fraction: f"{100 * fraction:.0f} %")
        table = self.layers[["weight", "rank"]].assign(**counts, flops=flops).reset_index()
        return table.set_axis(["layer", "weight", "R", "static", "generator", "frozen", "+ FLOPs"], axis=1)


def missing_weights(backbone: str) -> str:
    """Say what to do about weights that a run needs and that are not on this machine; "" where they are here.

    Raises:
        InputError: unknown name, or timm has no trained weights for it.
    """
    if has_weights(backbone):
        return ""
    remedy = f"{'fetch them, or ' if may_download() else ''}use {_or(BUNDLED)}"
    return f"The weights of {backbone} are not on this machine, so it cannot be trained here: {remedy}."


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)


def has_branches(method: str) -> bool:
    """Return whether a method's branches or experts are as many as the settings say."""
    format = format_class(method)
    return issubclass(format, MultiLoRA) and not issubclass(format, TaskLoRA)


def summarise_adapter(backbone: str, config: AdapterConfig, suite: SuiteConfig | None = None) -> AdapterSummary:
    """Adapt a backbone without training it; nothing is downloaded, since sizes do not depend on trained weights.

    Args:
        backbone: its name.
        config: settings of the adapter.
        suite: says how many tasks there are, for methods that are told them; 2 where the data decides.

    Raises:
        InputError: a setting that does not fit, as in `adapt`.
    """
    config = config.with_tasks(suite.seen_tasks or 2 if suite is not None else 2)
    # Whatever else of the form changes, the adapter is the same.
    return _summarise(backbone, json.dumps(config.to_dict(), sort_keys=True))


@functools.lru_cache(4)
def _summarise(backbone: str, settings: str) -> AdapterSummary:
    config = AdapterConfig.from_dict(json.loads(settings))
    # Warnings are of layers left out, which are in the notes.
    with ignore_warnings(), _sizes_only(backbone):
        model = adapt(_untrained(backbone), config)
        budget = model.budget()
    rows = {
        name: {
            "weight": "×".join(map(str, layer.weight.shape)),
            "rank": layer.adapter.format.rank,
            "adapter": int(budget.loc[name, "adapter_parameters"]),
            "generator": int(budget.loc[name, "generator_parameters"]),
            "frozen": int(budget.loc[name, "frozen_parameters"]),
            "flops": budget.loc[name, "adapter_flops"] / budget.loc[name, "frozen_flops"],
        }
        for name, layer in model.layers.items()
    }
    layers = pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")
    return AdapterSummary(model, layers, budget, _left_out(model))


def _left_out(model: AdaptedModel) -> tuple[str, ...]:
    """Say which layers are left out, as the warnings do, of which a thread cannot catch its own alone."""
    reasons = sorted(set(model.left_out.values()) - {STEM})  # the stem was asked for
    layers = {reason: [name for name, why in model.left_out.items() if why == reason] for reason in reasons}
    return tuple(f"Not adapted, since {reason}: {', '.join(names)}." for reason, names in layers.items())


def only_kind(backbone: str, kind: str) -> dict[str, tuple[str, ...]]:
    """Return "targets" or "exclude" of an `AdapterConfig`, whichever is shorter, that keep one of `KINDS`.

    Raises:
        InputError: the backbone has no such layer.
    """
    modules = _untrained(backbone).net.named_modules()
    layers = {name: module for name, module in modules if isinstance(module, (*KINDS.values(),))}
    kept = [name for name, module in layers.items() if isinstance(module, KINDS[kind])]
    if not kept:
        raise InputError(f"{backbone} has no {kind}: choose all layers or the other kind.")
    others = [name for name in layers if name not in kept]
    field, patterns = ("targets", kept) if len(kept) <= len(others) else ("exclude", others)
    return {field: tuple(f"^{re.escape(name)}$" for name in patterns)}


def kind_of(backbone: str, config: AdapterConfig) -> str | None:
    """Return which of `KINDS` the settings adapt, the inverse of `only_kind`; None: neither of them alone."""
    for kind in KINDS:
        try:
            wanted = {"targets": None, "exclude": (), **only_kind(backbone, kind)}
        except InputError:  # the backbone has none of that kind
            continue
        if all(getattr(config, name) == patterns for name, patterns in wanted.items()):
            return kind
    return None


def _untrained(backbone: str) -> Backbone:
    with _sizes_only(backbone):
        return load_backbone(backbone, pretrained=backbone in BUNDLED)


def _sizes_only(backbone: str) -> contextlib.AbstractContextManager:
    """Return a context in which a network that is not bundled gets shapes and no values, so that any size is cheap."""
    return contextlib.nullcontext() if backbone in BUNDLED else torch.device("meta")
