"""What a generated adapter changes about an image's neighbours in a gallery, and what another image's would change."""

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
class NeighbourReport:
    """N images, their adapters, and their neighbours in a gallery before and after adaptation.

    Attributes:
        inspection: of their adapters.
        before: embeddings by the original backbone, (N, D).
        after: embeddings with their own adapters, (N, D).
        nearest_before: as `Gallery.nearest`.
        nearest_after: as `Gallery.nearest`.
        predicted_before: classes by k-NN, one for each image.
        predicted_after: classes by k-NN, one for each image.
    """

    inspection: Inspection
    before: Tensor
    after: Tensor
    nearest_before: pd.DataFrame
    nearest_after: pd.DataFrame
    predicted_before: list[str]
    predicted_after: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: `Inspection.to_dict` with the neighbours of every image.

        An image gets "neighbours" (nearest first: rank, index, name, label, task, similarity) and "predicted" with
        its adapter, and the same with "_before" without.
        """
        values = self.inspection.to_dict()
        for suffix, nearest, predicted in (
            ("", self.nearest_after, self.predicted_after),
            ("_before", self.nearest_before, self.predicted_before),
        ):
            for i, image in enumerate(values["images"]):
                rows = nearest[nearest["image"] == i].drop(columns="image")
                image |= {f"neighbours{suffix}": rows.to_dict("records"), f"predicted{suffix}": predicted[i]}
        return values


@torch.inference_mode()
def report_neighbours(
    model: AdaptedModel,
    gallery: Gallery,
    images: Tensor,
    names: Sequence[str] | None = None,
    *,
    pool: bool = False,
    k: int = 5,
) -> NeighbourReport:
    """Inspect the adapters of images, and find the images' neighbours in `gallery` with and without them.

    Args:
        model: as `inspect_images`.
        gallery: of the same adapter.
        images: as `inspect_images`.
        names: as `inspect_images`.
        pool: as `inspect_images`.
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
    return NeighbourReport(inspection, before, after, *nearest, *predicted)


@dataclass(frozen=True, eq=False)
class SwapResult:
    """One image with a core that is not its own.

    Attributes:
        embedding: (D).
        nearest: in the gallery, as `Gallery.nearest`.
        predicted: class by k-NN.
        distance: cosine distance from the embedding with its own core, 0 (none) to 2.
    """

    embedding: Tensor
    nearest: pd.DataFrame
    predicted: str
    distance: float


@torch.inference_mode()
def swap_core(
    model: AdaptedModel,
    gallery: Gallery,
    images: Tensor,
    receiver: int,
    donor: int,
    fraction: float = 1.0,
    *,
    k: int = 5,
) -> SwapResult:
    """Embed image `receiver` with the core at `fraction` of the way from its own to that of image `donor`.

    Args:
        model: which generates the cores.
        gallery: of the same adapter.
        images: float RGB in [0, 1], (N, 3, H, W).
        receiver: position in `images`.
        donor: position in `images`.
        fraction: 0 to 1; 1 is a swap.
        k: neighbours to report and to vote.

    Raises:
        InputError: a method that generates nothing, a position or fraction out of range, a gallery of another adapter.
    """
    gallery.check_adapter(model)
    for position in (receiver, donor):
        if not 0 <= position < len(images):
            raise InputError(f"There is no image {position}: images are numbered 0 to {len(images) - 1}.")
    check_float("The fraction", fraction, lambda value: 0 <= value <= 1, "a number from 0 to 1")
    model.eval()
    pair = images[[receiver, donor]].to(next(model.parameters()).device)
    own, other = model.cores(model.codes(pair))
    cores = Cores.cat([own, Cores.lerp(own, other, fraction)])
    before, after = model(pair[[0, 0]], cores=cores).float().cpu()
    distance = 1 - cosine_similarity(before.double(), after.double(), dim=0).clamp(max=1).item()
    nearest, (predicted,) = gallery.nearest(after[None], "adapted", k), gallery.predict(after[None], "adapted", k)
    return SwapResult(after, nearest, predicted, distance)
