"""What every method is trained for: cross-entropy of one linear head over the suite's seen classes.

All tasks share the head, which is discarded afterwards. Where a code names the factors of the suite's tasks, it is
trained to name them as well; a static method may get the same task as an auxiliary one, named from its embedding. A
code that has learnt to name other factors than the suite has is trained by the classes alone.

Where the classes alone train the code, some of the images or sets get the neutral core. Otherwise the adapters of
single images serve only the cores of training images, which a code can tell apart one by one, and are lost on those of
other images; those of sets serve only the cores of their tasks, and are lost on others where these are few.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.adapted_model import AdaptedModel
from metalora.models.mapping_net import factor_loss
from metalora.suites.suite import Batch, Suite
from metalora.util.seeding import generator


class Objective(nn.Module):
    """The loss of an adapted model on a suite's batches; its parameters are trained along and then discarded.

    Args:
        model: on its device.
        weight: of naming the factors, beside the classes.
        told: share of the sets that get the core of their true factors, so that the adapters learn what each is for
            before, and while, the code learns to tell.
        neutral: share of the sets that get the neutral core, where no factors are named. An image alone is a set, too.
        seed: of the initial values and of the choice of what is told or neutral.
    """

    def __init__(
        self,
        model: AdaptedModel,
        suite: Suite,
        *,
        weight: float,
        teacher_forcing_ratio: float,
        identity_core_prob: float,
        seed: int,
    ):
        super().__init__()
        factors = model.config.factors if model.config.predicts(tuple(map(len, suite.factors))) else ()
        self.weight, self.teacher_forcing_ratio, self.identity_core_prob, self.seed, self.factors = (
            weight,
            teacher_forcing_ratio,
            identity_core_prob,
            seed,
            factors,
        )
        self.generates, self.factor_indices = model.config.generates, suite.factor_indices
        self.combinations = suite.combinations
        classes = suite.splits["train"].labels.unique()
        like = next(model.trained.parameters())
        with torch.no_grad():
            width = model(model.example.to(like.device)).shape[1]
        self.column = torch.full((len(suite.classes),), -1).scatter(0, classes, torch.arange(len(classes)))
        self.classes = _linear(width, len(classes), like, generator(seed, -2))
        self.names = None if self.generates or not factors else _linear(width, sum(factors), like, generator(seed, -3))
        self.to(like.device)

    def forward(
        self, model: AdaptedModel, network: Callable, batch: Batch, features: FeatureCache, step: int, sets: bool
    ) -> tuple[Tensor, Tensor]:
        """The loss, and the share of images whose class the head got right.

        Args:
            model: generates the codes.
            network: `model`, or a compiled one, which embeds.
            features: what the model's extractor saw before.
            sets: the batch's groups share a core.
        """
        device = self.classes.weight.device
        images, labels = batch.images.to(device), self.column[batch.labels].to(device)
        groups = batch.groups.to(device) if self.generates and sets else None
        known = features(model, batch.examples, images)
        naming = 0.0
        if self.generates and (self.factors or self.identity_core_prob):
            own = model.codes(images, features=known)
            codes = own if groups is None else model.mapping.pool(own, groups)
            if self.factors:
                factor_indices = self.factor_indices[batch.tasks].to(device)
                codes = torch.where(
                    self._drawn(self.teacher_forcing_ratio, batch, step).to(device),
                    model.mapping.factor_codes(factor_indices),
                    codes,
                )
                naming = model.mapping.factor_loss(own, factor_indices, self.combinations.to(device))
            else:
                codes = codes.masked_fill(self._drawn(self.identity_core_prob, batch, step).to(device), 0)
            embeddings = network(images, cores=model.cores(codes))
        elif not self.factors:
            embeddings = network(images, groups=groups, features=known)
        else:
            embeddings = network(images)
            factor_indices = self.factor_indices[batch.tasks].to(device)
            naming = factor_loss(self.names(embeddings), factor_indices, self.combinations.to(device), self.factors)
        logits = self.classes(embeddings)
        return F.cross_entropy(logits, labels) + self.weight * naming, (logits.argmax(1) == labels).float().mean()

    def _drawn(self, share: float, batch: Batch, step: int) -> Tensor:
        """Which images are in this share of the sets: (N, 1), whole sets alike."""
        sets, member = batch.groups.unique(return_inverse=True)
        return (torch.rand(len(sets), generator=generator(self.seed, step, 1)) < share)[member, None]


def _linear(width: int, outputs: int, like: Tensor, rng: torch.Generator) -> nn.Linear:
    layer = nn.Linear(width, outputs, dtype=like.dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((2 * torch.rand(parameter.shape, generator=rng) - 1) * width**-0.5)
    return layer
