"""Modules that are trained as a whole, such as norms or a head, each as a copy of the frozen one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from metalora.adapters.patterns import matches
from metalora.adapters.recomputation import state_of
from metalora.util.errors import InputError, choices


class TrainedCopy(nn.Module):
    """A frozen `base` and a copy of it that is trained, which takes its place unless adapters are disabled.

    It has the attributes of its base, so that a network that reads them works as before.

    Args:
        name: in the backbone.
        base: the frozen module.
        copy: the trained one, in the same or a wider precision.
    """

    base: nn.Module

    def __init__(self, name: str, base: nn.Module, copy: nn.Module):
        super().__init__()
        self.name, self.base = name, base
        self.link(copy)

    def link(self, copy: nn.Module) -> None:
        """Take `copy` as the trained module. It stays out of the module tree: it is a child of another one."""
        self._copy = (copy,)

    @property
    def copy(self) -> nn.Module:
        """The trained module."""
        return self._copy[0]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base" or name.startswith("_"):  # not there yet, in a copy or a pickle
                raise
            return getattr(self.copy if state_of(self).enabled else self.base, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module in use gives, in the precision of its input."""
        if not state_of(self).enabled:
            return self.base(*args, **kwargs)
        kinds = {t.dtype for t in args if isinstance(t, Tensor) and t.is_floating_point()}
        own = next((p.dtype for p in self.copy.parameters()), None)
        if len(kinds) != 1 or own is None or kinds == {own}:
            return self.copy(*args, **kwargs)
        return _cast(self.copy(*_cast(args, own), **_cast(kwargs, own)), kinds.pop())


def _cast(values: Any, dtype: torch.dtype) -> Any:
    return tree_map(lambda t: t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t, values)


def modules_to_save(net: nn.Module, patterns: tuple[str, ...]) -> Mapping[str, nn.Module]:
    """Return the outermost modules with parameters whose names match a pattern.

    Raises:
        InputError: a pattern matches none.
    """
    names = {name: m for name, m in net.named_modules() if name and any(True for _ in m.parameters())}
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            raise InputError(f"The pattern {pattern!r} matches no module: there are {choices(pattern, list(names))}.")
    found: dict[str, nn.Module] = {}
    for name, module in names.items():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if not inside and any(matches(pattern, name) for pattern in patterns):
            found[name] = module
    return found
