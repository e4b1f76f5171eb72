"""Equal budgets: the rank at which a method has as many parameters as the reference has in all.

A layer's rank is that rank or the layer's largest one, whichever is smaller.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import format_class, make_format
from metalora.adapters.methods import method
from metalora.adapters.targets import layer_sides
from metalora.experiments.config import JobConfig
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Suite
from metalora.util.errors import InputError


def total_parameters(model: AdaptedModel) -> int:
    """Count the parameters of the adapters and of what generates their cores, or embeds sets."""
    return sum(parameter.numel() for parameter in model.trained.parameters())


def equal_budget(
    backbone: torch.nn.Module,
    reference: AdapterConfig,
    name: str = "lora",
    *,
    factors: tuple[int, ...] = (),
    tasks: int = 0,
) -> AdapterConfig:
    """Return settings of a method with at least as many parameters as the reference, in the same layers.

    LoRA gets the smallest rank that does it, in all layers. Other methods have larger steps from rank to rank, since
    they have several factors of a rank; of these the last layers get one rank less, as long as there are enough.

    Args:
        backbone: to be adapted.
        reference: settings of the reference method, whose extractor and widths the method has as well.
        name: of the method.
        factors: numbers of values of the factors that its code predicts, where it does.
        tasks: number of seen tasks, for methods that are told them.

    Raises:
        InputError: the rank has no effect on the method's budget.
    """
    if not format_class(name).ranked:
        title = method(name).title
        raise InputError(f"The rank has no effect on {title}, so its budget stays: leave -equal-budget out.")
    model = adapt(backbone, reference)
    goal = total_parameters(model)
    weights = {layer: adapted.weight for layer, adapted in model.layers.items()}
    sides = {layer: layer_sides(adapted.base) for layer, adapted in model.layers.items()}
    if name == "lora":
        return _lora(reference, goal, sides)
    largest = {layer: format_class(name).max_rank(*pair, by_pattern=True) for layer, pair in sides.items()}
    own = replace(reference, method=name, core="generated", factors=factors, exclude=()).with_tasks(tasks)
    count = _counter(backbone, own, weights)

    def at(rank: int, fewer: int = 0) -> dict[str, int]:
        """Return the ranks at one, and at one less in so many of the last layers."""
        ranks = {layer: min(rank, most) for layer, most in largest.items()}
        return ranks | {layer: max(1, ranks[layer] - 1) for layer in list(ranks)[len(ranks) - fewer :]}

    most = max(largest.values())
    rank = next((rank for rank in range(1, most) if count(at(rank)) >= goal), most)
    fewer = next((n for n in range(len(sides), 0, -1) if count(at(rank, n)) >= goal), 0)
    pattern = _by_layer(at(rank, fewer))
    return replace(own, rank=rank, rank_pattern=pattern, targets=tuple(pattern))


def _counter(
    backbone: torch.nn.Module, config: AdapterConfig, weights: Mapping[str, torch.Tensor]
) -> Callable[[Mapping[str, int]], int]:
    """Return a function from the ranks of layers to the trained parameters of a method, all included."""
    ones = _by_layer(dict.fromkeys(weights, 1))
    smallest = adapt(backbone, replace(config, rank=1, rank_pattern=ones, targets=tuple(ones)))
    heads = [smallest.mapping.head, smallest.mapping.log_variance] if config.generates else []
    per_value = sum(head.in_features + (head.bias is not None) for head in heads if head is not None)  # of a core

    def in_layers(ranks: Mapping[str, int]) -> int:
        total, counted = 0, set()
        for layer, rank in ranks.items():
            outputs, inputs, *kernel = weights[layer].shape
            format = make_format(config, rank, outputs)
            for factor, shape in format.parameter_shapes(tuple(kernel), inputs, outputs).items():
                key = (factor, weights[layer].shape, rank) if factor in format.shared else (factor, layer, rank)
                total += 0 if key in counted else math.prod(shape)
                counted.add(key)
            total += per_value * math.prod(format.core_shape) if config.generates else 0
        return total

    rest = total_parameters(smallest) - in_layers(dict.fromkeys(weights, 1))
    return lambda ranks: rest + in_layers(ranks)


def settings_of(job: JobConfig, backbone: torch.nn.Module, suite: Suite) -> AdapterConfig:
    """Return the adapter settings that a job trains with: its own, or those of equal budget.

    Raises:
        InputError: as `equal_budget`.
    """
    if not job.equal_budget:
        return job.adapter.with_tasks(len(suite.seen))
    factors = tuple(map(len, suite.factors)) if job.trained.factor_code else ()
    return equal_budget(backbone, job.adapter, job.trained.method, factors=factors, tasks=len(suite.seen))


def _by_layer(ranks: Mapping[str, int]) -> dict[str, int]:
    """Return ranks by expressions that match one layer each."""
    return {f"^{name.replace('.', '[.]')}$": rank for name, rank in ranks.items()}


def _lora(reference: AdapterConfig, goal: int, sides: Mapping[str, tuple[int, int]]) -> AdapterConfig:
    def parameters(rank: int) -> int:
        return sum(min(rank, inputs, outputs) * (inputs + outputs) for inputs, outputs in sides.values())

    largest = max(min(pair) for pair in sides.values())
    rank = next((r for r in range(1, largest + 1) if parameters(r) >= goal), largest)
    pattern = _by_layer({name: min(rank, *pair) for name, pair in sides.items()})
    return AdapterConfig("lora", rank=rank, rank_pattern=pattern, targets=tuple(pattern), seed=reference.seed)
