"""What an adapted model learns from its first batch: what folds, the width of features, whether layers serve."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metalora.adapters.forward_context import forward_context
from metalora.models.folding import Fold, fold_norms
from metalora.util.errors import InputError

if TYPE_CHECKING:
    from metalora.models.adapted_model import AdaptedModel


def fold_frozen(model: "AdaptedModel", example: Tensor) -> list[Fold]:
    """Make the frozen part cheaper, exact in `disabled()` only from here on.

    Args:
        example: one image, as all functions here take it.
    """
    nets = [model.backbone]
    if model.config.generates and getattr(model.extractor, "own", None) is not None:
        nets.append(model.extractor.own)
    folds: list[Fold] = []
    for net in nets:
        net.channels_last = net.name is not None  # a foreign one may rely on the usual layout
        layout = torch.channels_last if net.channels_last else torch.preserve_format
        with forward_context(enabled=False, exact=True):
            folds += fold_norms(net, example, layout)
    return folds


def learn_width(model: "AdaptedModel", example: Tensor) -> None:
    """Give the mapping net the width of the extractor's features.

    Raises:
        InputError: the features are not (N, F), or of another width than before.
    """
    features = model.extractor(torch.cat([example] * 2))
    if not model.mapping.materialised:
        model.mapping.materialise(features.to(model.mapping.identity))
    wanted = (2, model.mapping.hidden.in_features)
    if features.shape != wanted:
        raise InputError(f"The extractor gives {tuple(features.shape)} for 2 images: make it give {wanted}.")


def try_layers(model: "AdaptedModel", example: Tensor) -> None:
    """See that every adapted layer is called, with the batch on the leading axis of its input.

    Raises:
        InputError: one is not.
    """
    called: set[str] = set()
    hooks = [
        layer.register_forward_hook(lambda layer, args, output: called.add(layer.name))
        for layer in model.layers.values()
    ]
    try:
        # Two batch sizes: a leading axis that is not the batch may equal one of them by chance.
        for count in (2, 3):
            images = torch.cat([example] * count)
            with forward_context(cores=model.generate(images) if model.generated else None):
                model.backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
    idle = [name for name in model.layers if name not in called]
    if idle:
        more = f" (nor are {len(idle) - 1} more)" if len(idle) > 1 else ""
        raise InputError(f"Layer {idle[0]!r} is never called by the backbone's forward pass{more}: exclude it.")
