"""Where the cores of a model come from: generated, learned for all images, or given."""

from typing import Any

import torch
from torch import Tensor

from metalora.adapters.config import AdapterConfig
from metalora.adapters.cores import Cores
from metalora.adapters.methods import method
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


def generate(
    model: Any, images: Tensor, *, groups: Tensor | None, shuffle: int | None = None, features: Tensor | None
) -> Cores:
    """Generate the cores of images; arguments are those of `AdaptedModel.generate`.

    Raises:
        InputError: nothing is generated.
    """
    if model.generated and not model.config.generates:
        return model.constant.cores().expand(images.shape[0])
    codes = model.codes(images, features=features)
    if groups is not None:
        codes = model.mapping.pool(codes, groups)
    if shuffle is not None:
        codes = codes[torch.randperm(len(codes), generator=seeded_generator(shuffle)).to(codes.device)]
    return model.cores(codes)


def must_generate(model: Any) -> None:
    """Refuse a model whose adapter is the same for every image.

    Raises:
        InputError: it is.
    """
    if not model.config.generates:
        kind = "has one learned core" if model.generated else "has one adapter" if model.layers else "is the same"
        raise InputError(f"{method(model.config.method).title} {kind} for every image: nothing is generated.")


def given(model: Any, features: Tensor | None, condition: Tensor | None) -> Tensor | None:
    """Return what the mapping net reads, where that is given.

    Raises:
        InputError: the condition does not suit the adapter.
    """
    if condition is None:
        return features
    _check_condition(condition, model.config)
    return condition


def _check_condition(condition: Tensor, config: AdapterConfig) -> None:
    width = config.condition if config.generates else 0
    if condition.ndim != 2 or condition.shape[1] != width:
        takes = f"takes {width} numbers for each image" if width else "takes none: make it with condition="
        raise InputError(f"The condition is {tuple(condition.shape)}, but this adapter {takes}.")


def chosen(model: Any, cores: Cores | None) -> Cores | None:
    """Return these cores, or the constant ones; None for a static method.

    Raises:
        InputError: a generated method without cores, or cores for a static one.
    """
    if not model.generated:
        if cores is not None:
            must_generate(model)
        return None
    if cores is not None:
        return cores
    if model.config.generates:
        raise InputError("This method's update depends on the image: give the cores that generate() returns.")
    return model.constant.cores()
