"""Trainings that the studies' results lack, as many at a time as there are cores, the shortest ones first.

    python tests/gpu/seeds.py FOLDER [--data DATA]

Parts whose data is not there are left out. The results go to FOLDER/final/STUDY/PART, from where
`python -m metalora study STUDY --final --work FOLDER` takes them into the tables; an interrupted one resumes.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import joblib

from metalora.experiments.comparison import RESULTS
from metalora.experiments.config import JobConfig
from metalora.experiments.job_files import has_result
from metalora.experiments.results import FOLDER, as_jobs
from metalora.experiments.resumable_job import run_and_write
from metalora.experiments.runner import jobs_of
from metalora.experiments.studies import STUDIES, Study, run_settings, stored_results
from metalora.suites.load import load_suite
from metalora.util.errors import InputError

Missing = tuple[JobConfig, Path]


def missing(out: Path, data: str, studies: Mapping[str, Study] = STUDIES, results: Path = FOLDER) -> Iterator[Missing]:
    """Yield the jobs of final runs without a result in `results` or `out`, and the folder of each."""
    for name, study in studies.items():
        for part, config in study.parts.items():
            config, folder = run_settings(config, data=data, final=True), out / "final" / name / part
            stored = stored_results(config, results / name / part / RESULTS)
            done = set() if stored is None else {job.key for job, _ in as_jobs(stored)}
            jobs = [job for job in jobs_of(config) if job.key not in done and not has_result(folder, job)]
            try:
                if jobs:
                    load_suite(config.suite)
            except InputError as error:
                print(f"{name}, {part}: {len(jobs)} trainings are left out: {error}")
                continue
            yield from ((job, folder) for job in jobs)


def attempt(job: JobConfig, folder: Path) -> str:
    """Train and measure one; return what to print."""
    try:
        run_and_write(job, folder)
    except InputError as error:
        return f"{job.key}: {error}"
    return f"{job.key}: done"


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="data")
    given = parser.parse_args(arguments)
    jobs = sorted(missing(given.folder, given.data), key=lambda pair: (pair[0].training.steps, pair[0].training.seed))
    print(f"{len(jobs)} trainings are missing.", flush=True)
    parallel = joblib.Parallel(n_jobs=min(joblib.cpu_count(), max(1, len(jobs))), return_as="generator_unordered")
    for said in parallel(joblib.delayed(attempt)(*pair) for pair in jobs):
        print(said, flush=True)


if __name__ == "__main__":
    main()
