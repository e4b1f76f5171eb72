"""Which layers of a network are adapted, and at what rank."""

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from timm.layers import Conv2dSame
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.convolutions import Base, has_narrow_groups, is_linear_in_weight
from metalora.adapters.formats import Factorised, format_class
from metalora.adapters.methods import method
from metalora.adapters.patterns import matches
from metalora.adapters.places import WEIGHT, weight_of
from metalora.util.errors import InputError, LayersLeftOut, choices

# These read their linears' weights instead of calling them: an adapter there would do nothing.
READ_NOT_CALLED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
STEM = "it belongs to the stem"
NARROW = "an update of so narrow groups costs several times the layer (name it in targets to adapt it all the same)"
OTHER_KINDS = (
    nn.Conv1d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.Bilinear,
    nn.RNNBase,
)


@dataclass(frozen=True)
class Selection:
    """The layers that are adapted.

    Attributes:
        ranks: layer name → rank.
        left_out: layer name → why it is not adapted.
    """

    ranks: dict[str, int]
    left_out: dict[str, str] = field(default_factory=dict)


def select_layers(
    net: nn.Module, config: AdapterConfig, stem: str | None = None, unsuited: Mapping[str, str] | None = None
) -> Selection:
    """Choose the adapted layers of `net`.

    Args:
        net: the backbone.
        config: the adapter's settings.
        stem: name of the stage up to which layers stay unadapted, because cores are read from it.
        unsuited: layer name → why its place in the network leaves it no update, such as that it is never called.

    Raises:
        InputError: a pattern that matches nothing or a layer that cannot be adapted, a rank above a
            layer's largest, or nothing left to adapt.
    """
    place, entry = format_class(config.method).place, method(config.method)
    candidates, unfit = _candidates(net) if place is WEIGHT else (place.find(net), {})
    if not candidates and place is not WEIGHT:
        needed = f"{entry.title} needs {entry.needs}, which {type(net).__name__} is not"
        raise InputError(f"{needed}: choose another method or backbone.")
    if not candidates and not unfit:
        raise InputError(f"{type(net).__name__} has no Conv2d or Linear layer to adapt.")
    unfit = {name: reason for name, reason in (unsuited or {}).items() if name in candidates} | unfit
    if config.targets is None and issubclass(format_class(config.method), Factorised):
        unfit = dict.fromkeys((name for name, layer in candidates.items() if has_narrow_groups(layer)), NARROW) | unfit
    order = [*candidates, *(name for name in unfit if name not in candidates)]
    chosen = _matching(config, order)
    left_out = {name: unfit[name] for name in chosen if name in unfit}
    if config.targets is not None and left_out:
        name, reason = next(iter(left_out.items()))
        raise InputError(f"Layer {name!r} cannot be adapted, {reason}: leave it out with exclude.")
    chosen = [name for name in chosen if name not in unfit]
    if stem is not None:
        shallow = _up_to(net, stem)
        in_stem = [name for name in chosen if name in shallow]
        if config.targets is not None and in_stem:
            raise InputError(f"Layer {in_stem[0]!r} belongs to the stem, which stays unadapted: use extractor self.")
        left_out |= dict.fromkeys(in_stem, STEM)
        chosen = [name for name in chosen if name not in shallow]
    ranks = {}
    for name in chosen:
        rank, by_pattern = _rank(name, config)
        max_rank = _max_rank(candidates[name], config, by_pattern=by_pattern)
        if rank <= max_rank:
            ranks[name] = rank
        elif config.targets is not None or rank != config.rank:
            raise InputError(_too_large(rank, max_rank, name, config, by_pattern=by_pattern))
        else:
            left_out[name] = f"rank {rank} exceeds its largest, {max_rank}"
    if not ranks:
        raise InputError(
            _nothing_left({name: _max_rank(candidates[name], config) for name in chosen}, left_out, config)
        )
    _warn(left_out)
    return Selection(ranks, left_out)


def stem_of(net: nn.Module, stem: str | None) -> set[str]:
    """Return the names of the modules of the stem; none where there is no stem."""
    return set() if stem is None else _up_to(net, stem)


def leave_out(selection: Selection, copied: Iterable[str], stem: set[str]) -> Selection:
    """Leave out layers of modules that are trained as a whole.

    Raises:
        InputError: such a module belongs to the stem, whose output cores are read from.
    """
    reasons: dict[str, str] = {}
    for outer in copied:
        if outer in stem:
            raise InputError(f"Module {outer!r} belongs to the stem, which stays frozen: use extractor self.")
        inside = [name for name in selection.ranks if name == outer or name.startswith(f"{outer}.")]
        reasons |= dict.fromkeys(inside, "it is trained as a whole")
    ranks = {name: rank for name, rank in selection.ranks.items() if name not in reasons}
    if selection.ranks and not ranks:
        raise InputError("No layer is left to adapt beside modules_to_save: use method original for these alone.")
    return Selection(ranks, selection.left_out | reasons)


