"""A table of images as a suite: a row per image with its path, task and label.

Optional columns keep groups of rows (clips, patients) in one split, or say the split of every row.
"""

from pathlib import Path

import pandas as pd

from metalora.suites.config import SuiteConfig
from metalora.suites.decoding import Decoding
from metalora.suites.folder_layout import Layout
from metalora.suites.folder_meaning import SPLIT_WORDS
from metalora.suites.images import Progress, decode_files, why_none
from metalora.suites.labelled import labelled_suite
from metalora.suites.names import readable
from metalora.suites.suite import Suite
from metalora.util.errors import InputError, choices
from metalora.util.paths import expand


def table(config: SuiteConfig, seed: int, progress: Progress | None = None) -> Suite:
    """Build the suite "table:FILE" of a CSV, TSV or parquet file; paths are relative to its folder.

    Raises:
        InputError: The file cannot be read, or see `suite_from_table`.
    """
    return suite_from_table(_read(config.source), config, root=config.source.parent, seed=seed, progress=progress)


def suite_from_table(
    frame: pd.DataFrame,
    config: SuiteConfig | None = None,
    *,
    root: str | Path = ".",
    seed: int = 0,
    progress: Progress | None = None,
) -> Suite:
    """Build a suite of a table of images, of 32 pixels unless the settings say another size.

    Args:
        frame: A row per image; `SuiteConfig` names its columns.
        config: Settings of the suite.
        root: Folder to which the paths are relative.
        seed: Decides the splits.
        progress: Called with the number of images read, and in all.

    Raises:
        InputError: A column or a value is missing, an image has two labels, or see `labelled_suite`.
    """
    config = config or SuiteConfig("table:frame")
    rows, notes = _checked(frame, config)
    paths = sorted(set(rows["path"]))
    entries = ((path, expand(root) / expand(path)) for path in paths)
    decoded = decode_files(entries, config.pixels, len(paths), progress, Decoding(bands=config.bands))
    if not len(decoded):
        raise InputError(f"No image of the table can be used: {why_none(decoded)}")
    place = {name: index for index, name in enumerate(decoded.names)}
    rows = rows[rows["path"].isin(place)]
    images = decoded.select([place[path] for path in rows["path"]])
    # An image that several tasks show is one source image: it stays in one split.
    groups = rows["group"] if "group" in rows else rows["path"] if rows["path"].duplicated().any() else None
    layout = Layout(
        images,
        tuple(rows["task"]),
        tuple(rows["label"]),
        None if groups is None else tuple(groups),
        tuple(rows["split"]) if "split" in rows else None,
    )
    suite = labelled_suite(layout, config, seed)
    return suite.with_notes(*notes)


def _read(file: Path) -> pd.DataFrame:
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(file)
        return pd.read_csv(file, dtype=str, sep="\t" if file.suffix.lower() == ".tsv" else ",")
    except ImportError as error:
        raise InputError(f"Reading {file} needs a package: pip install pyarrow.") from error
    except FileNotFoundError as error:
        raise InputError(f"There is no file {file}.") from error
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{file} is not a table ({reason}): give a CSV, TSV or parquet file.") from error


def _checked(frame: pd.DataFrame, config: SuiteConfig) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows with columns path, task, label and, where they are given, group and split; and notes."""
    wanted = {"path": config.image_column, "label": config.label_column}
    if config.task_column in frame or config.task_column != SuiteConfig.task_column:
        wanted["task"] = config.task_column
    optional = {"group": config.group_column, "split": config.split_column}
    wanted |= {name: column for name, column in optional.items() if column is not None}
    for name, column in wanted.items():
        if column not in frame:
            raise InputError(
                f"The table has no column {column!r} for the {name}: use {choices(column, map(str, frame.columns))}."
            )
    rows = pd.DataFrame({name: frame[column] for name, column in wanted.items()})
    empty = rows.isna() | rows.map(lambda value: str(value).strip() == "")
    for name in rows.columns.drop("split", errors="ignore"):
        if empty[name].any():
            row = empty[name].to_numpy().argmax() + 1
            raise InputError(
                f"Row {row} of the table has no {name} ({int(empty[name].sum())} rows lack it): fill it in."
            )
    rows = rows.astype(str)
    for name in rows.columns.intersection(["task", "label", "group"]):
        rows[name] = rows[name].map(readable)
    if "task" not in rows:
        rows["task"] = ""
    if "split" in rows:
        rows["split"] = [_split_word(word, lacks) for word, lacks in zip(rows["split"], empty["split"], strict=True)]
    repeated = rows.duplicated()
    rows = rows[~repeated]
    twice = rows[rows.duplicated(["path", "task"])]
    if len(twice):
        raise InputError(f"{twice['path'].iloc[0]} has several labels in one task: keep one row of it.")
    notes = [f"{int(repeated.sum())} rows of the table repeat others and are left out."] if repeated.any() else []
    return rows.sort_values("path", kind="stable"), notes


def _split_word(word: str, missing: bool) -> str:
    if missing:
        return ""
    key = word.strip().lower()
    if key not in SPLIT_WORDS:
        raise InputError(f"{word!r} is no split: use {', '.join(SPLIT_WORDS)}.")
    return SPLIT_WORDS[key]
