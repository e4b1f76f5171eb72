"""A stand-in for a CUDA device on the CPU: it notes where a pass makes the host wait, as torch's debug mode does.

Tensors "on cuda:0" hold one on the CPU each. What reads their values, or copies from one side to the other without
`non_blocking`, is noted with the line of the project that did it. There is no backward pass: autograd has no engine for
a device that is not there.
"""

import collections
import contextlib
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
PACKAGE = Path(__file__).parents[2] / "metalora"
READING = ("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "bincount", "masked_select", "equal")
COPYING = ("_to_copy", "copy_")
INDEXING = ("index", "index_put", "index_put_")


class Remote(torch.Tensor):
    """A tensor on the device."""

    @staticmethod
    def __new__(cls, inner):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, **layout, device=DEVICE, requires_grad=inner.requires_grad
        )
        tensor.inner = inner
        return tensor

    def __init__(self, inner):
        """Everything is done in `__new__`."""

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        with _Mode():
            return function(*args, **(kwargs or {}))


class _Mode(TorchDispatchMode):
    waits: ClassVar = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        read = any(isinstance(t, Remote) for t in tensors)
        target = kwargs.get("device")
        written = read if target is None else torch.device(target).type == "cuda"
        if not read and not written:
            return function(*args, **kwargs)
        self._note(function._schema.name.split("::")[1], args, kwargs, tensors, read != written)
        if target is not None:
            kwargs["device"] = "cpu"
        result = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        by_inner = {id(_inner(t)): t for t in tensors}  # what is written into stays the same tensor

        def wrapped(value):
            if not isinstance(value, torch.Tensor) or not written:
                return value
            return by_inner[id(value)] if id(value) in by_inner else Remote(value)

        return tree_map(wrapped, result)

    def _note(self, name, args, kwargs, tensors, crosses):
        local = [t for t in tensors if not isinstance(t, Remote)]
        if name in COPYING:
            waits = (crosses or (name == "copy_" and local)) and not (kwargs.get("non_blocking") or args[2:] == (True,))
        elif name in INDEXING:
            places = [t for t in args[1] if isinstance(t, torch.Tensor)]
            waits = any(t.dtype == torch.bool or not isinstance(t, Remote) for t in places)
        else:
            waits = name in READING and len(local) < len(tensors)
        if waits:
            frames = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(PACKAGE)]
            places = (f"{Path(f.filename).relative_to(PACKAGE)}:{f.lineno}" for f in frames[:-3:-1])
            self.waits[f"{name} in {', called in '.join(places)}"] += 1


def _inner(value):
    return value.inner if isinstance(value, Remote) else value


class _Event(SimpleNamespace):
    """An event that has always happened."""

    def record(self, stream=None):
        pass

    def synchronize(self):
        pass

    def query(self):
        return True

    def elapsed_time(self, other):
        return 1.0


@contextlib.contextmanager
def cuda_on_the_cpu(monkeypatch):
    """Give modules that are moved to `DEVICE` in this context a place there; yield what has made the host wait."""
    torch._C._ensureCUDADeviceGuardSet()
    _Mode.waits.clear()
    with monkeypatch.context() as patch:
        for name, value in {
            "_lazy_init": lambda: None,
            "Event": _Event,
            "current_stream": lambda *device: None,
            "mem_get_info": lambda *device: (2**34, 2**34),
            "is_initialized": lambda: False,
        }.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor, *device: tensor.clone())
        patch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
        with _Mode():
            yield _Mode.waits
