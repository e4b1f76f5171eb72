"""Ranks fitted to what was learnt: components of CP and of the tensor ring that hardly matter are dropped.

After Sedighin et al., Adaptive rank selection for tensor ring decomposition (2021), which arXiv 2504.00460 proposes: a
rank for each layer, by the size of each component's part in ΔW.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from metalora.adapters.cp import CP
from metalora.adapters.layers import AdaptedLayer
from metalora.adapters.tr import TR
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.plain_network import unadapted
from metalora.util.errors import InputError


@dataclass(frozen=True)
class Pruned:
    """A model of smaller ranks.

    Attributes:
        model: the new one; the old one is as it was.
        ranks: a row per layer: "rank" before and "kept" after, and "error", the relative Frobenius norm of what ΔW
            lost, root mean square over the images.
    """

    model: AdaptedModel
    ranks: pd.DataFrame


@torch.no_grad()
def prune(model: AdaptedModel, images: Tensor, share: float = 0.05) -> Pruned:
    """Drop components whose part in every layer's ΔW is below a share of ‖ΔW‖, root mean square over images.

    The rank of a layer is the number of components that are left, of TR the largest of its three bonds, one at least.

    Args:
        model: of method metalora-cp or metalora-tr, with generated cores.
        images: a sample of the training images, from whose cores the parts are measured.
        share: from 0 (nothing is dropped but what is zero) to below 1.

    Raises:
        InputError: another method, or a share that leaves nothing.
    """
    if not model.config.generates or any(type(layer.adapter.format) not in (CP, TR) for layer in model.layers.values()):
        raise InputError("Components are dropped of metalora-cp and metalora-tr with generated cores: use one of them.")
    if not 0 <= share < 1:
        raise InputError(f"share is {share}: use a fraction from 0 to below 1.")
    cores = model.generate(images)
    kept = {name: _kept(layer, cores[name], share) for name, layer in model.layers.items()}
    pattern = {f"^{re.escape(name)}$": len(bonds[0]) for name, bonds in kept.items()}
    targets = tuple(pattern)
    config = replace(model.config, rank_pattern=pattern, targets=targets, exclude=())
    pruned = adapt(unadapted(model.backbone), config, example=model.example)
    _fill(pruned, model, kept)
    rows = {}
    for name, layer in model.layers.items():
        before = layer.delta(cores[name])
        after = pruned.layers[name].delta(pruned.generate(images)[name])
        error = float((after - before).square().sum().sqrt() / before.square().sum().sqrt().clamp(min=1e-12))
        rows[name] = {"rank": layer.adapter.format.rank, "kept": len(kept[name][0]), "error": error}
    return Pruned(pruned, pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer"))


def _kept(layer: AdaptedLayer, core: Tensor, share: float) -> list[Tensor]:
    """Return the components of each bond that stay, as many of each: r of CP, or b, a and c of TR."""
    factors = layer.factors()
    A, B = factors["A"], factors["B"]
    whole = float(_norm(layer.delta(core)))
    bonds = ["r"] if isinstance(layer.adapter.format, CP) else ["b", "a", "c"]
    parts = []
    for bond in bonds:
        norms = []
        for index in range(layer.adapter.format.rank):
            only = torch.zeros(layer.adapter.format.rank).to(A)
            only[index] = 1
            # ΔW with nothing but this component of the bond.
            masked_A = A * only if bond in "rb" else A
            masked_core = core * {"a": only, "c": only[:, None]}.get(bond, 1)
            norms.append(float(_norm(layer.adapter.format.dense(layer.weight, {"A": masked_A, "B": B}, masked_core))))
        parts.append(torch.tensor(norms))
    count = max(1, *(int((part >= share * whole).sum()) for part in parts)) if whole else 1
    return [part.topk(count).indices.sort().values for part in parts]


def _norm(delta: Tensor) -> Tensor:
    return delta.double().flatten(1).square().sum(1).mean().sqrt()


def _fill(pruned: AdaptedModel, model: AdaptedModel, kept: Mapping[str, list[Tensor]]) -> None:
    """Give a model the values of another's components."""
    rows, start = [], 0
    for name, layer in model.layers.items():
        rank, bonds = layer.adapter.format.rank, kept[name]
        old, new = layer.adapter, pruned.layers[name].adapter
        # A scale of alpha / rank would change with the rank.
        A = old.get_parameter("A") * (old.scale / new.scale)
        B = old.get_parameter("B")
        if len(bonds) == 1:
            (r,) = bonds
            new.get_parameter("A").copy_(A[..., r])
            new.get_parameter("B").copy_(B[r])
            rows.append(start + r)
            start += rank
        else:
            b, a, c = bonds
            new.get_parameter("A").copy_(A[a][..., b])
            new.get_parameter("B").copy_(B[b][..., c])
            rows.append((start + c[:, None] * rank + a).flatten())
            start += rank**2
    state = model.mapping.state_dict()
    for name in state:
        if name.startswith(("head.", "log_variance.")):
            state[name] = state[name][torch.cat(rows)]
    pruned.mapping.load_state_dict(state)
    for name, wrapper in model.saved_modules.items():
        pruned.saved_modules[name].copy.load_state_dict(wrapper.copy.state_dict())
    pruned.decoding = model.decoding
