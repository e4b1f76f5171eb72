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
    frames = []
    for layer, strength in inspection.strength.items():
        frames.append(_numbered(strength.to_numpy()).assign(layer=layer, quantity="strength"))
        if inspection.cores is not None and inspection.similarity is not None:
            frames.append(_numbered(inspection.cores[layer].numpy()).assign(layer=layer, quantity="core"))
    table = pd.concat(frames, ignore_index=True)
    table["name"] = [inspection.names[i - 1] for i in table["image"]]
    return table[["image", "name", "layer", "quantity", "row", "column", "value"]]


def _numbered(values: np.ndarray) -> pd.DataFrame:
    """Return values (N), (N, R) or (N, R, R), each with its indices, counted from 1."""
    indices = np.indices(values.shape).reshape(values.ndim, -1) + 1
    frame = pd.DataFrame(dict(zip(("image", "row", "column"), indices, strict=False)))
    frame = frame.assign(value=values.astype(float).ravel()).reindex(columns=["image", "row", "column", "value"])
    return frame.astype({"row": "Int64", "column": "Int64"})
