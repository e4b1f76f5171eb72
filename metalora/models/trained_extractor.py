"""An extractor that is trained along with the mapping net: a LoRA on every layer that its features are computed by.

Its network is its own: another backbone, or a twin of the adapted one, with modules of its own and the same tensors. So
frozen weights are in memory once, and the LoRA of neither network changes what the other gives.
"""

import torch
from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.convolutions import Base, has_narrow_groups
from metalora.adapters.targets import layer_sides, layers_of
from metalora.models.backbones import Backbone
from metalora.models.extractors import NetworkExtractor, report_stages, silence_stages
from metalora.models.folding import unfold_batchnorm
from metalora.models.insertion import insert_adapters
from metalora.models.survey import survey
from metalora.util.errors import InputError


@torch.no_grad()
def train_extractor(extractor: NetworkExtractor, config: AdapterConfig, example: Tensor | None) -> nn.Module:
    """Give the layers of an extractor's own network a LoRA; return what is trained, as "adapters.NAME".

    Args:
        extractor: with a network of its own, which is changed in place.
        config: of the model; its seed draws first values.
        example: one image or more; None where only data show what the network takes.

    Raises:
        InputError: there is no example, no layer to train, or a rank that no layer takes.
    """
    network = extractor.own
    assert network is not None, "make_extractor gives those that learn a network of their own"
    image = network.example() if network.image_size is not None else example
    if image is None:
        raise InputError("The layers of a trained extractor are found by a pass: give adapt() an example.")
    unfold_batchnorm(network)  # until all layers are in their places
    seen = survey(network, image[:1])
    layers = {
        name: layer for name, layer in _layers_read(extractor, network, image[:1]).items() if name not in seen.unfit
    }
    if not layers:
        raise InputError("The extractor has no layer that a LoRA could train: set extractor_rank to 0.")
    largest = {name: min(layer_sides(layer)) for name, layer in layers.items()}
    if config.extractor_rank > max(largest.values()):
        most = max(largest.values())
        raise InputError(
            f"extractor_rank is {config.extractor_rank}, and no layer of the extractor takes above {most}."
        )
    ranks = {name: min(config.extractor_rank, most) for name, most in largest.items()}
    settings, trained = AdapterConfig("lora", seed=config.seed, adapter_dtype=config.adapter_dtype), nn.Module()
    silence_stages(network.net, network.stages)  # a hook would stay with the frozen part of an adapted layer
    insert_adapters(network, ranks, settings, trained)
    report_stages(network)
    network.fold(seen.pairs)
    extractor.learns = True
    return trained


def _layers_read(extractor: NetworkExtractor, network: Backbone, image: Tensor) -> dict[str, Base]:
    """Return the layers that features are computed by: called in their pass, and not the head, whose input is read."""
    called: set[nn.Module] = set()
    found = {name: layer for name, layer in layers_of(network.net)[0].items() if name != network.head}
    hooks = [layer.register_forward_pre_hook(lambda layer, _: called.add(layer)) for layer in found.values()]
    try:
        extractor(image)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: layer for name, layer in found.items() if layer in called and not has_narrow_groups(layer)}
