"""`compare`, the main task: methods × backbones × seeds as independent jobs, of which those run that are missing."""

import contextlib
import functools
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from metalora.experiments.comparison import Comparison
from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.experiments.executor import run_each, threads_each
from metalora.experiments.job import check_fingerprint, run_job
from metalora.suites.load import load_suite
from metalora.suites.suite import Suite
from metalora.training.loop import Progress
from metalora.training.plan import LEARNING_RATES
from metalora.training.tracking import Tracker, check_tracker
from metalora.util.cluster import Cluster, is_shared, leave_if_cancelled, probe
from metalora.util.errors import InputError, LayersLeftOut
from metalora.util.files import check_writable, parse_json, remove_temporaries, remove_with_parts, write_text
from metalora.util.processes import end_with_parent
from metalora.util.provenance import provenance
from metalora.util.renamed import upgrade_row

JOBS, OLD_JOBS = "jobs", "cells"  # folders of results, of this version and of the one before
PROVENANCE = "provenance.json"
IMAGES = "images.txt"  # fingerprint of the images that the first job was trained on
PARTS = ("rows", "tasks", "confusion")  # of a job's result
CHECKPOINT, STEPS = ".safetensors", ".steps"  # of a running job: what it resumes from; its name and progress
STOP = "stop"  # beside them: asks all jobs to end after the current step
SECONDS_BETWEEN_UPDATES = 1.0  # of the progress of a running job


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


@dataclass(frozen=True)
class RunningJob:
    """A job that is being trained.

    Attributes:
        name: Of the job, as people read it.
        fraction: Of its steps that are done.
        resumed_at: The fraction that an earlier run had done.
    """

    name: str
    fraction: float
    resumed_at: float = 0.0


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
    (folder / JOBS / STOP).unlink(missing_ok=True)
    done, ran, total, started = 0, 0.0, count_jobs(config), time.monotonic()
    issued: set[str] = set()
    run = functools.partial(
        _execute, folder=folder, n_jobs=n_jobs, log_to=log_to, cluster=cluster, images=suite.fingerprint
    )
    for job, result, ran_here in _run_all(config, folder, run):
        _warn(result, issued)
        done, ran = done + 1, ran + ran_here
        left = seconds_left(time.monotonic() - started, ran, total - done)
        yield JobDone(done, total, _title(job), result, ran_here, left or 0.0)


def write_provenance(config: ComparisonConfig, folder: Path) -> None:
    """Write what makes the results in a folder, as a run's folder says it: settings, seeds, machine, command."""
    seeds = {"seeds": list(range(config.seeds))}
    content = {**seeds, **provenance(config.training.device), "settings": config.to_dict()}
    write_text(folder / PROVENANCE, json.dumps(content, indent=1) + "\n")


def check_images(suite: Suite, folder: Path) -> None:
    """Check that the results in a folder are of this suite's images and labels; record them where there are none yet.

    Raises:
        InputError: they are of others.
    """
    file = folder / IMAGES
    earlier = file.read_text(encoding="utf-8").strip() if file.exists() else None
    if earlier not in (None, suite.fingerprint):
        raise InputError(
            f"The images of {suite.name}, or their labels, have changed since the trainings in {folder} began: choose "
            "another folder for the results, or delete this one."
        )
    if earlier is None:
        write_text(file, suite.fingerprint + "\n")


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


def running_jobs(folder: Path) -> list[RunningJob]:
    """Return the jobs that are being trained in `folder`, by name."""
    running = []
    for file in sorted((folder / JOBS).glob(f"[!.]*{STEPS}")):
        with contextlib.suppress(FileNotFoundError):  # it has ended since
            running.append(RunningJob(**parse_json(file.read_text(encoding="utf-8"))))
    return running


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


def request_stop(folder: Path) -> None:
    """Ask the comparison that runs in `folder` to save what is trained and end."""
    (folder / JOBS / STOP).touch()


def remove_stale_progress(folder: Path) -> None:
    """Remove the progress of jobs whose processes were killed."""
    for file in (folder / JOBS).glob(f"*{STEPS}"):
        file.unlink(missing_ok=True)


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


def _title(job: JobConfig) -> str:
    title = f"{job.variants[0]} on {job.backbone}, seed {job.training.seed}"
    if not job.trained.is_trained:
        return title
    return f"{title}, {'lr chosen by trials' if job.trial_steps else f'lr {job.training.lr:g}'}"


def job_file(folder: Path, job: JobConfig) -> Path:
    """Return where the result of a job is written."""
    return folder / JOBS / f"{job.key}.json"


def has_result(folder: Path, job: JobConfig) -> bool:
    """Whether `folder` has the result of a job."""
    return job_file(folder, job).exists() or job.key in _old_results(folder.resolve())


def read_result(folder: Path, job: JobConfig) -> dict[str, Any]:
    """Read the result of a job, as `run_job` returns it.

    Raises:
        InputError: it is missing or damaged.
    """
    file = job_file(folder, job)
    if not file.exists():
        file = _old_results(folder.resolve()).get(job.key, file)
    try:
        result = parse_json(file.read_text(encoding="utf-8"))
        is_whole = isinstance(result, dict) and all(isinstance(result.get(name), list) for name in PARTS)
    except FileNotFoundError as error:
        raise InputError(f"{folder} lacks the job {job.key}: run the comparison again to complete it.") from error
    except ValueError as error:
        raise InputError(f"{file} is not whole: delete it and run the comparison again.") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): run the comparison in another folder.") from error
    if not (is_whole and result["rows"]):
        raise InputError(f"{file} is no result of a training: delete it and run the comparison again.")
    if "cell" in result:
        result |= {name: [upgrade_row(row) for row in result[name]] for name in PARTS}
        result["job"] = JobConfig.from_dict(result.pop("cell")).to_dict()
    return result


