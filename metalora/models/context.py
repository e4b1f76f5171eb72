"""What a method trains beside its updates of layers, to embed images given the others of their set.

One adapter is used for all images here; what differs between sets is what the network is told or how it normalises. A
method's entry names its class, as "module:Class"; each has a module of its own beside this one.
"""

import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.models.backbones import Backbone
from metalora.models.mapping_net import mean_by_group
from metalora.models.standardised_features import StandardisedFeatures
from metalora.util.errors import InputError


@dataclass(frozen=True)
class Sizes:
    """What a context is built for.

    Attributes:
        image: one image, (1, …).
        width: D, of the backbone's embeddings.
        features: F, of the extractor's features; None where it reads none.
        hidden: width of what is trained.
        code: numbers that it gives for an image, where it gives a vector.
    """

    image: Tensor
    width: int
    features: int | None
    hidden: int
    code: int


class Context(nn.Module, ABC):
    """Embeds images given their sets. It starts as the network without it.

    Attributes:
        not_a_weight: why no weight gives the same for every set, in words after "since".
    """

    not_a_weight: ClassVar[str] = "it reads the images of a set together"

    @classmethod
    @abstractmethod
    def build(cls, backbone: Backbone, sizes: Sizes, rng: torch.Generator) -> Self:
        """Build it for an adapted backbone, its first weights drawn by `rng`.

        Raises:
            InputError: the backbone does not suit it.
        """

    @abstractmethod
    def forward(self, backbone: Backbone, images: Tensor, groups: Tensor | None, features: Tensor | None) -> Tensor:
        """Return embeddings (N, D′).

        Args:
            backbone: adapted.
            images: (N, …).
            groups: (N); images of equal numbers are a set. None: each image by itself.
            features: of the extractor, (N, F), for those that read it.
        """


class Reader(Context, StandardisedFeatures):
    """A context that reads the extractor's features, which are standardised."""


def context_class(name: str) -> type[Context] | None:
    """Return the class of a method's context; None where it has none."""
    source = method(name).context
    return pkgutil.resolve_name(source) if isinstance(source, str) else source


def reads_features(config: AdapterConfig) -> bool:
    """Return whether the extractor is read: for cores, or by a context."""
    found = context_class(config.method)
    return config.generates or (found is not None and issubclass(found, Reader))


def reader_of(model: Any) -> Any:
    """Return what reads the extractor's features: the mapping net of an `AdaptedModel`, or its context.

    Each has `standardise` and `standardised`; None where nothing reads them.
    """
    if model.config.generates:
        return model.mapping
    return model.context if isinstance(model.context, Reader) else None


def build_context(
    config: AdapterConfig, backbone: Backbone, sizes: Sizes, like: Tensor, rng: torch.Generator
) -> Context:
    """Build the context of a method that has one, in the device and precision of `like`.

    Raises:
        InputError: the backbone does not suit it.
    """
    found = context_class(config.method)
    assert found is not None, "the method has a context"
    return found.build(backbone, sizes, rng).to(like)


def refuse_context(model: nn.Module, what: str) -> None:
    """Refuse what the adapters of layers alone are not enough for.

    Args:
        model: an `AdaptedModel`.
        what: cannot be done, such as "be folded into weights".

    Raises:
        InputError: the model has a context.
    """
    context = getattr(model, "context", None)
    if context is not None:
        raise InputError(f"This adapter cannot {what}, since {context.not_a_weight}: use it as it is.")


def shared_by_set(values: Tensor, groups: Tensor | None) -> Tensor:
    """Replace the values (N, …) of every image by the mean over its set; as they are without sets."""
    return values if groups is None else mean_by_group(values.flatten(1), groups).view_as(values)
