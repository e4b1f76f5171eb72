"""How long to train, and how fast, by default: steps that follow from the images and the time.

The learning rate of every training is the best of three short ones on validation, and every training ends with its best
validation, so that no adapter is worse there than the original network.
"""

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.experiments.executor import processes, run_each
from metalora.experiments.job import measure_pace
from metalora.experiments.runner import jobs_of
from metalora.suites.suite import Suite
from metalora.training.config import VALIDATIONS
from metalora.training.plan import LEARNING_RATES, planned_steps, trial_steps
from metalora.util.checks import check_float
from metalora.util.cluster import Cluster
from metalora.util.files import parse_json, write_text

PLAN = "plan.json"
OVERHEAD = 3.0  # seconds of a job beside training and measuring
EMBEDDING = 1 / 3  # of a training step's time for an image is that of embedding it
PLANNED = 0.8  # of the time; the rest goes into the start, and into steps that are slower than those measured
MINUTES, MINUTES_DIGITS = 40.0, 3.0


def plan_comparison(
    config: ComparisonConfig,
    suite: Suite,
    folder: Path,
    *,
    minutes: float | None = None,
    n_jobs: int | None = None,
    choose_lr: bool = True,
    cluster: Cluster | None = None,
) -> tuple[ComparisonConfig, str]:
    """Return the settings with steps, trials of learning rates and the best validation kept; and a note on them.

    A plan is kept in `folder`, so that the same comparison resumes, and other rows are trained as long as the first.

    Args:
        config: whose steps were not chosen.
        suite: of the settings.
        folder: of the results.
        minutes: that the whole may take here, roughly; None: 3 for digits, 40 for others.
        n_jobs: processes at a time, see `run_comparison`.
        choose_lr: whether the learning rates are chosen, too.
        cluster: where jobs run, and are timed, in place of this machine.

    Raises:
        InputError: a training cannot be started.
    """
    if minutes is not None:
        check_float("--minutes", minutes, lambda value: value > 0, "a number above 0")
    minutes = minutes or (MINUTES_DIGITS if suite.name == "digits" else MINUTES)
    rows, batch = len(suite.splits["train"]), config.training.batch_size
    stored = _stored(folder / PLAN)
    if stored is not None and stored["minutes"] == minutes:
        steps, note = stored["steps"], f"as the trainings in {folder} began"
    else:
        affordable = _affordable_steps(config, suite, PLANNED * 60 * minutes, n_jobs, cluster)
        steps = planned_steps(rows, batch, affordable, tries_lr=choose_lr)
        passes = f"{steps * batch / rows:.1f} passes over {rows:,} training images, each counted in every task"
        note = f"{passes}, in about {minutes:g} minutes here at most"
        write_text(folder / PLAN, json.dumps({"steps": steps, "minutes": minutes}) + "\n")
    training = replace(config.training, steps=steps, keep_best=True)
    planned = replace(config, training=training)
    if choose_lr and not config.tune:
        planned = replace(planned, trial_steps=trial_steps(steps))
    return planned, f"Every training has {steps} steps ({note}): set --steps or --minutes for others."


def _stored(file: Path) -> dict | None:
    try:
        return parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _affordable_steps(
    config: ComparisonConfig, suite: Suite, seconds: float, n_jobs: int | None, cluster: Cluster | None
) -> float:
    """Return the steps with which all trainings and measurements take `seconds`, by a few steps of each backbone."""
    jobs = jobs_of(config)
    trained = [job for job in jobs if job.trained.is_trained]
    if not trained:
        return config.training.steps
    at_a_time = processes(trained, n_jobs, cluster)
    paces = measure_paces(trained, at_a_time, cluster)
    per_image = {backbone: EMBEDDING * pace / config.training.batch_size for backbone, pace in paces.items()}
    sizes = {name: len(split) for name, split in suite.splits.items() if name != "train"}
    validations = VALIDATIONS + 2 + len(LEARNING_RATES)  # before the first step of two networks, after every trial
    validated = validations * (sizes["validation"] + sizes["seen gallery"])
    measured = sum(len(job.variants) * sum(sizes.values()) * per_image[job.backbone] for job in jobs)
    measured += sum(validated * per_image[job.backbone] for job in trained)
    fixed = measured + OVERHEAD * len(jobs)
    # Trainings that do not fill the processes evenly leave some of them idle at the end.
    rounds = math.ceil(len(trained) / at_a_time)
    pace = statistics.mean(paces[job.backbone] for job in trained)
    return (seconds - fixed / at_a_time) / (rounds * pace)


def measure_paces(jobs: list[JobConfig], n_processes: int, cluster: Cluster | None = None) -> dict[str, float]:
    """Return backbone → seconds of a step of its slowest method, while as many are trained at a time as will be."""
    slowest = {job.backbone: job for job in sorted(jobs, key=lambda job: job.trained.has_mapping_net)}
    paces = {}
    for backbone, job in slowest.items():
        measured = run_each(measure_pace, [job] * n_processes, n_jobs=n_processes, cluster=cluster)
        paces[backbone] = max(pace for _, pace in measured)
    return paces
