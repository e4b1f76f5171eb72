"""What an adapted model learns from its first batch: the width of features, and that its layers can be adapted."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.inputs import Further
from metalora.adapters.layers import AdaptedLayer
from metalora.models.backbones import Backbone
from metalora.models.extractors import StageExtractor, report_head
from metalora.models.mapping_net import MappingNet
from metalora.models.survey import Survey, survey
from metalora.models.task_net import GivenCondition
from metalora.util.errors import InputError


def learn(model: Any, images: Tensor, seen: Survey | None) -> tuple[Tensor, Further]:
    """Make an `AdaptedModel` suit a first batch; return its first image and that one's further inputs.

    Args:
        model: its layers were chosen already.
        images: (N, …).
        seen: what a pass showed before; None: one is made.

    Raises:
        InputError: there is no image, or the network does not suit the adapter.
    """
    if torch.compiler.is_compiling():
        raise InputError("Sizes are known after a first batch: call the model once before it is exported.")
    if images.shape[0] == 0:
        raise InputError("The first batch is empty, so sizes stay unknown: begin with one image or more.")
    further = current.further.one(images.shape[0])
    # What is learnt here outlives an inference_mode around the first batch.
    with torch.inference_mode(False), torch.no_grad(), forward_context(further=further):
        example = images[:1].detach().clone()
        seen = seen or survey(model.backbone, example)
        check_survey(seen, model.backbone, model.layers, generated=model.generated)
        model.backbone.fold(seen.pairs)
        report_head(model.backbone, seen.head)
        for name, layer in model.layers.items():
            layer.rows_by_image |= seen.rows.get(name, 1) > 1
        known = isinstance(model.extractor, StageExtractor | GivenCondition)
        if model.config.generates and not (known and model.mapping.materialised):
            learn_width(model.extractor, model.mapping, example)
    return example, further


def sized_example(model: Any) -> Tensor:
    """Return the first image of an `AdaptedModel`'s first batch.

    Raises:
        InputError: there was none yet.
    """
    if model.example is None:
        raise InputError("Sizes are known after a first batch: call the model once, or give adapt() an example.")
    return model.example.to(next(model.backbone.parameters())) if model.example.is_floating_point() else model.example


def learn_width(extractor: nn.Module, mapping: MappingNet, example: Tensor) -> None:
    """Give the mapping net the width of the extractor's features.

    Args:
        extractor: images → features (N, F).
        mapping: the mapping net.
        example: one image.

    Raises:
        InputError: the features are not (N, F), or of another width than before.
    """
    with forward_context(further=current.further.repeat(2)):
        features = current.further.call_known(extractor, torch.cat([example] * 2))
    if not mapping.materialised:
        mapping.materialise(features.to(mapping.identity))
    wanted = (2, mapping.hidden.in_features)
    if features.shape != wanted:
        raise InputError(f"The extractor gives {tuple(features.shape)} for 2 images: make it give {wanted}.")


def check_survey(seen: Survey, backbone: Backbone, layers: Mapping[str, AdaptedLayer], *, generated: bool) -> None:
    """Check that layers that were adapted unseen, and the stages that are read, suit the network.

    Args:
        seen: what a pass showed.
        backbone: with adapted layers.
        layers: name → adapted layer.
        generated: whether layers have cores.

    Raises:
        InputError: one does not.
    """
    for name, reason in seen.unsuited(generated=generated).items():
        if name in layers:
            raise InputError(
                f"Layer {name!r} cannot be adapted, {reason}: leave it out with exclude, or give adapt() an example."
            )
    for name in backbone.stages:
        if name not in seen.stages:
            raise InputError(f"The stage {name!r} gives no map or tokens of each image: leave it out of the stages.")
