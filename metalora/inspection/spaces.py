"""The spaces in which a gallery can be looked at: features and cores."""

import torch
from torch import Tensor

from metalora.adapters.cores import Cores
from metalora.inspection.gallery import Gallery
from metalora.models.adapted_model import AdaptedModel
from metalora.util.errors import InputError

SPACES = {"adapted": "features, adapted", "original": "features, original backbone", "cores": "generated cores"}


def gallery_features(model: AdaptedModel, gallery: Gallery, space: str) -> Tensor:
    """Return the gallery's images in one of `SPACES`: (G, D), cores with all layers side by side.

    Raises:
        InputError: no such space, or cores of a method that generates none.
    """
    if space not in SPACES:
        raise InputError(f"Unknown space {space!r}: use {', '.join(SPACES)}.")
    if space != "cores":
        return gallery.original if space == "original" else gallery.adapted
    cores = gallery_cores(model, gallery)
    if cores is None:
        raise InputError("This method generates no cores: choose features, or a Meta-LoRA adapter.")
    return cores.flatten()


@torch.inference_mode()
def gallery_cores(model: AdaptedModel, gallery: Gallery) -> Cores | None:
    """Return every gallery image's own cores, float32 on the CPU; None where nothing is generated."""
    if gallery.codes is None:
        return None
    return model.cores(gallery.codes.to(next(model.parameters()).device)).to("cpu", torch.float32)