@functools.cache
def _old_results(folder: Path) -> dict[str, Path]:
    """Return the results that an earlier version left in `folder`, by the keys that their jobs have now."""
    files: dict[str, Path] = {}
    for file in sorted((folder / OLD_JOBS).glob("*.json")):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # damaged ones are trained again
            settings = parse_json(file.read_text(encoding="utf-8"))["cell"]
            files.setdefault(JobConfig.from_dict(settings).key, file)
    return files


Done = tuple[JobConfig, dict[str, Any], float]  # a job, its result, and the fraction of it that had to run
Ran = tuple[dict[str, Any] | None, float]  # the result of a job, None where it was stopped, and that fraction


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
        (folder / JOBS / STOP).unlink(missing_ok=True)
        raise KeyboardInterrupt


def _execute_on_workers(
    jobs: list[JobConfig], folder: Path, n_jobs: int | None, cluster: Cluster, images: str
) -> Generator[tuple[JobConfig, Ran], None, None]:
    """Yield every job with its result, which is written here, and the fraction of it that had to run."""
    with probe(folder.absolute() / JOBS) as file:
        for job, (result, ran, alone) in run_each(_run_on_worker, jobs, file, images, n_jobs=n_jobs, cluster=cluster):
            if result is not None:
                result["job"] = job.to_dict()  # with paths as they are here
                _write(job, folder, result)
            if alone:
                warnings.warn(
                    f"Workers cannot write in {folder.absolute()}: the training of one that dies begins anew, and "
                    "progress counts whole trainings.",
                    stacklevel=4,
                )
            yield job, (result, ran)


def _run_on_worker(job: JobConfig, file: Path, images: str) -> tuple[dict[str, Any] | None, float, bool]:
    """Run one job on a worker, with checkpoints beside the file of `probe` where that is shared.

    Returns:
        Its result, the fraction of it that was run here, and whether the folder is not shared.

    Raises:
        InputError: the images that the worker reads are not those of the fingerprint.
    """
    check_fingerprint(job, images)
    with contextlib.ExitStack() as stack:
        shared = is_shared(file)
        folder = file.parents[1] if shared else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return *_run(job, folder), not shared


def run_and_write(job: JobConfig, folder: Path, log_to: str | None = None, threads: int | None = None) -> Ran:
    """Run one job in this process, on so many threads, writing its progress and then its result.

    Returns:
        Its result, and the fraction of it that was run here; no result where it was asked to stop.
    """
    end_with_parent()
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        result, ran = _run(job, folder, log_to)
    finally:
        torch.set_num_threads(before)
    if result is not None:
        _write(job, folder, result)
    return result, ran


def _write(job: JobConfig, folder: Path, result: dict[str, Any]) -> None:
    """Write the result of a job in place of its checkpoint."""
    file = job_file(folder, job)
    write_text(file, json.dumps(result) + "\n")
    remove_with_parts(file.with_suffix(CHECKPOINT))


class _Stopped(Exception):
    """A job was asked to stop."""


def _run(job: JobConfig, folder: Path, log_to: str | None = None) -> Ran:
    """Run one job in this process, writing its progress and checkpoints.

    Returns:
        Its result, and the fraction of it that was run here; no result where it was asked to stop.
    """
    file, stop = job_file(folder, job), folder / JOBS / STOP
    if stop.exists():
        return None, 0.0
    steps, checkpoint, written, resumed_at = file.with_suffix(STEPS), file.with_suffix(CHECKPOINT), 0.0, None

    @functools.cache  # opened at the first step
    def tracker(to: str) -> Tracker:
        settings = {"folder": str(folder), **job.to_dict()}
        return opened.enter_context(
            contextlib.closing(Tracker(to, name=job.key, settings=settings, folder=folder / "tensorboard"))
        )

    def progress(event: Progress) -> None:
        nonlocal written, resumed_at
        leave_if_cancelled()
        if log_to is not None:
            tracker(log_to).log(event)
        if resumed_at is None:
            resumed_at = (event.step - 1) / event.steps
        if time.monotonic() - written > SECONDS_BETWEEN_UPDATES:
            running = RunningJob(_title(job), event.step / event.steps, resumed_at)
            write_text(steps, json.dumps(asdict(running)))
            written = time.monotonic()
        if stop.exists():
            raise _Stopped

    try:
        with contextlib.ExitStack() as opened, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore", LayersLeftOut)  # reported by check_comparison, once for all seeds
            result = run_job(job, checkpoint, progress)
    except _Stopped:
        return None, 0.0
    finally:
        with contextlib.suppress(OSError):  # a folder that refuses this refuses the result too, which is raised
            steps.unlink(missing_ok=True)
    if caught:  # kept with the result, the one thing that a process hands on
        result["warnings"] = list(dict.fromkeys(str(warning.message) for warning in caught))
    return result, 1 - (resumed_at or 0)
