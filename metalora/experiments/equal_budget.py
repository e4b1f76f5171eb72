"""Equal budgets: the rank at which a method has as many parameters as the reference has in all.

A layer's rank is that rank or the layer's largest one, whichever is smaller.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import format_class
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
    sides = {layer: layer_sides(adapted.base) for layer, adapted in model.layers.items()}
    if name == "lora":
        return _lora(reference, goal, sides)
    largest = {layer: format_class(name).max_rank(*pair, by_pattern=True) for layer, pair in sides.items()}
    own = replace(reference, method=name, core="generated", factors=factors, exclude=()).with_tasks(tasks)
    most = max(largest.values())

    def at(rank: int, fewer: int = 0) -> AdapterConfig:
        """Return the settings at a rank, and at one less in so many of the last layers."""
        ranks = {layer: min(rank, most) for layer, most in largest.items()}
        ranks |= {layer: max(1, ranks[layer] - 1) for layer in list(ranks)[len(ranks) - fewer :]}
        pattern = _by_layer(ranks)
        return replace(own, rank=rank, rank_pattern=pattern, targets=tuple(pattern))

    def is_enough(config: AdapterConfig) -> bool:
        return total_parameters(adapt(backbone, config)) >= goal

    rank = _first(1, most, lambda rank: is_enough(at(rank)))
    fewer = _first(0, len(sides), lambda fewer: not is_enough(at(rank, fewer))) - 1
    return at(rank, max(0, fewer))


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


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first number for which something holds that holds for all after it; `high` where it never does."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _lora(reference: AdapterConfig, goal: int, sides: Mapping[str, tuple[int, int]]) -> AdapterConfig:
    def parameters(rank: int) -> int:
        return sum(min(rank, inputs, outputs) * (inputs + outputs) for inputs, outputs in sides.values())

    largest = max(min(pair) for pair in sides.values())
    rank = next((r for r in range(1, largest + 1) if parameters(r) >= goal), largest)
    pattern = _by_layer({name: min(rank, *pair) for name, pair in sides.items()})
    return AdapterConfig("lora", rank=rank, rank_pattern=pattern, targets=tuple(pattern), seed=reference.seed)
