"""`Cores`: what the mapping net generates, for every adapted layer and every sample."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, SupportsIndex, overload

import torch
from torch import Tensor

from metalora.util.errors import InputError
from metalora.util.files import read_tensors, write_tensors


class Cores:
    """Layer name → tensor of shape (N, R) in CP format or (N, R, R) in TR format, unscaled.

    The index is a layer's name, for its tensor, or an integer, slice, mask or index tensor, for the `Cores` of those
    samples (an integer keeps the sample axis). One sample broadcasts over a batch.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        lengths = [tensor.shape[0] for tensor in tensors.values()]
        if not lengths or any(length != lengths[0] for length in lengths):
            raise InputError(f"Cores need the same number of samples in every layer, not {sorted(set(lengths))}.")
        self._tensors = dict(tensors)

    @overload
    def __getitem__(self, key: str) -> Tensor: ...

    @overload
    def __getitem__(self, key: SupportsIndex | slice | list | Tensor) -> "Cores": ...

    def __getitem__(self, key: Any) -> "Tensor | Cores":
        if isinstance(key, str):
            if key not in self._tensors:
                raise InputError(f"There is no core of layer {key!r}: layers are {', '.join(self._tensors)}.")
            return self._tensors[key]
        if isinstance(key, Integral) or (isinstance(key, Tensor) and key.ndim == 0):
            key = int(key)
            if not -len(self) <= key < len(self):
                raise IndexError(f"sample {key} of {len(self)}")
            key = slice(key, key + 1 or None)
        return Cores({name: tensor[key] for name, tensor in self._tensors.items()})

    def __len__(self) -> int:
        return len(next(iter(self._tensors.values())))

    @property
    def samples(self) -> int:
        """N, which a compiler may leave open; `len` is a number always."""
        return next(iter(self._tensors.values())).shape[0]

    def __iter__(self) -> Iterator["Cores"]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __repr__(self) -> str:
        return f"Cores({len(self)} samples, {len(self._tensors)} layers)"

    def keys(self) -> KeysView[str]:
        """Return the names of the layers, in the model's order."""
        return self._tensors.keys()

    def items(self) -> ItemsView[str, Tensor]:
        """Return the names and tensors of the layers."""
        return self._tensors.items()

    def mean(self) -> "Cores":
        """Return the mean core of all samples, as one sample."""
        return Cores({name: tensor.mean(0, keepdim=True) for name, tensor in self.items()})

    @staticmethod
    def lerp(a: "Cores", b: "Cores", t: float) -> "Cores":
        """Interpolate from `a` (t = 0) to `b` (t = 1): as many samples in both, or one."""
        a._must_match(b)
        if 1 not in (len(a), len(b)) and len(a) != len(b):
            raise InputError(f"Cores of {len(a)} and {len(b)} samples cannot be blended: give as many, or one.")
        return Cores({name: torch.lerp(tensor, b[name], t) for name, tensor in a.items()})

    @staticmethod
    def cat(parts: list["Cores"]) -> "Cores":
        """Concatenate the samples of all parts."""
        if not parts:
            raise InputError("There are no cores to join: give one part or more.")
        for part in parts:
            parts[0]._must_match(part)
        return Cores({name: torch.cat([part[name] for part in parts]) for name in parts[0]._tensors})

    def _must_match(self, other: "Cores") -> None:
        shapes, others = ({name: tensor.shape[1:] for name, tensor in cores.items()} for cores in (self, other))
        if shapes != others:
            different = next(n for n in (*shapes, *others) if shapes.get(n) != others.get(n))
            raise InputError(f"Cores of different adapters cannot be joined: layer {different!r} differs.")

    def flatten(self) -> Tensor:
        """Return all layers side by side: (N, total)."""
        return torch.cat([tensor.flatten(1) for tensor in self._tensors.values()], dim=1)

    def expand(self, count: int) -> "Cores":
        """Return `count` samples: these if they are as many, or repetitions of the only one.

        Raises:
            InputError: there is another number of samples.
        """
        if self.samples == count:
            return self
        if self.samples != 1:
            raise InputError(f"There are {self.samples} cores for {count} images: give one, or one for each image.")
        return Cores({name: tensor.expand(count, *tensor.shape[1:]) for name, tensor in self.items()})

    def to(self, *args: Any, **kwargs: Any) -> "Cores":
        """Move or cast as `torch.Tensor.to` does."""
        return Cores({name: tensor.to(*args, **kwargs) for name, tensor in self.items()})

    def detach(self) -> "Cores":
        """Detach from the graph."""
        return Cores({name: tensor.detach() for name, tensor in self.items()})

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        write_tensors(Path(path), self._tensors, {"layers": list(self._tensors)})

    @classmethod
    def load(cls, path: str | Path) -> "Cores":
        """Read what `save` wrote."""
        tensors, header = read_tensors(Path(path))
        if header.get("layers") is None or set(header["layers"]) != set(tensors):
            raise InputError(f"{path} does not hold cores: write it with Cores.save.")
        return cls({name: tensors[name] for name in header["layers"]})
