"""Files of a comparison's jobs: results, progress, what made them, and the request to stop."""

import contextlib
import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.suites.suite import Suite
from metalora.util.errors import InputError
from metalora.util.files import parse_json, remove_with_parts, write_text
from metalora.util.provenance import provenance
from metalora.util.renamed import upgrade_row

JOBS, OLD_JOBS = "jobs", "cells"  # folders of results, of this version and of the one before
PROVENANCE = "provenance.json"
IMAGES = "images.txt"  # fingerprint of the images that the first job was trained on
PARTS = ("rows", "tasks", "confusion")  # of a job's result
CHECKPOINT, STEPS = ".safetensors", ".steps"  # of a running job: what it resumes from; its name and progress
STOP = "stop"  # beside them: asks all jobs to end after the current step


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


def write_result(job: JobConfig, folder: Path, result: dict[str, Any]) -> None:
    """Write the result of a job in place of its checkpoint."""
    file = job_file(folder, job)
    write_text(file, json.dumps(result) + "\n")
    remove_with_parts(file.with_suffix(CHECKPOINT))


def write_progress(job: JobConfig, folder: Path, fraction: float, resumed_at: float) -> None:
    """Write how far a job is, see `RunningJob`."""
    running = RunningJob(job.title, fraction, resumed_at)
    write_text(job_file(folder, job).with_suffix(STEPS), json.dumps(asdict(running)))


def remove_progress(job: JobConfig, folder: Path) -> None:
    """Remove the progress of a job that has ended."""
    with contextlib.suppress(OSError):  # a folder that refuses this refuses the result too, which is raised
        job_file(folder, job).with_suffix(STEPS).unlink(missing_ok=True)


def running_jobs(folder: Path) -> list[RunningJob]:
    """Return the jobs that are being trained in `folder`, by name."""
    running = []
    for file in sorted((folder / JOBS).glob(f"[!.]*{STEPS}")):
        with contextlib.suppress(FileNotFoundError):  # it has ended since
            running.append(RunningJob(**parse_json(file.read_text(encoding="utf-8"))))
    return running


def request_stop(folder: Path) -> None:
    """Ask the comparison that runs in `folder` to save what is trained and end."""
    (folder / JOBS / STOP).touch()


def stop_requested(folder: Path) -> bool:
    """Return whether the comparison in `folder` was asked to stop."""
    return (folder / JOBS / STOP).exists()


def withdraw_stop(folder: Path) -> None:
    """Withdraw `request_stop`."""
    (folder / JOBS / STOP).unlink(missing_ok=True)


def remove_stale_progress(folder: Path) -> None:
    """Remove the progress of jobs whose processes were killed."""
    for file in (folder / JOBS).glob(f"*{STEPS}"):
        file.unlink(missing_ok=True)


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
