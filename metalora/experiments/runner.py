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
from metalora.experiments.job import JobConfig, run_job
from metalora.suites.archives import pictures_state
from metalora.training.loop import Progress
from metalora.util.device import pick_device
from metalora.util.errors import InputError, LayersLeftOut
from metalora.util.files import check_writable, write_text

LEARNING_RATES = (1e-3, 3e-3, 6e-3)  # that `tune` tries
JOBS = "cells"
PICTURES = "pictures.txt"  # the state of a folder of pictures when its first cell was run
PARTS = ("rows", "tasks", "confusion")  # of a cell's result
CHECKPOINT, STEPS = ".safetensors", ".steps"  # of a cell under way: what it resumes from; its name and steps done
SECONDS_BETWEEN_WORDS = 1.0  # of a cell under way


@dataclass(frozen=True)
class JobDone:
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


def run_comparison(config: ComparisonConfig, folder: Path, *, n_jobs: int | None = None) -> Iterator[JobDone]:
    """Run the cells that `folder` lacks, yielding after each; then `read_comparison` has the results.

    A cell that was interrupted goes on from its last checkpoint. In between, `under_way` tells how far cells are.
    What cells warn of is warned of here, each once, whichever process they ran in; layers that are left out are not:
    `check_comparison` tells them.

    Args:
        jobs: processes at a time; None: one per core for small networks on a CPU, one on an accelerator.

    Raises:
        InputError: the folder cannot be written, a cell or a checkpoint in it is damaged or of other pictures than are
            there now, or what a cell needs does not serve, see `run_job`.
    """
    check_writable(folder / JOBS)
    _check_pictures(config, folder)
    forget_under_way(folder)
    lrs = {}
    trials = _trials(config)
    started = _Clock(count_jobs(config))
    warned: set[str] = set()
    for job, *found in _execute(trials, folder, n_jobs):
        _warn(found[0], warned)
        yield started.tell(job, *found)
    if trials:
        lrs = best_lrs([_read(folder, job) for job in trials])
    for job, *found in _execute([with_lr(job, lrs) for job in jobs_of(config)], folder, n_jobs):
        _warn(found[0], warned)
        yield started.tell(job, *found)


def _check_pictures(config: ComparisonConfig, folder: Path) -> None:
    """See that cells of one folder are of the same pictures, where they are the user's own."""
    _, colon, source = config.suite.name.partition(":")
    if not colon:
        return
    file, state = folder / JOBS / PICTURES, pictures_state(Path(source))
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


def count_jobs(config: ComparisonConfig) -> int:
    """How many cells a comparison has, those that only try a rate included."""
    return len(jobs_of(config)) + len(_trials(config))


def jobs_of(config: ComparisonConfig) -> list[JobConfig]:
    """The cells of a comparison, all seeds, at the rate of its settings."""
    return [job for seed in range(config.seeds) for job in config.jobs(seed, config.training.lr)]


def under_way(folder: Path) -> list[UnderWay]:
    """The cells that are being trained in `folder`, by name."""
    found = []
    for file in sorted((folder / JOBS).glob(f"*{STEPS}")):
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
    ran += sum(job.share - job.began for job in running)
    return elapsed / ran * (missing - sum(job.share for job in running)) if ran else None


def forget_under_way(folder: Path) -> None:
    """Remove what processes that were killed said of their cells."""
    for file in (folder / JOBS).glob(f"*{STEPS}"):
        file.unlink(missing_ok=True)


def _trials(config: ComparisonConfig) -> list[JobConfig]:
    if not config.tune:
        return []
    return [job for lr in LEARNING_RATES for job in config.jobs(0, lr) if _is_trained(job)]


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
    tried = [_read(folder, job) for job in _trials(config)]
    lrs = best_lrs(tried)
    wanted = [with_lr(job, lrs) for job in jobs_of(config)]
    known = known or {}
    present = [job for job in wanted if not partial or job.key in known or job_file(folder, job).exists()]
    found = [known[job.key] if job.key in known else _read(folder, job) for job in present]
    rows, tasks, confusion = (pd.DataFrame([row for job in found for row in job[name]]) for name in PARTS)
    if len(rows):
        order = {row.name: i for i, row in enumerate(config.variants)}
        rows = rows.sort_values("method", key=lambda names: names.map(order), kind="stable")
    missing = len(wanted) - len(present)
    return Comparison(config, rows, tasks, confusion, _trial_rows(tried), primary, tuple(notes), missing)


