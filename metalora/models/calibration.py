"""What an adapted model learns from its first batch: the width of features, and that its layers can be adapted."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from metalora.adapters.cores import Cores
from metalora.adapters.forward_context import forward_context
from metalora.adapters.layers import AdaptedLayer
from metalora.models.mapping_net import MappingNet
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
    features = extractor(torch.cat([example] * 2))
    if not mapping.materialised:
        mapping.materialise(features.to(mapping.identity))
    wanted = (2, mapping.hidden.in_features)
    if features.shape != wanted:
        raise InputError(f"The extractor gives {tuple(features.shape)} for 2 images: make it give {wanted}.")


def check_layers(
    backbone: nn.Module,
    layers: Mapping[str, AdaptedLayer],
    example: Tensor,
    generate: Callable[[Tensor], Cores | None],
) -> None:
    """Check that every adapted layer is called, with the batch on the leading axis of its input.

    Args:
        backbone: with adapted layers.
        layers: name → adapted layer.
        example: one image.
        generate: images → their cores; None for a static format.

    Raises:
        InputError: a layer is not called, or has another leading axis.
    """
    called: set[str] = set()
    hooks = [
        layer.register_forward_hook(lambda layer, args, output: called.add(layer.name)) for layer in layers.values()
    ]
    try:
        # Two batch sizes: a leading axis that is not the batch may equal one of them by chance.
        for count in (2, 3):
            images = torch.cat([example] * count)
            with forward_context(cores=generate(images)):
                backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
    idle = [name for name in layers if name not in called]
    if idle:
        more = f" (nor are {len(idle) - 1} more)" if len(idle) > 1 else ""
        raise InputError(f"Layer {idle[0]!r} is never called by the backbone's forward pass{more}: exclude it.")
