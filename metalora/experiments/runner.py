"""`compare`, the main job: methods × backbones × seeds as independent cells, run where they are missing."""

import contextlib
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from metalora.adapters.methods import method
from metalora.experiments.comparison import Comparison
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job import CellConfig, run_cell
from metalora.suites.archives import pictures_state
from metalora.training.loop import Progress
from metalora.util.device import pick_device
from metalora.util.errors import InputError, LayersLeftOut
from metalora.util.files import check_writable, write_text

RATES = (1e-3, 3e-3, 6e-3)  # that `tune` tries
CELLS = "cells"
PICTURES = "pictures.txt"  # the state of a folder of pictures when its first cell was run
PARTS = ("rows", "tasks", "confusion")  # of a cell's result
CHECKPOINT, STEPS = ".safetensors", ".steps"  # of a cell under way: what it resumes from; its name and steps done
SECONDS_BETWEEN_WORDS = 1.0  # of a cell under way


@dataclass(frozen=True)
class CellDone:
    """Told after every finished cell.

    Attributes:
        ran: the share of it that this run did, 0 to 1; 0: it was there already.
    """

    done: int
    total: int
    name: str
    result: dict[str, Any]
    ran: float
    seconds_left: float


@dataclass(frozen=True)
class UnderWay:
    """A cell that is being trained.

    Attributes:
        share: of its steps, 0 to 1.
        began: the share that an earlier run had done.
    """

    name: str
    share: float
    began: float = 0.0


def run_comparison(config: ComparisonConfig, folder: Path, *, jobs: int | None = None) -> Iterator[CellDone]:
    """Run the cells that `folder` lacks, yielding after each; then `read_comparison` has the results.

    A cell that was interrupted goes on from its last checkpoint. In between, `under_way` tells how far cells are.
    What cells warn of is warned of here, each once, whichever process they ran in; layers that are left out are not:
    `check_comparison` tells them.

    Args:
        jobs: processes at a time; None: one per core for small networks on a CPU, one on an accelerator.

    Raises:
        InputError: the folder cannot be written, a cell or a checkpoint in it is damaged or of other pictures than are
            there now, or what a cell needs does not serve, see `run_cell`.
    """
    check_writable(folder / CELLS)
    _check_pictures(config, folder)
    forget_under_way(folder)
    rates = {}
    trials = _trials(config)
    started = _Clock(count_cells(config))
    warned: set[str] = set()
    for cell, *found in _execute(trials, folder, jobs):
        _warn(found[0], warned)
        yield started.tell(cell, *found)
    if trials:
        rates = best_rates([_read(folder, cell) for cell in trials])
    for cell, *found in _execute([with_rate(cell, rates) for cell in cells_of(config)], folder, jobs):
        _warn(found[0], warned)
        yield started.tell(cell, *found)


def _check_pictures(config: ComparisonConfig, folder: Path) -> None:
    """See that cells of one folder are of the same pictures, where they are the user's own."""
    _, colon, source = config.suite.name.partition(":")
    if not colon:
        return
    file, state = folder / CELLS / PICTURES, pictures_state(Path(source))
    if not file.exists():
        write_text(file, state + "\n")
    elif file.read_text(encoding="utf-8").strip() != state:
        raise InputError(
            f"The pictures in {source} have changed since the trainings in {folder} began: choose another folder for "
            "the results, or delete this one."
        )


def _warn(result: dict[str, Any], warned: set[str]) -> None:
    """Pass on what a cell warned of, but for what is in `warned`, and add it there."""
    for words in result.get("warnings", ()):
        if words not in warned:
            warned.add(words)
            warnings.warn(words, stacklevel=3)


def count_cells(config: ComparisonConfig) -> int:
    """How many cells a comparison has, those that only try a rate included."""
    return len(cells_of(config)) + len(_trials(config))


def cells_of(config: ComparisonConfig) -> list[CellConfig]:
    """The cells of a comparison, all seeds, at the rate of its settings."""
    return [cell for seed in range(config.seeds) for cell in config.cells(seed, config.training.rate)]


def under_way(folder: Path) -> list[UnderWay]:
    """The cells that are being trained in `folder`, by name."""
    found = []
    for file in sorted((folder / CELLS).glob(f"*{STEPS}")):
        try:
            found.append(UnderWay(**json.loads(file.read_text(encoding="utf-8"))))
        except FileNotFoundError:  # it has ended since
            continue
    return found


def seconds_left(elapsed: float, ran: float, missing: int, running: Sequence[UnderWay] = ()) -> float | None:
    """How long `missing` cells take where `ran` took so many seconds; None: nothing has run yet.

    Args:
        running: those of the missing ones that are under way; what this run did of them counts as run.
    """
    ran += sum(cell.share - cell.began for cell in running)
    return elapsed / ran * (missing - sum(cell.share for cell in running)) if ran else None


def forget_under_way(folder: Path) -> None:
    """Remove what processes that were killed said of their cells."""
    for file in (folder / CELLS).glob(f"*{STEPS}"):
        file.unlink(missing_ok=True)


def _trials(config: ComparisonConfig) -> list[CellConfig]:
    if not config.tune:
        return []
    return [cell for rate in RATES for cell in config.cells(0, rate) if _is_trained(cell)]


