"""`compare`, the main task: methods × backbones × seeds as independent jobs, of which those run that are missing."""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from metalora.experiments.comparison import Comparison
from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.experiments.executor import run_each, threads_each
from metalora.experiments.job_files import (
    CHECKPOINT,
    JOBS,
    PARTS,
    RunningJob,
    check_images,
    has_result,
    job_file,
    read_result,
    remove_stale_progress,
    withdraw_stop,
    write_provenance,
    write_result,
)
from metalora.experiments.resumable_job import Ran, run_and_write, run_on_worker
from metalora.suites.load import load_suite
from metalora.suites.suite import Suite
from metalora.training.plan import LEARNING_RATES
from metalora.training.tracking import check_tracker
from metalora.util.cluster import Cluster, probe
from metalora.util.errors import InputError
from metalora.util.files import check_writable, remove_temporaries, remove_with_parts


@dataclass(frozen=True)
class JobDone:
    """A finished job.

    Attributes:
        done: Jobs that are finished, this one included.
        total: All jobs.
        name: Of this job, as people read it.
        result: As `run_job` returns it.
        ran: The fraction of it that this run did; 0: its result was there.
        seconds_left: Until the last job is finished.
    """

    done: int
    total: int
    name: str
    result: dict[str, Any]
    ran: float
    seconds_left: float


def run_comparison(
    config: ComparisonConfig,
    folder: Path,
    *,
    n_jobs: int | None = None,
    suite: Suite | None = None,
    log_to: str | None = None,
    cluster: Cluster | None = None,
) -> Generator[JobDone, None, None]:
    """Run the jobs whose results `folder` lacks, yielding after each; then `read_comparison` has the results.

    A job that was interrupted resumes from its last checkpoint. `running_jobs` has the progress in between. Warnings of
    jobs are issued here, each once, whichever process they ran in; those on layers that are left out are not, since
    `check_comparison` reports them. Another comparison must not run in the folder.

    Args:
        config: settings.
        folder: of the results.
        n_jobs: processes at a time, see `executor.processes`.
        suite: the suite of the settings, where it is loaded already.
        log_to: tracker that gets a run for each job, see `track`; TensorBoard's files are in the folder.
        cluster: where jobs run in place of this machine, which keeps their results. Workers that share the folder
            write checkpoints and progress there.

    Raises:
        InputError: the tracker cannot be used; the folder cannot be written; a result or a checkpoint in it is damaged,
            or is of other images than are there now; a job's settings cannot be used, see `run_job`; or the cluster
            fails, see `Cluster.run`, or has other images.
        KeyboardInterrupt: `request_stop` was called; what was trained is saved.
    """
    if log_to is not None and cluster is not None:
        raise InputError("--log-to needs the steps, which a cluster does not send: leave it or --scheduler out.")
    if log_to is not None:
        check_tracker(log_to)
    check_writable(folder / JOBS)
    suite = suite or load_suite(config.suite)
    check_images(suite, folder)
    remove_stale_progress(folder)
    remove_temporaries(folder / JOBS)
    write_provenance(config, folder)
    withdraw_stop(folder)
    done, ran, total, started = 0, 0.0, count_jobs(config), time.monotonic()
    issued: set[str] = set()
    run = functools.partial(
        _execute, folder=folder, n_jobs=n_jobs, log_to=log_to, cluster=cluster, images=suite.fingerprint
    )
    for job, result, ran_here in _run_all(config, folder, run):
        _warn(result, issued)
        done, ran = done + 1, ran + ran_here
        left = seconds_left(time.monotonic() - started, ran, total - done)
        yield JobDone(done, total, job.title, result, ran_here, left or 0.0)


def _warn(result: dict[str, Any], issued: set[str]) -> None:
    """Issue the warnings of a job, apart from those in `issued`, and add them there."""
    for message in result.get("warnings", ()):
        if message not in issued:
            issued.add(message)
            warnings.warn(message, stacklevel=3)


def count_jobs(config: ComparisonConfig) -> int:
    """Count the jobs of a comparison, those that only try a learning rate included."""
    return len(jobs_of(config)) + len(_trials(config))


def jobs_of(config: ComparisonConfig) -> list[JobConfig]:
    """Return the jobs of a comparison, all seeds, at the learning rate of its settings."""
    return [job for seed in range(config.seeds) for job in config.jobs(seed, config.training.lr)]


def seconds_left(elapsed: float, ran: float, missing: int, running: Sequence[RunningJob] = ()) -> float | None:
    """Estimate how long `missing` jobs take where `ran` jobs took `elapsed` seconds; None: nothing has run yet.

    Args:
        elapsed: seconds.
        ran: jobs, with fractions.
        missing: jobs that are not finished.
        running: those of the missing jobs that are being trained; what this run did of them counts as run.
    """
    ran += sum(job.fraction - job.resumed_at for job in running)
    return elapsed / ran * (missing - sum(job.fraction for job in running)) if ran else None


def _trials(config: ComparisonConfig) -> list[JobConfig]:
    if not config.tune:
        return []
    return [job for lr in LEARNING_RATES for job in config.jobs(0, lr) if job.trained.is_trained]


