"""What a generated adapter does to a picture's place in a gallery, and what another picture's would do to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from metalora.adapters.cores import Cores
from metalora.inspection.gallery import Gallery
from metalora.inspection.inspect_images import Inspection, inspect_images
from metalora.models.adapted_model import AdaptedModel
from metalora.util.checks import check_float
from metalora.util.errors import InputError


@dataclass(frozen=True, eq=False)
class Examination:
    """N images, their adapters, and their place in a gallery before and after adaptation.

    Attributes:
        inspection: of their adapters.
        before: embeddings by the original backbone, (N, D).
        after: embeddings with their own adapters, (N, D).
        nearest_before, nearest_after: as `Gallery.nearest`.
        predicted_before, predicted_after: classes by k-NN, one for each image.
    """

    inspection: Inspection
    before: Tensor
    after: Tensor
    nearest_before: pd.DataFrame
    nearest_after: pd.DataFrame
    predicted_before: list[str]
    predicted_after: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: as `Inspection.to_dict`, and for every image "neighbours" (nearest first: rank, index,
        name, label, task, similarity) and "predicted" with its adapter, and the same with "_before" without."""
        found = self.inspection.to_dict()
        for when, nearest, predicted in (
            ("", self.nearest_after, self.predicted_after),
            ("_before", self.nearest_before, self.predicted_before),
        ):
            for i, image in enumerate(found["images"]):
                own = nearest[nearest["image"] == i].drop(columns="image")
                image |= {f"neighbours{when}": own.to_dict("records"), f"predicted{when}": predicted[i]}
        return found


@torch.inference_mode()
def examine(
    model: AdaptedModel,
    gallery: Gallery,
    images: Tensor,
    names: Sequence[str] | None = None,
    *,
    pool: bool = False,
    k: int = 5,
) -> Examination:
    """Look at the adapters of images, and at what these do to their place in `gallery`.

    Args:
        images, names, pool: as `inspect_images`.
        k: neighbours to report and to vote.

    Raises:
        InputError: as `inspect_images`; a gallery of another adapter or with less than `k` images.
    """
    gallery.check_adapter(model)
    device = next(model.parameters()).device
    images = images.to(device)
    inspection = inspect_images(model, images, names, pool=pool)
    cores = None if inspection.cores is None else inspection.cores.to(device)
    after = model(images, cores=cores).float().cpu()
    with model.disabled():
        before = model(images).float().cpu()
    nearest = (gallery.nearest(before, "original", k), gallery.nearest(after, "adapted", k))
    predicted = (gallery.predict(before, "original", k), gallery.predict(after, "adapted", k))
    return Examination(inspection, before, after, *nearest, *predicted)


@dataclass(frozen=True, eq=False)
class Exchange:
    """One image with a core that is not its own.

    Attributes:
        embedding: (D).
        nearest: in the gallery, as `Gallery.nearest`.
        predicted: class by k-NN.
        moved: cosine distance from the embedding with its own core, 0 (none) to 2.
    """

    embedding: Tensor
    nearest: pd.DataFrame
    predicted: str
    moved: float


def swap(model: AdaptedModel, gallery: Gallery, images: Tensor, receiver: int, donor: int, *, k: int = 5) -> Exchange:
    """Image `receiver` with the core of image `donor`; arguments and errors as `blend`."""
    return blend(model, gallery, images, receiver, donor, donor, 0.0, k=k)


@torch.inference_mode()
def blend(
    model: AdaptedModel, gallery: Gallery, images: Tensor, receiver: int, a: int, b: int, t: float, *, k: int = 5
) -> Exchange:
    """Image `receiver` with the core at share `t` of the way from image `a`'s to image `b`'s.

    Args:
        images: float RGB in [0, 1], (N, 3, H, W).
        receiver, a, b: positions in `images`.
        t: 0 to 1.

    Raises:
        InputError: a method that generates nothing, a position or share out of range, a gallery of another adapter.
    """
    gallery.check_adapter(model)
    for position in (receiver, a, b):
        if not 0 <= position < len(images):
            raise InputError(f"There is no image {position}: images are numbered 0 to {len(images) - 1}.")
    check_float("The share", t, lambda value: 0 <= value <= 1, "a number from 0 to 1")
    model.eval()
    chosen = images[[receiver, a, b]].to(next(model.parameters()).device)
    own, first, second = model.cores(model.codes(chosen))
    pair = torch.cat([chosen[:1], chosen[:1]])
    before, after = model(pair, cores=Cores.cat([own, Cores.lerp(first, second, t)])).float().cpu()
    moved = 1 - cosine_similarity(before.double(), after.double(), dim=0).clamp(max=1).item()
    nearest, (predicted,) = gallery.nearest(after[None], "adapted", k), gallery.predict(after[None], "adapted", k)
    return Exchange(after, nearest, predicted, moved)
