"""What a generated adapter looks like: its cores, how strong its updates are, how alike those of images are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from metalora.cores import Cores
from metalora.errors import InputError
from metalora.model import AdaptedModel


@dataclass(frozen=True, eq=False)
class Inspection:
    """Of N images.

    Attributes:
        names: of the images.
        cores: one sample for each image; None where the method has none.
        strength: ‖ΔW‖ / ‖W‖ (Frobenius), a row per image, a column per layer.
        similarity: cosine similarity between the images' cores, all layers side by side, (N, N); None without cores.
        constant: one adapter serves all images.
    """

    names: tuple[str, ...]
    cores: Cores | None
    strength: pd.DataFrame
    similarity: Tensor | None
    constant: bool

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
    groups = torch.zeros(len(images), dtype=torch.int64) if pool else None
    if pool:
        model.codes(images[:1])  # a method that generates nothing says so
    cores = model.generate(images, groups=groups).to("cpu") if model.generated else None
    constant = not model.config.generates
    device = next(model.parameters()).device
    rows = []
    for i in range(1 if constant else len(images)):
        own = None if cores is None else cores[i].to(device)
        rows.append({name: _strength(model, name, own) for name in model.layers})
    strength = pd.DataFrame(rows * len(images) if constant else rows, index=list(names))
    similarity = None
    if cores is not None:
        flat = normalize(cores.flatten().double())
        similarity = (flat @ flat.T).clamp(-1, 1)
    return Inspection(names, cores, strength, similarity, constant)


def _strength(model: AdaptedModel, name: str, cores: Cores | None) -> float:
    update = model.delta_weight(name, cores)[0]
    return (update.norm() / model.layers[name].weight.norm().clamp(min=1e-12)).item()