def _candidates(net: nn.Module) -> tuple[dict[str, Base], dict[str, str]]:
    """Return the layers that can be adapted, and those of the right kind that cannot, with the reason."""
    fit: dict[str, Base] = {}
    unfit: dict[str, str] = {}
    inside = tuple(
        f"{name}." if name else "" for name, module in net.named_modules() if isinstance(module, READ_NOT_CALLED)
    )
    for name, module in net.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            if _is_of_another_kind(module):
                unfit[name] = (
                    f"adapters are made for Conv2d and Linear layers, and it is of class {type(module).__name__}"
                )
            continue
        known = nn.Linear if isinstance(module, nn.Linear) else nn.Conv2d
        if inside and name.startswith(inside):
            unfit[name] = "its weight is read by the attention around it, not called"
        elif "weight" not in module._parameters or not _computes_as_known(module, known):
            unfit[name] = f"{type(module).__name__} computes with its weight in a way of its own"
        elif isinstance(module.weight, nn.UninitializedParameter):
            unfit[name] = "its size is not known yet (run the backbone once)"
        elif not name:
            raise InputError(f"The backbone is a single {known.__name__}: wrap it in nn.Sequential.")
        else:
            fit[name] = module
    return fit, unfit


def _is_of_another_kind(module: nn.Module) -> bool:
    """Return whether a layer has a weight that other tools adapt and adapters here do not."""
    # transformers' Conv1D is a linear layer with its weight transposed.
    return isinstance(module, OTHER_KINDS) or type(module).__name__ == "Conv1D"


def _computes_as_known(layer: Base, kind: type[nn.Module]) -> bool:
    """Return whether a layer's output is linear in its weight, so that the output of an update can be added to it."""
    if type(layer).forward in (kind.forward, Conv2dSame.forward):
        return True
    return isinstance(layer, nn.Conv2d) and is_linear_in_weight(layer)


def _matching(config: AdapterConfig, names: list[str]) -> list[str]:
    """Return the layers that targets and exclude choose."""
    for pattern in (*(config.targets or ()), *config.exclude, *config.rank_pattern):
        if not any(matches(pattern, name) for name in names):
            raise InputError(f"The pattern {pattern!r} matches no layer: there are {choices(pattern, names)}.")
    patterns = config.targets if config.targets is not None else ("",)
    return [
        name
        for name in names
        if any(matches(p, name) for p in patterns) and not any(matches(p, name) for p in config.exclude)
    ]


def _up_to(net: nn.Module, stem: str) -> set[str]:
    """Return the names of modules that are defined before the end of stage `stem`."""
    names = [name for name, _ in net.named_modules()]
    last = max(i for i, name in enumerate(names) if name == stem or name.startswith(f"{stem}."))
    return set(names[: last + 1])


def _rank(name: str, config: AdapterConfig) -> tuple[int, bool]:
    """Return the rank of a layer, and whether a pattern sets it."""
    ranks = (rank for pattern, rank in config.rank_pattern.items() if matches(pattern, name))
    rank = next(ranks, None)
    return (config.rank, False) if rank is None else (rank, True)


def layer_sides(layer: Base) -> tuple[int, int]:
    """Return the two sides of a layer's weight as a matrix: (I·K·K, O)."""
    outputs, *inputs = weight_of(layer).shape
    return math.prod(inputs), outputs


def _max_rank(layer: Base, config: AdapterConfig, *, by_pattern: bool = False) -> int:
    return format_class(config.method).max_rank(*layer_sides(layer), by_pattern=by_pattern)


def _too_large(rank: int, max_rank: int, name: str, config: AdapterConfig, *, by_pattern: bool = False) -> str:
    reason = format_class(config.method).rank_error(rank, name, by_pattern=by_pattern)
    return f"Rank {rank} {reason}: use {max_rank} or less."


def _nothing_left(max_ranks: dict[str, int], left_out: dict[str, str], config: AdapterConfig) -> str:
    """Say why no layer is adapted.

    Args:
        max_ranks: the largest rank of each layer that was chosen and could be adapted.
        left_out: why each other layer that was chosen is not.
        config: the adapter's settings.
    """
    if max_ranks:
        name = max(max_ranks, key=max_ranks.__getitem__)  # the rank is too large even for this layer
        return _too_large(config.rank, max_ranks[name], name, config)
    if not left_out:
        return "No layer is left to adapt: widen the targets."
    reasons = [f"{_some(names)}, since {reason}" for reason, names in _by_reason(left_out).items()]
    return f"No layer is left to adapt: not {'; not '.join(reasons)}. Change the network, or what is excluded."


def _by_reason(left_out: dict[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        reasons.setdefault(reason, []).append(name)
    return dict(sorted(reasons.items()))


def _some(names: list[str], max_shown: int = 3) -> str:
    more = f" and {len(names) - max_shown} more" if len(names) > max_shown else ""
    return ", ".join(names[:max_shown]) + more


def _warn(left_out: dict[str, str]) -> None:
    for reason, names in _by_reason(left_out).items():
        if reason != STEM:  # which was asked for
            warnings.warn(f"Not adapted, since {reason}: {', '.join(names)}.", LayersLeftOut, stacklevel=4)