def read_comparison(
    config: ComparisonConfig,
    folder: Path,
    primary: str,
    notes: Sequence[str] = (),
    *,
    partial: bool = False,
    known: Mapping[str, dict[str, Any]] | None = None,
) -> Comparison:
    """Gather the cells of a run.

    Args:
        partial: take the cells that are there and count the missing ones; not for a comparison that tunes, whose
            rates are known at the end.
        known: results of cells that need not be in the folder, by the cell's key.

    Raises:
        InputError: a cell is missing (unless `partial`) or damaged.
    """
    tried = [_read(folder, cell) for cell in _trials(config)]
    rates = best_rates(tried)
    wanted = [with_rate(cell, rates) for cell in cells_of(config)]
    known = known or {}
    present = [cell for cell in wanted if not partial or cell.key in known or cell_file(folder, cell).exists()]
    found = [known[cell.key] if cell.key in known else _read(folder, cell) for cell in present]
    rows, tasks, confusion = (pd.DataFrame([row for cell in found for row in cell[name]]) for name in PARTS)
    if len(rows):
        order = {row.name: i for i, row in enumerate(config.arms)}
        rows = rows.sort_values("method", key=lambda names: names.map(order), kind="stable")
    missing = len(wanted) - len(present)
    return Comparison(config, rows, tasks, confusion, _trial_rows(tried), primary, tuple(notes), missing)


def best_rates(trials: list[dict[str, Any]]) -> dict[tuple, float]:
    """(backbone, first arm) → the rate with the best validation accuracy among the trials."""
    frame = _trial_rows(trials)
    if frame.empty:
        return {}
    best = frame.loc[frame.groupby(["backbone", "method"])["validation"].idxmax()]
    return {(row.backbone, row.method): row.rate for row in best.itertuples()}


def _trial_rows(trials: list[dict[str, Any]]) -> pd.DataFrame:
    # The first arm of a cell is the one whose validation chooses.
    names = ("backbone", "method", "rate", "seed", "validation")
    return pd.DataFrame([{name: trial["rows"][0][name] for name in names} for trial in trials])


def _is_trained(cell: CellConfig) -> bool:
    return method(cell.adapter.method).format is not None


def with_rate(cell: CellConfig, rates: dict[tuple, float]) -> CellConfig:
    """The cell at the rate chosen for it, see `best_rates`; its own where there is none."""
    rate = rates.get((cell.backbone, cell.arms[0]), cell.training.rate)
    return replace(cell, training=replace(cell.training, rate=rate))


class _Clock:
    """Counts cells and estimates the time left from those that had to run."""

    def __init__(self, total: int):
        self.total, self.done, self.ran, self.started = total, 0, 0, time.monotonic()

    def tell(self, cell: CellConfig, result: dict[str, Any], ran: float) -> CellDone:
        self.done += 1
        self.ran += ran
        left = seconds_left(time.monotonic() - self.started, self.ran, self.total - self.done)
        return CellDone(self.done, self.total, _name(cell), result, ran, left or 0.0)


def _name(cell: CellConfig) -> str:
    return f"{cell.arms[0]} on {cell.backbone}, seed {cell.training.seed}, rate {cell.training.rate:g}"


def cell_file(folder: Path, cell: CellConfig) -> Path:
    """Where the result of a cell lies, or will lie."""
    return folder / CELLS / f"{cell.key}.json"


def _read(folder: Path, cell: CellConfig) -> dict[str, Any]:
    file = cell_file(folder, cell)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        whole = isinstance(found, dict) and all(isinstance(found.get(name), list) for name in PARTS) and found["rows"]
    except FileNotFoundError as error:
        raise InputError(f"{folder} lacks the cell {cell.key}: run the comparison again to complete it.") from error
    except ValueError as error:
        raise InputError(f"{file} is not whole: delete it and run the comparison again.") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): run the comparison in another folder.") from error
    if not whole:
        raise InputError(f"{file} is no result of a training: delete it and run the comparison again.")
    return found


def _execute(
    cells: list[CellConfig], folder: Path, jobs: int | None
) -> Iterator[tuple[CellConfig, dict[str, Any], float]]:
    """Every cell with its result and the share of it that had to run, those that are there first."""
    missing = []
    for cell in cells:
        if cell_file(folder, cell).exists():
            yield cell, _read(folder, cell), 0.0
        else:
            missing.append(cell)
    if not missing:
        return
    missing.sort(key=_is_trained, reverse=True)  # short ones last, where they fill a gap
    if jobs is None:
        jobs = joblib.cpu_count() if pick_device(missing[0].training.device).type == "cpu" else 1
    jobs = max(1, min(jobs, len(missing)))
    # joblib gives each of its processes its share of the cores as threads.
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    tasks = (joblib.delayed(_run_and_write)(cell, folder) for cell in missing)
    for index, *found in parallel(tasks):
        yield next(cell for cell in missing if cell.key == index), *found


def _run_and_write(cell: CellConfig, folder: Path) -> tuple[str, dict[str, Any], float]:
    """Run one cell in whatever process this is, saying how far it is, and put its result away at once.

    Returns:
        Its key, its result, and the share of it that was run here.
    """
    file = cell_file(folder, cell)
    steps, checkpoint, told, began = file.with_suffix(STEPS), file.with_suffix(CHECKPOINT), 0.0, None

    def tell(event: Progress) -> None:
        nonlocal told, began
        if began is None:
            began = (event.step - 1) / event.steps
        if time.monotonic() - told > SECONDS_BETWEEN_WORDS:
            write_text(steps, json.dumps(asdict(UnderWay(_name(cell), event.step / event.steps, began))))
            told = time.monotonic()

    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("ignore", LayersLeftOut)  # check_comparison has told them, once for all seeds
            result = run_cell(cell, checkpoint, tell)
    finally:
        with contextlib.suppress(OSError):  # a folder that refuses this refuses what is written too, which is told
            steps.unlink(missing_ok=True)
    if heard:  # kept with the result, since a process can hand on nothing else
        result["warnings"] = list(dict.fromkeys(str(warning.message) for warning in heard))
    write_text(file, json.dumps(result) + "\n")
    checkpoint.unlink(missing_ok=True)
    return cell.key, result, 1 - (began or 0)