def best_lrs(trials: list[dict[str, Any]]) -> dict[tuple, float]:
    """(backbone, first arm) → the rate with the best validation accuracy among the trials."""
    frame = _trial_rows(trials)
    if frame.empty:
        return {}
    best = frame.loc[frame.groupby(["backbone", "method"])["validation"].idxmax()]
    return {(row.backbone, row.method): row.lr for row in best.itertuples()}


def _trial_rows(trials: list[dict[str, Any]]) -> pd.DataFrame:
    # The first arm of a cell is the one whose validation chooses.
    names = ("backbone", "method", "lr", "seed", "validation")
    return pd.DataFrame([{name: trial["rows"][0][name] for name in names} for trial in trials])


def _is_trained(job: JobConfig) -> bool:
    return method(job.adapter.method).format is not None


def with_lr(job: JobConfig, lrs: dict[tuple, float]) -> JobConfig:
    """The cell at the rate chosen for it, see `best_rates`; its own where there is none."""
    lr = lrs.get((job.backbone, job.variants[0]), job.training.lr)
    return replace(job, training=replace(job.training, lr=lr))


class _Clock:
    """Counts cells and estimates the time left from those that had to run."""

    def __init__(self, total: int):
        self.total, self.done, self.ran, self.started = total, 0, 0, time.monotonic()

    def tell(self, job: JobConfig, result: dict[str, Any], ran: float) -> JobDone:
        self.done += 1
        self.ran += ran
        left = seconds_left(time.monotonic() - self.started, self.ran, self.total - self.done)
        return JobDone(self.done, self.total, _name(job), result, ran, left or 0.0)


def _name(job: JobConfig) -> str:
    return f"{job.variants[0]} on {job.backbone}, seed {job.training.seed}, rate {job.training.lr:g}"


def job_file(folder: Path, job: JobConfig) -> Path:
    """Where the result of a cell lies, or will lie."""
    return folder / JOBS / f"{job.key}.json"


def _read(folder: Path, job: JobConfig) -> dict[str, Any]:
    file = job_file(folder, job)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        whole = isinstance(found, dict) and all(isinstance(found.get(name), list) for name in PARTS) and found["rows"]
    except FileNotFoundError as error:
        raise InputError(f"{folder} lacks the cell {job.key}: run the comparison again to complete it.") from error
    except ValueError as error:
        raise InputError(f"{file} is not whole: delete it and run the comparison again.") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): run the comparison in another folder.") from error
    if not whole:
        raise InputError(f"{file} is no result of a training: delete it and run the comparison again.")
    return found


def _execute(
    jobs: list[JobConfig], folder: Path, n_jobs: int | None
) -> Iterator[tuple[JobConfig, dict[str, Any], float]]:
    """Every cell with its result and the share of it that had to run, those that are there first."""
    missing = []
    for job in jobs:
        if job_file(folder, job).exists():
            yield job, _read(folder, job), 0.0
        else:
            missing.append(job)
    if not missing:
        return
    missing.sort(key=_is_trained, reverse=True)  # short ones last, where they fill a gap
    if n_jobs is None:
        n_jobs = joblib.cpu_count() if pick_device(missing[0].training.device).type == "cpu" else 1
    n_jobs = max(1, min(n_jobs, len(missing)))
    # joblib gives each of its processes its share of the cores as threads.
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    tasks = (joblib.delayed(_run_and_write)(job, folder) for job in missing)
    for index, *found in parallel(tasks):
        yield next(job for job in missing if job.key == index), *found


def _run_and_write(job: JobConfig, folder: Path) -> tuple[str, dict[str, Any], float]:
    """Run one cell in whatever process this is, saying how far it is, and put its result away at once.

    Returns:
        Its key, its result, and the share of it that was run here.
    """
    file = job_file(folder, job)
    steps, checkpoint, told, began = file.with_suffix(STEPS), file.with_suffix(CHECKPOINT), 0.0, None

    def tell(event: Progress) -> None:
        nonlocal told, began
        if began is None:
            began = (event.step - 1) / event.steps
        if time.monotonic() - told > SECONDS_BETWEEN_WORDS:
            write_text(steps, json.dumps(asdict(UnderWay(_name(job), event.step / event.steps, began))))
            told = time.monotonic()

    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("ignore", LayersLeftOut)  # check_comparison has told them, once for all seeds
            result = run_job(job, checkpoint, tell)
    finally:
        with contextlib.suppress(OSError):  # a folder that refuses this refuses what is written too, which is told
            steps.unlink(missing_ok=True)
    if heard:  # kept with the result, since a process can hand on nothing else
        result["warnings"] = list(dict.fromkeys(str(warning.message) for warning in heard))
    write_text(file, json.dumps(result) + "\n")
    checkpoint.unlink(missing_ok=True)
    return job.key, result, 1 - (began or 0)
