"""What was generated, as files: a CSV table for spreadsheets, an npz of arrays for programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metalora.inspection.inspect_images import Inspection
from metalora.util.files import text_file, write_whole

CSV, NPZ = "cores.csv", "cores.npz"


def write_inspection(inspection: Inspection, folder: Path) -> tuple[Path, Path]:
    """Write `CSV` and `NPZ` into a folder and return their paths.

    Raises:
        InputError: the disk refuses.
    """
    table = value_table(inspection).to_csv(index=False, lineterminator="\n")
    write_whole(text_file(folder / CSV, table), arrays_file(folder / NPZ, inspection))
    return folder / CSV, folder / NPZ


def arrays_file(path: Path, inspection: Inspection) -> tuple[Path, Callable[[Path], Any]]:
    """Return an npz at `path` for `write_whole`.

    Its arrays are "names", "layers", "strength" (N, layers), and of a method that generates "similarity" (N, N) and
    "cores/LAYER" (N, R) or (N, R, R).
    """
    arrays: dict[str, Any] = {"names": np.array(inspection.names), "layers": np.array(list(inspection.strength))}
    arrays["strength"] = inspection.strength.to_numpy()
    if inspection.cores is not None and inspection.similarity is not None:
        arrays["similarity"] = inspection.similarity.numpy()
        arrays |= {f"cores/{name}": core.numpy() for name, core in inspection.cores.items()}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # savez would add a suffix to a name
            np.savez_compressed(file, **arrays)

    return path, write


def value_table(inspection: Inspection) -> pd.DataFrame:
    """Return one number a row: image (from 1), name, layer, quantity, row and column (from 1), value.

    The quantity is "strength", ‖ΔW‖ / ‖W‖, which has no row and column, or "core": c[r] has a row, C[r2, r0] both.
    """
    parts: dict[tuple[str, str], np.ndarray] = {}
    for layer, strength in inspection.strength.items():
        parts[str(layer), "strength"] = strength.to_numpy()
        if inspection.cores is not None and inspection.similarity is not None:
            parts[str(layer), "core"] = inspection.cores[layer].numpy()
    # One frame of all: a frame for each layer would take twenty times as long.
    sizes = [values.size for values in parts.values()]
    indices = np.concatenate([_indices(values.shape) for values in parts.values()], axis=1)
    row, column = (pd.array(index, dtype="Int64") for index in indices[1:])
    row[indices[1] == 0], column[indices[2] == 0] = pd.NA, pd.NA
    return pd.DataFrame(
        {
            "image": indices[0],
            "name": np.array(inspection.names, dtype=object)[indices[0] - 1],
            "layer": np.repeat([layer for layer, _ in parts], sizes),
            "quantity": np.repeat([quantity for _, quantity in parts], sizes),
            "row": row,
            "column": column,
            "value": np.concatenate([values.astype(float).ravel() for values in parts.values()]),
        }
    )


def _indices(shape: tuple[int, ...]) -> np.ndarray:
    """Return image, row and column of values of shape (N), (N, R) or (N, R, R), counted from 1; 0 where there is none.

    Of shape (3, values).
    """
    found = np.zeros((3, np.prod(shape)), dtype=np.int64)
    found[: len(shape)] = np.indices(shape).reshape(len(shape), -1) + 1
    return found
