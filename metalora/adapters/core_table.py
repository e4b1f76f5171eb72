"""Stored cores of many sources (users, cameras, sites), found by name and mixed in one batch without a loop."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from metalora.adapters.cores import Cores
from metalora.util.errors import InputError
from metalora.util.files import read_tensors, write_tensors


class CoreTable:
    """A core for each name, all of them in one matrix.

    Args:
        names: of the sources, each once.
        cores: as many samples, in the same order.

    Raises:
        InputError: another number of names, or a name twice.
    """

    def __init__(self, names: Sequence[str], cores: Cores):
        if len(names) != len(cores):
            raise InputError(f"There are {len(names)} names for {len(cores)} cores: give one for each.")
        self._rows = {str(name): row for row, name in enumerate(names)}
        if len(self._rows) != len(names):
            twice = next(name for i, name in enumerate(names) if self._rows[str(name)] != i)
            raise InputError(f"The name {twice!r} is there twice: give every source a name of its own.")
        self._shapes = {layer: tuple(tensor.shape[1:]) for layer, tensor in cores.items()}
        self._matrix = cores.detach().flatten()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __repr__(self) -> str:
        return f"CoreTable({len(self)} sources, {self._matrix.shape[1]} numbers each)"

    def __getitem__(self, names: str | Iterable[str]) -> Cores:
        """Return the cores of one source or several, in this order; a name may be there more than once.

        Raises:
            InputError: a name is unknown.
        """
        names = [names] if isinstance(names, str) else list(names)
        unknown = next((name for name in names if name not in self._rows), None)
        if unknown is not None:
            raise InputError(f"There is no core of {unknown!r} among {len(self)}: add it, or use a default core.")
        rows = torch.tensor([self._rows[name] for name in names], device=self._matrix.device)
        return self._split(self._matrix[rows])

    def get(self, names: Iterable[str], default: Cores) -> Cores:
        """Return the cores of sources, those of unknown ones by `default`, one sample.

        Raises:
            InputError: the default is another number of samples, or of another adapter.
        """
        other = default.expand(1).flatten().to(self._matrix)
        if other.shape[1] != self._matrix.shape[1]:
            raise InputError("The default core is of another adapter: generate it by the model of the table.")
        found = torch.tensor([self._rows.get(name, -1) for name in names], device=self._matrix.device)
        # Of the rows that are asked for alone: the table may be large.
        return self._split(torch.where(found[:, None] < 0, other, self._matrix[found]))

    def with_cores(self, names: Sequence[str], cores: Cores) -> "CoreTable":
        """Return a table with more sources; those that are there already get the new cores.

        Raises:
            InputError: as for a new table, or the cores are of another adapter.
        """
        added = CoreTable(names, cores)
        if added._shapes != self._shapes:
            raise InputError("The cores are of another adapter: generate them by the model of the table.")
        kept = [name for name in self if name not in added]
        rows = torch.tensor([self._rows[name] for name in kept], dtype=torch.int64)
        matrix = torch.cat([self._matrix[rows], added._matrix.to(self._matrix)])
        return CoreTable([*kept, *added], self._split(matrix))

    def to(self, device: torch.device | str) -> "CoreTable":
        """Return the table on a device, where a batch is gathered."""
        return CoreTable(list(self), self._split(self._matrix.to(device)))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, the names in its header."""
        write_tensors(Path(path), {"cores": self._matrix}, {"names": list(self), "layers": self._shapes})

    @classmethod
    def load(cls, path: str | Path) -> "CoreTable":
        """Read what `save` wrote.

        Raises:
            InputError: the file holds something else.
        """
        tensors, header = read_tensors(Path(path))
        if "cores" not in tensors or not {"names", "layers"} <= header.keys():
            raise InputError(f"{path} holds no table of cores: write it with CoreTable.save.")
        shapes = {layer: tuple(shape) for layer, shape in header["layers"].items()}
        return cls(header["names"], _split(tensors["cores"], shapes))

    def _split(self, matrix: Tensor) -> Cores:
        return _split(matrix, self._shapes)


def _split(matrix: Tensor, shapes: dict[str, tuple[int, ...]]) -> Cores:
    """Return the cores of every layer from rows with all of them side by side."""
    parts = matrix.split([math.prod(shape) for shape in shapes.values()], dim=1)
    return Cores({layer: part.unflatten(1, shape) for (layer, shape), part in zip(shapes.items(), parts, strict=True)})
