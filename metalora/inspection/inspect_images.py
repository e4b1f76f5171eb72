"""What a generated adapter looks like: its cores, how strong its updates are, how alike those of images are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from metalora.adapters.cores import Cores
from metalora.adapters.formats import FiLM
from metalora.models.adapted_model import AdaptedModel
from metalora.util.errors import InputError


@dataclass(frozen=True, eq=False)
class Inspection:
    """Of N images.

    Attributes:
        names: of the images.
        cores: one sample for each image; None where the method has none.
        strength: ‖ΔW‖ / ‖W‖ (Frobenius), a row per image, a column per layer.
        similarity: cosine similarity between the images' cores, all layers side by side, (N, N); None without cores.
        constant: one adapter serves all images.
        codes: every image's own code, (N, code), before any pooling; None where nothing is generated.
    """

    names: tuple[str, ...]
    cores: Cores | None
    strength: pd.DataFrame
    similarity: Tensor | None
    constant: bool
    codes: Tensor | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: "constant", "images" (name, cores and strength by layer), "similarity"."""
        images = [
            {
                "name": name,
                "cores": {} if self.cores is None else {key: core[i].tolist() for key, core in self.cores.items()},
                "strength": self.strength.iloc[i].to_dict(),
            }
            for i, name in enumerate(self.names)
        ]
        similarity = None if self.similarity is None else self.similarity.tolist()
        return {"constant": self.constant, "images": images, "similarity": similarity}


@torch.inference_mode()
def inspect_images(
    model: AdaptedModel, images: Tensor, names: Sequence[str] | None = None, *, pool: bool = False
) -> Inspection:
    """Look at the adapters that `model` gives to images.

    Args:
        images: float RGB in [0, 1], (N, 3, H, W).
        pool: the images are known to come from one task and share the core of their mean code.

    Raises:
        InputError: another number of names, nothing adapted, or nothing to pool.
    """
    names = tuple(names) if names is not None else tuple(f"image {i + 1}" for i in range(len(images)))
    if len(names) != len(images):
        raise InputError(f"There are {len(names)} names for {len(images)} images: give one for each.")
    if not model.layers:
        raise InputError("The original backbone has no adapter to inspect: choose another method.")
    model.eval()
    constant = not model.config.generates
    codes = None if constant and not pool else model.codes(images)  # to pool what is not generated is an error there
    cores = model.generate(images) if constant and model.generated else None
    if codes is not None:
        groups = torch.zeros(len(images), dtype=torch.int64)
        cores = model.cores(model.mapping.pool(codes, groups) if pool else codes)
        codes = codes.cpu()
    strength = _strength_table(model, names, cores[:1] if constant and cores else cores)
    similarity = None
    if cores is not None:
        cores = cores.to("cpu")
        flat = normalize(cores.flatten().double())
        similarity = (flat @ flat.T).clamp(-1, 1)
    return Inspection(names, cores, strength, similarity, constant, codes)


def most_probable(codes: Tensor, factors: Sequence[Sequence[str]]) -> list[list[tuple[str, float]]]:
    """What codes of named factors say: for each of them, and each factor, its most probable value and how probable.

    Args:
        codes: (N, Σ values), see `MappingNet`.
        factors: the values of each factor, by name, as `Suite.factors`.
    """
    found = [part.max(dim=1) for part in codes.split([len(values) for values in factors], dim=1)]
    return [
        [(values[best.indices[i]], best.values[i].item()) for values, best in zip(factors, found, strict=True)]
        for i in range(len(codes))
    ]


def _strength_table(model: AdaptedModel, names: tuple[str, ...], cores: Cores | None) -> pd.DataFrame:
    """A row per name, a column per layer; the one row of a static method, or of one core, stands for all."""
    columns = {layer: _strengths(model, layer, cores) for layer in model.layers}
    frame = pd.DataFrame({layer: values * (len(names) // len(values)) for layer, values in columns.items()})
    return frame.set_axis(list(names))


def _strengths(model: AdaptedModel, name: str, cores: Cores | None) -> list[float]:
    """‖ΔW‖ / ‖W‖ of a layer for each sample of `cores`, or the one of a static method.

    ΔW = Uᵀ V, with U (M, I·K·K) and V (M, O) the weights before and behind the narrow side, the core folded
    into V. So ‖ΔW‖² = ⟨UUᵀ, VVᵀ⟩, and no dense ΔW is built.
    """
    layer = model.layers[name]
    kind = layer.adapter.format
    if isinstance(kind, FiLM):
        squared = (layer.weight.flatten(1).norm(dim=1) * cores[name][:, 0]).square().sum(1).cpu().double()
        return (squared.sqrt() / layer.weight.norm().cpu().double().clamp(min=1e-12)).tolist()
    # In float64, on the CPU since not every device has that: small differences of large products.
    factors = {key: factor.cpu().double() for key, factor in layer.factors().items()}
    before = kind.down(factors["A"]).flatten(1)
    behind = kind.up(factors["B"])
    behind = behind[None] if cores is None else kind.fold(behind, cores[name].cpu().double())
    squared = ((before @ before.T) * (behind @ behind.mT)).sum((1, 2)).clamp(min=0)
    return (squared.sqrt() / layer.weight.norm().cpu().double().clamp(min=1e-12)).tolist()
