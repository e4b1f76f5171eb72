"""The loss of every method: cross-entropy of one linear head over the suite's seen classes.

All tasks share the head, which can be measured afterwards; a loss of one's own may take its place. Where the adapter
is to predict the factors of the suite's tasks, that is a second task: from the code where there is one, else from the
embedding. A code that was trained on other factors than the suite has is trained by the classes alone.

Where the classes alone train the code, some of the images or sets get the identity core. Otherwise the adapters overfit
to the cores that they meet in training: those of training images, which a code can tell apart one by one, or those of
the few seen tasks. With sets of several sizes, which steps draw, all images of some steps get it.

Gaussian cores are drawn, and their divergence from the prior, whose mean is the identity core, is added: the bound of
variational inference, with a weight as in the information bottleneck (Alemi et al. 1612.00410).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.adapters.cores import Cores
from metalora.evaluation.embedding import code_of_nothing
from metalora.evaluation.feature_cache import FeatureCache
from metalora.evaluation.linear_head import LinearHead
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import check_embeddings
from metalora.models.mapping_net import factor_loss
from metalora.suites.suite import Batch, Suite
from metalora.util.device import to_device
from metalora.util.seeding import seeded_generator

Loss = Callable[[Any, Batch], Tensor]


class Objective(nn.Module):
    """The loss of an adapted model on a suite's batches; its own parameters are trained too, beside the model.

    Args:
        model: on its device.
        weight: of factor prediction, beside the classes.
        teacher_forcing_ratio: fraction of the sets that get the core of their true factors, so that the adapters learn
            what each core is for while the code still learns to predict it.
        identity_core_prob: fraction of the sets that get the identity core, where no factors are predicted. A single
            image counts as a set.
        kl_weight: of Gaussian cores' divergence from the prior, mean over images.
        seed: of the initial values and of the choice of sets.
        loss: embeddings and batch → loss, instead of the head's; a module's parameters are trained along.
    """

    def __init__(
        self,
        model: AdaptedModel,
        suite: Suite,
        *,
        weight: float,
        teacher_forcing_ratio: float,
        identity_core_prob: float,
        kl_weight: float = 0.0,
        seed: int,
        loss: Loss | None = None,
    ):
        super().__init__()
        self.factors = model.config.factors if model.config.predicts(tuple(map(len, suite.factors))) else ()
        self.weight, self.seed = weight, seed
        self.teacher_forcing_ratio = teacher_forcing_ratio
        self.identity_core_prob = 0.0 if model.config.told else identity_core_prob
        self.kl_weight = kl_weight if model.config.gaussian else 0.0
        self.generates = model.config.generates
        self.reads_images = self.generates and not model.config.told
        self.reads_sets = self.generates or model.context is not None
        self.factor_indices: Any = suite.factor_indices  # None without named factors
        self.combinations: Any = suite.combinations
        classes = self.labels = suite.splits["train"].labels.unique()
        self.column = torch.full((len(suite.classes),), -1).scatter(0, classes, torch.arange(len(classes)))
        like = next(model.trained.parameters())
        self.loss, self.classes, self.names = loss, None, None
        auxiliary = self.factors and not self.generates
        if loss is None or auxiliary:
            with torch.no_grad():
                assert model.example is not None, "the model is prepared"
                width = check_embeddings(model(model.example.to(like.device)), 1).shape[1]
        # Names of checkpoints: the head over classes, and a static method's head over the values of factors.
        if loss is None:
            self.classes = _linear(width, len(classes), like, seeded_generator(seed, -2))
        if auxiliary:
            self.names = _linear(width, sum(self.factors), like, seeded_generator(seed, -3))
        self.to(like.device)

    def forward(
        self, model: AdaptedModel, network: Callable, batch: Batch, features: FeatureCache, step: int, set_size: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss, and the head's accuracy on the batch; None where there is no head.

        Args:
            model: generates the codes.
            network: embeds; `model`, or a compiled one.
            batch: what it is computed on.
            features: cache of what the model's extractor reads.
            step: decides the random draws.
            set_size: images of the batch's groups, which share a core where there are several; 0: all images get the
                identity core.
        """
        device = next(model.trained.parameters()).device
        images, labels = to_device(batch.images, device), to_device(self.column[batch.labels], device)
        groups = batch.groups if self.reads_sets and set_size > 1 else None
        nothing_read = self.reads_images and not set_size
        known = None if nothing_read else features(model, batch.examples, images)
        if nothing_read:
            cores, further = self._of_codes(model, code_of_nothing(model).expand(len(images), -1), 0.0)
            embeddings = network(images, cores=cores)
        elif self.generates and (self.factors or self.identity_core_prob or self.kl_weight):
            cores, further = self._cores(model, images, known, groups, batch, step)
            embeddings = network(images, cores=cores)
        elif self.names is None:
            embeddings, further = network(images, groups=groups, features=known), 0.0
        else:
            embeddings = network(images)
            scores = self.names(embeddings.to(self.names.weight.dtype))
            further = self.weight * factor_loss(scores, *self._targets(batch, device), self.factors)
        if self.loss is not None:
            return self.loss(embeddings, batch.to(device)) + further, None
        assert self.classes is not None
        logits = self.classes(embeddings.to(self.classes.weight.dtype))
        return F.cross_entropy(logits, labels) + further, (logits.argmax(1) == labels).float().mean()

    @torch.inference_mode(False)
    def head(self) -> LinearHead | None:
        """Return the head over classes as it is now, on the CPU; None with a loss of one's own."""
        if self.classes is None:
            return None
        weight, bias = (parameter.detach().cpu().float().clone() for parameter in self.classes.parameters())
        return LinearHead(weight, bias, self.labels)

    def _cores(
        self,
        model: AdaptedModel,
        images: Tensor,
        known: Tensor | None,
        groups: Tensor | None,
        batch: Batch,
        step: int,
    ) -> tuple[Cores, Tensor | float]:
        """Return cores, some of them of true factors or the identity core, and the loss beside the classes'."""
        codes = model.codes(images, features=known)
        pooled = codes if groups is None else model.mapping.pool(codes, groups)
        further: Tensor | float = 0.0
        if self.factors:
            targets, combinations = self._targets(batch, images.device)
            forced = to_device(self._drawn(self.teacher_forcing_ratio, batch, step), images.device)
            used = torch.where(forced, model.mapping.factor_codes(targets), pooled)
            further = self.weight * model.mapping.factor_loss(codes, targets, combinations)
        else:
            neutral = to_device(self._drawn(self.identity_core_prob, batch, step), images.device)
            used = pooled.masked_fill(neutral, 0)
        return self._of_codes(model, used, further)

    def _of_codes(self, model: AdaptedModel, codes: Tensor, further: Tensor | float) -> tuple[Cores, Tensor | float]:
        """Return the cores of codes (N, code), and the further loss with their divergence from the prior."""
        if self.kl_weight:
            further = further + self.kl_weight * model.mapping.kl_divergence(codes).mean()
        return model.cores(codes), further

    def _targets(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the factors of a batch's images, and the combinations of the seen tasks."""
        return to_device(self.factor_indices[batch.tasks], device), to_device(self.combinations, device)

    def _drawn(self, fraction: float, batch: Batch, step: int) -> Tensor:
        """Draw a fraction of the sets; return which images they hold, (N, 1)."""
        drawn = torch.rand(batch.sets, generator=seeded_generator(self.seed, step, 1)) < fraction
        return drawn[batch.groups, None]


def _linear(width: int, outputs: int, like: Tensor, rng: torch.Generator) -> nn.Linear:
    layer = nn.Linear(width, outputs, dtype=like.dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((2 * torch.rand(parameter.shape, generator=rng) - 1) * width**-0.5)
    return layer