def read_comparison(
    config: ComparisonConfig,
    folder: Path,
    primary: str,
    notes: Sequence[str] = (),
    *,
    partial: bool = False,
    known: Mapping[str, dict[str, Any]] | None = None,
) -> Comparison:
    """Gather the results of a comparison's jobs.

    Args:
        config: settings.
        folder: of the results.
        primary: the gallery that is read first.
        notes: sentences for below the table.
        partial: take the existing results and count the missing ones; not for a comparison that tunes, whose
            learning rates are known at the end.
        known: results that need not be in the folder, by the job's key.

    Raises:
        InputError: a result is missing (unless `partial`) or damaged.
    """
    tried = [read_result(folder, job) for job in _trials(config)]
    lrs = best_lrs(tried)
    jobs = [with_lr(job, lrs) for job in jobs_of(config)]
    known = known or {}
    present = [job for job in jobs if not partial or job.key in known or has_result(folder, job)]
    results = [known[job.key] if job.key in known else read_result(folder, job) for job in present]
    if len({result["images"] for result in results if "images" in result}) > 1:
        raise InputError(f"The trainings in {folder} are of different images or labels: delete it and run them again.")
    rows, tasks, confusion = (pd.DataFrame([row for result in results for row in result[name]]) for name in PARTS)
    if len(rows):
        order = {str(variant): i for i, variant in enumerate(config.variants)}
        rows = rows.sort_values("method", key=lambda names: names.map(order), kind="stable")
    missing = len(jobs) - len(present)
    return Comparison(config, rows, tasks, confusion, _trial_rows(tried), primary, tuple(notes), missing)


def best_lrs(trials: list[dict[str, Any]]) -> dict[tuple, float]:
    """Return the learning rate with the best validation accuracy among the trials, by backbone and first variant."""
    frame = _trial_rows(trials)
    if frame.empty:
        return {}
    best = frame.loc[frame.groupby(["backbone", "method"])["validation"].idxmax()]
    return {(row.backbone, row.method): row.lr for row in best.itertuples()}


def _trial_rows(trials: list[dict[str, Any]]) -> pd.DataFrame:
    # The validation accuracy of a job's first variant decides.
    names = ("backbone", "method", "lr", "seed", "validation")
    return pd.DataFrame([{name: trial["rows"][0][name] for name in names} for trial in trials])


def with_lr(job: JobConfig, lrs: dict[tuple, float]) -> JobConfig:
    """Return the job at the learning rate that `best_lrs` chose for it; at its own where there is none."""
    lr = lrs.get((job.backbone, str(job.variants[0])), job.training.lr)
    return replace(job, training=replace(job.training, lr=lr))


Done = tuple[JobConfig, dict[str, Any], float]  # a job, its result, and the fraction of it that had to run


def _run_all(
    config: ComparisonConfig, folder: Path, run: Callable[[list[JobConfig]], Iterator[Done]]
) -> Iterator[Done]:
    """Run the trials of learning rates, then the jobs at the best ones."""
    trials = _trials(config)
    yield from run(trials)
    lrs = best_lrs([read_result(folder, job) for job in trials])
    yield from run([with_lr(job, lrs) for job in jobs_of(config)])


def _execute(
    jobs: list[JobConfig], folder: Path, n_jobs: int | None, log_to: str | None, cluster: Cluster | None, images: str
) -> Iterator[Done]:
    """Yield every job with its result and the fraction of it that had to run, those with a result first."""
    missing = []
    for job in jobs:
        if has_result(folder, job):
            remove_with_parts(job_file(folder, job).with_suffix(CHECKPOINT))  # of a process that was killed
            yield job, read_result(folder, job), 0.0
        else:
            missing.append(job)
    if not missing:
        return
    missing.sort(key=lambda job: job.trained.is_trained, reverse=True)  # short ones last, where they fill a gap
    stopped = False
    if cluster is not None:
        ended = _execute_on_workers(missing, folder, n_jobs, cluster, images)
    else:
        threads = threads_each(jobs, n_jobs)  # those with a result included, so that a resumed run ends alike
        ended = run_each(run_and_write, missing, folder, log_to, threads, n_jobs=n_jobs)
    with contextlib.closing(ended):
        for job, (result, ran) in ended:
            if result is None:
                stopped = True
            else:
                yield job, result, ran
    if stopped:
        withdraw_stop(folder)
        raise KeyboardInterrupt


def _execute_on_workers(
    jobs: list[JobConfig], folder: Path, n_jobs: int | None, cluster: Cluster, images: str
) -> Generator[tuple[JobConfig, Ran], None, None]:
    """Yield every job with its result, which is written here, and the fraction of it that had to run."""
    with probe(folder.absolute() / JOBS) as file:
        for job, (result, ran, alone) in run_each(run_on_worker, jobs, file, images, n_jobs=n_jobs, cluster=cluster):
            if result is not None:
                result["job"] = job.to_dict()  # with paths as they are here
                write_result(job, folder, result)
            if alone:
                warnings.warn(
                    f"Workers cannot write in {folder.absolute()}: the training of one that dies begins anew, and "
                    "progress counts whole trainings.",
                    stacklevel=4,
                )
            yield job, (result, ran)
