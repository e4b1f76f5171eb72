"""Distillation within one step: an image's own core learns to do what the core of its set does.

    KL(p_set ‖ p_own) + 1 − cos(z_set, z_own)

z are an image's embeddings by the two cores, and p what the head over classes makes of them (softmax). Those by the
set's core are the teacher's, after Hinton et al. 1503.02531, and get no gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from metalora.util.device import without_autocast


def distillation_loss(own: Tensor, taught: Tensor, logits: Tensor, taught_logits: Tensor) -> Tensor:
    """Return the mean of the above over images, in float32 or wider.

    Args:
        own: embeddings by each image's own core, (N, D).
        taught: by the set's core, (N, D).
        logits: of the head for `own`, (N, classes).
        taught_logits: for `taught`, (N, classes).
    """
    with without_autocast(own.device):
        dtype = torch.promote_types(own.dtype, torch.float32)
        learnt, target = logits.to(dtype).log_softmax(1), taught_logits.detach().to(dtype).log_softmax(1)
        divergence = F.kl_div(learnt, target, log_target=True, reduction="batchmean")
        return divergence + 1 - F.cosine_similarity(own.to(dtype), taught.detach().to(dtype)).mean()
