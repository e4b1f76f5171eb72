"""From a backbone to an adapted model, its generator sized as far as is known before the first batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import format_class
from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.inputs import split_inputs
from metalora.adapters.layers import AdaptedLayer, trained_dtype
from metalora.adapters.linear_probe import Probed
from metalora.adapters.methods import method
from metalora.adapters.places import EMBEDDING
from metalora.models.adapted_model import AdaptedModel
from metalora.models.auto_model import PREFIX, load_auto_model
from metalora.models.backbones import Backbone, check_embeddings, image_size_for, load_backbone, wrap
from metalora.models.context import Sizes, build_context, reads_features
from metalora.models.extractors import StageExtractor, keep_stages
from metalora.models.mapping_net import ConstantCore, MappingNet
from metalora.models.shared_tensors import copy_of
from metalora.models.survey import survey
from metalora.models.task_net import TaskNet
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


def adapt(
    backbone: str | nn.Module,
    config: AdapterConfig | None = None,
    *,
    example: Tensor | Mapping[str, Any] | None = None,
    download: bool = False,
) -> AdaptedModel:
    """Adapt a copy of `backbone`; the original is not changed.

    Args:
        backbone: "resnet20", "mixer_nano", a timm name, what `load_backbone` returned, or any module that
            maps images to embeddings (N, D); or one with other inputs and outputs, such as a transformer, or the name
            of one as in "hf:USER/NAME".
        config: settings; None is Meta-LoRA TR of rank 4.
        example: a batch of images (one is enough), from which sizes of a foreign backbone are learnt; or a batch of
            each of its inputs, by keyword.
        download: fetch weights (of timm's backbone and extractor, of a transformer) that are not on this machine.

    Raises:
        InputError: unknown names, patterns that match nothing, ranks that are too large.
    """
    if isinstance(example, Mapping):
        first, further = split_inputs(None, (), dict(example))
        with forward_context(further=further.one(len(first))):
            return adapt(backbone, config, example=first[:1], download=download)
    config = config or AdapterConfig()
    if config.told and not config.condition:
        title = method(config.method).title
        raise InputError(f"{title} is told the task of every image: set condition to the number of tasks.")
    if isinstance(backbone, str) and backbone.startswith(PREFIX):
        backbone = wrap(load_auto_model(backbone, download=download))
    elif isinstance(backbone, str):
        backbone = load_backbone(backbone, download=download)
    elif any(isinstance(module, AdaptedLayer) for module in backbone.modules()):
        raise InputError("This model is adapted already: adapt the backbone that it was made from.")
    else:
        backbone = copy_of(backbone)
        backbone = backbone if isinstance(backbone, Backbone) else wrap(backbone)
    if example is None:
        example = backbone.example()
    seen = None
    if method(config.method).format is not None and format_class(config.method).place is EMBEDDING:
        _add_probe(backbone, example)
    if example is not None:
        seen = survey(backbone.eval(), example[:1])
        keep_stages(backbone, seen)
    model = AdaptedModel(backbone, config, seen=seen, download=download)
    features = None
    if config.condition and config.generates:
        features = config.condition
    elif config.generates and isinstance(config.extractor, nn.Module):
        features = int(config.extractor.num_features)  # type: ignore[arg-type]
    elif config.generates and example is not None:
        extractor = model.extractor
        staged = isinstance(extractor, StageExtractor)
        if staged:
            features = extractor.width(example.shape[1])
        else:
            features = current.further.call_known(extractor, example[:1]).shape[1]
    _add_generator(model, features)
    if method(config.method).context is not None:
        _add_context(model, example)
    model.eval()
    if example is not None:
        model.prepare(example)
    return model


def build_model(
    backbone_name: str, adapter_config: AdapterConfig, *, image_size: int | None, download: bool = False
) -> AdaptedModel:
    """Adapt the backbone of this name, at the size that suits images of side `image_size` (None is its own size).

    Args:
        backbone_name: a bundled or timm name.
        adapter_config: settings.
        image_size: of the suite's images.
        download: fetch weights of timm (backbone, extractor) that are not on this machine.

    Raises:
        InputError: as `load_backbone` and `adapt`.
    """
    size = None if image_size is None else image_size_for(backbone_name, image_size)
    return adapt(load_backbone(backbone_name, image_size=size, download=download), adapter_config, download=download)


def _add_probe(backbone: Backbone, example: Tensor | None) -> None:
    if example is None:
        raise InputError("A linear probe is as wide as the embedding: give adapt() an example.")
    with torch.no_grad():
        embedding = check_embeddings(backbone.eval()(example[:1]), 1)
    backbone.net, backbone.stages = Probed(backbone.net, embedding), {}


@torch.no_grad()
def _add_context(model: AdaptedModel, example: Tensor | None) -> None:
    config = model.config
    if example is None:
        title = method(config.method).title
        raise InputError(f"{title} is sized by the embedding: give adapt() an example.")
    image = example[:1]
    with model.disabled():
        embedding = check_embeddings(model.backbone.eval()(image), 1)
    features = current.further.call_known(model.extractor, image).shape[1] if reads_features(config) else None
    sizes = Sizes(image, embedding.shape[1], features, config.hidden, config.code)
    base = next(iter(model.layers.values())).base
    like = base.weight.new_empty(0, dtype=trained_dtype(base, config))
    rng = seeded_generator(config.seed, len(model.layers))
    model.trained.context = build_context(config, model.backbone, sizes, like, rng)


def _add_generator(model: AdaptedModel, features: int | None) -> None:
    if not model.generated:
        return
    formats = {name: layer.adapter.format for name, layer in model.layers.items()}
    base = next(iter(model.layers.values())).base
    like = base.weight.new_empty(0, dtype=trained_dtype(base, model.config))
    if model.config.core == "constant":
        model.trained.constant = ConstantCore(formats, like)
        return
    config = model.config
    rng = seeded_generator(config.seed, len(model.layers))
    if config.told:
        model.trained.mapping = TaskNet(formats, like, tasks=config.condition, rng=rng)
        return
    code: dict[str, Any] = {"code": config.code, "factors": config.factors, "code_norm_limit": config.code_norm_limit}
    first: dict[str, Any] = {"head_init_std": config.initial_head_std, "gaussian": config.gaussian, "rng": rng}
    model.trained.mapping = MappingNet(formats, like, features=features, hidden=config.hidden, **code, **first)
