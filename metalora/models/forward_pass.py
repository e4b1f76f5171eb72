"""The forward pass of an adapted model: which cores the layers get, and the pass that reads its stem."""

from typing import Any

import torch
from torch import Tensor

from metalora.adapters.cores import Cores
from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.recomputation import checkpoints
from metalora.models.context import reader_of
from metalora.models.generation import generate, must_generate
from metalora.util.errors import InputError


def run(model: Any, images: Tensor, *, cores: Cores | None, groups: Tensor | None, features: Tensor | None) -> Any:
    """Return the backbone's output; arguments are those of `AdaptedModel.forward`.

    Raises:
        InputError: cores or groups do not suit the method, or each other.
    """
    if model.context is not None and cores is None:
        known = model.features(images) if features is None and reader_of(model) is not None else features
        with forward_context():
            return model.context(model.backbone, images, groups, known)
    if not model.generated and (cores is not None or groups is not None):
        must_generate(model)
    if cores is not None:
        if groups is not None:
            raise InputError("Groups say which images share generated cores, and cores are given: leave either out.")
        _check(cores, model, images.shape[0])
    elif model.config.generates and model.config.extractor == "stem" and features is None:
        return _run_from_stem(model, images, groups)
    elif model.config.generates:
        cores = generate(model, images, groups=groups, features=features)
    elif model.generated:
        cores = model.constant.cores()
    with forward_context(cores=cores):
        return model.backbone(images)


def _check(cores: Cores, model: Any, images: int) -> None:
    """Check that given cores suit the layers, and are one or as many as the images."""
    for name, layer in model.layers.items():
        wanted, found = layer.adapter.format.core_shape, tuple(cores[name].shape[1:])
        if found != wanted:
            raise InputError(
                f"The core of layer {name!r} is {found} for each image, {model.config.method} of its rank needs "
                f"{wanted}: generate cores by this model, or one of its method and ranks."
            )
    if cores.samples not in (1, images):
        raise InputError(f"There are {cores.samples} cores for {images} images: give one, or one for each.")


def _run_from_stem(model: Any, images: Tensor, groups: Tensor | None) -> Any:
    """Embed images in one pass, in which the stem's output becomes the cores of the layers behind it."""
    if torch.is_grad_enabled() and checkpoints(model.backbone.net):
        # A checkpoint around the stem would leave the mapping net out when it computes the stem again.
        raise InputError(
            "Cores of the extractor 'stem' are made inside the pass, which activation checkpointing repeats in parts: "
            "use extractor 'self', or switch checkpointing off."
        )
    extractor, mapping = model.extractor, model.mapping

    def generate_behind(name: str, output: Tensor) -> None:
        if name in extractor.stages:
            features = extractor.describe(images, {name: extractor.read(name, output)})
            codes = mapping.codes(features)
            current.cores = mapping.cores(codes if groups is None else mapping.pool(codes, groups))

    with forward_context(stage_hook=generate_behind):
        return model.backbone(images)
