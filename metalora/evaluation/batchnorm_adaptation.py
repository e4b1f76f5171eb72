"""BatchNorm adaptation: normalising with the statistics of a set of test images (Nado et al. 2006.10963)."""

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from metalora.evaluation.given_images import GivenImages
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Examples
from metalora.util.errors import InputError


@torch.inference_mode()
def embed_bn_adapted(
    model: AdaptedModel, examples: Examples | GivenImages, sets: Tensor, device: torch.device
) -> Tensor:
    """Embed images (N, D) by a static method's network whose BatchNorm layers use their set's mean and variance.

    Args:
        model: of a static method.
        examples: N images.
        sets: (N), the number of each image's set.
        device: where to compute.

    Raises:
        InputError: the network has no BatchNorm, or its update depends on the image.
    """
    net = model.fold().to(device).eval()
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        raise InputError(f"{model.backbone.name} has no BatchNorm to adapt: leave that row out.")
    for norm in norms:
        norm.train()
        norm.momentum = 0.0  # keep the running statistics
    order = sets.argsort(stable=True)
    groups = (examples[rows] for rows in order.split(sets.bincount().tolist()))
    embeddings = torch.cat([net(group.images().to(device)).float().cpu() for group in groups])
    return torch.empty_like(embeddings).index_copy_(0, order, embeddings)
