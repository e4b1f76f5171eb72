"""What an adapted model learns from its first batch: the width of features, and that its layers can be adapted."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metalora.adapters.forward_context import current
from metalora.adapters.layers import AdaptedLayer
from metalora.models.backbones import Backbone
from metalora.models.mapping_net import MappingNet
from metalora.models.survey import Survey
from metalora.util.errors import InputError


def learn_width(extractor: nn.Module, mapping: MappingNet, example: Tensor) -> None:
    """Give the mapping net the width of the extractor's features.

    Args:
        extractor: images → features (N, F).
        mapping: the mapping net.
        example: one image.

    Raises:
        InputError: the features are not (N, F), or of another width than before.
    """
    features = current.further.repeat(2).call_known(extractor, torch.cat([example] * 2))
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
