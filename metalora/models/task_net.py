"""Cores from a condition that is given, not read from the image: of the image's task, or of anything else."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.cores import Cores
from metalora.adapters.formats import Format
from metalora.adapters.mixture import TaskLoRA
from metalora.models.backbones import Backbone
from metalora.models.extractors import make_extractor
from metalora.models.mapping_net import CoreHead, mean_by_group
from metalora.util.device import without_autocast
from metalora.util.errors import InputError

EMBEDDING = 64  # width of a task's embedding, as in MOELoRA's code


class GivenCondition(nn.Module):
    """The extractor of adapters whose cores come from a condition (N, F) that is given: it reads nothing."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, images: Tensor) -> Tensor:
        """Refuse.

        Raises:
            InputError: always: the condition was not given.
        """
        raise InputError(
            f"The cores of this adapter come from a condition: give condition=, {self.num_features} numbers each image."
        )


class UnknownTask(GivenCondition):
    """The extractor of methods that are told the task: where it is not told, every seen task counts the same."""

    def forward(self, images: Tensor) -> Tensor:
        """Return equal weights of the tasks, (N, tasks)."""
        return torch.full((images.shape[0], self.num_features), 1 / self.num_features, device=images.device)


def extractor_of(config: AdapterConfig, backbone: Backbone, *, download: bool = False) -> nn.Module:
    """Build what the cores of an adapter are read from: a condition, or features of the image."""
    if config.told:
        return UnknownTask(config.condition)
    if config.condition:
        return GivenCondition(config.condition)
    return make_extractor(config.extractor, backbone, download=download)


class TaskNet(CoreHead):
    """Weights of tasks (N, tasks), 1 for the task that is told → cores of every layer.

    In MOELoRA (Liu et al. 2310.18339, Eq. 8) a task's embedding, by a linear gate of each layer, gives the experts'
    scores. Where experts are the tasks themselves, nothing is trained.

    Args:
        formats: layer → format.
        like: a tensor of the device and dtype to use.
        tasks: number of tasks.
        rng: gives the first weights.
    """

    factors = ()
    log_variance = None
    materialised = True
    standardised: Tensor

    def __init__(self, formats: Mapping[str, Format], like: Tensor, *, tasks: int, rng: torch.Generator):
        super().__init__(formats, like)
        self.width = tasks
        self.register_buffer("standardised", torch.tensor(False))
        self.head: nn.Linear | None = None
        if not all(isinstance(format, TaskLoRA) for format in formats.values()):
            self.embedding = nn.Parameter(torch.randn(tasks, EMBEDDING, generator=rng))
            self.head = nn.Linear(EMBEDDING, self.total, bias=False)
            with torch.no_grad():
                self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=rng) * EMBEDDING**-0.5)
        self.to(like)

    def standardise(self, features: Tensor) -> None:
        """Leave the weights of tasks as they are."""
        self.standardised.fill_(True)

    def codes(self, features: Tensor) -> Tensor:
        """Return the weights of tasks, (N, tasks)."""
        return features.to(self.identity)

    def pool(self, codes: Tensor, groups: Tensor) -> Tensor:
        """Replace every code by the mean of its group's."""
        return mean_by_group(codes, groups)

    def cores(self, codes: Tensor) -> Cores:
        """Map weights of tasks to Cores of N samples."""
        with without_autocast(codes.device):
            codes = codes.to(self.identity)
            if self.head is not None:
                return self.split(self.head(codes @ self.embedding))
            return Cores({name: format.constrain(codes) for name, format in self.formats.items()})
