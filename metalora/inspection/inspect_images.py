"""The adapters that images get: their cores, how strong their updates are, how similar the cores of images are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from metalora.adapters.cores import Cores
from metalora.models.adapted_model import AdaptedModel
from metalora.util.errors import InputError


@dataclass(frozen=True, eq=False)
class Inspection:
    """The adapters of N images.

    Attributes:
        names: of the images.
        cores: one sample for each image; None where the method has none.
        strength: ‖ΔW‖ / ‖W‖ (Frobenius), a row per image, a column per layer.
        similarity: cosine similarity between the images' cores, all layers side by side, (N, N); None without cores.
        constant: one adapter is used for all images.
        identity_core: one sample at which nothing depends on the image; None without cores.
        codes: every image's own code, (N, code), before any pooling; None where nothing is generated.
    """

    names: tuple[str, ...]
    cores: Cores | None
    strength: pd.DataFrame
    similarity: Tensor | None
    constant: bool
    codes: Tensor | None = None
    identity_core: Cores | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: "constant", "images" (name, cores and strength by layer), "similarity"."""
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
    model: AdaptedModel,
    images: Tensor,
    names: Sequence[str] | None = None,
    *,
    pool: bool = False,
    codes: Tensor | None = None,
) -> Inspection:
    """Inspect the adapters that `model` gives to images.

    Args:
        model: with adapted layers.
        images: float RGB in [0, 1], (N, 3, H, W).
        names: of the images; None: "image 1" and so on.
        pool: the images come from one task and share the core of their mean code.
        codes: the images' codes (N, code), where they are known already.

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
    if codes is None and (pool or not constant):
        codes = model.codes(images)  # raises where there is nothing to pool
    cores = model.generate(images) if constant and model.generated else None
    if codes is not None:
        groups = torch.zeros(len(images), dtype=torch.int64)
        cores = model.cores(model.mapping.pool(codes, groups) if pool else codes)
        codes = codes.cpu()
    strength = _strength_table(model, names, cores[:1] if constant and cores else cores)
    similarity = identity_core = None
    if cores is not None:
        cores = cores.to("cpu")
        formats = {name: layer.adapter.format for name, layer in model.layers.items()}
        identity_core = Cores({name: format.identity_core()[None] for name, format in formats.items()})
        flat = normalize(cores.flatten().double())
        similarity = (flat @ flat.T).clamp(-1, 1)
    return Inspection(names, cores, strength, similarity, constant, codes, identity_core)


def probable_factors(codes: Tensor, factors: Sequence[Sequence[str]]) -> list[list[tuple[str, float]]]:
    """Return, for each code and each factor, the most probable value and its probability.

    Args:
        codes: factor codes (N, Σ values), see `MappingNet`.
        factors: the values of each factor, by name, as `Suite.factors`.
    """
    best = [part.max(dim=1) for part in codes.split([len(values) for values in factors], dim=1)]
    return [
        [(values[index[i]], probability[i].item()) for values, (probability, index) in zip(factors, best, strict=True)]
        for i in range(len(codes))
    ]


def _strength_table(model: AdaptedModel, names: tuple[str, ...], cores: Cores | None) -> pd.DataFrame:
    """Return a row per name, a column per layer; one row is repeated where all images share one update."""
    columns = {
        name: layer.strength(None if cores is None else cores[name]).tolist() for name, layer in model.layers.items()
    }
    frame = pd.DataFrame({layer: values * (len(names) // len(values)) for layer, values in columns.items()})
    return frame.set_axis(list(names))
