"""How long to train, and how fast, where nobody says: steps that follow from the images and the time.

The learning rate of every training is the best of three short ones on validation, and every training ends with its best
validation, so that no adapter is worse there than the original network.
"""

import json
from dataclasses import replace
from pathlib import Path

import joblib

from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.experiments.runner import jobs_of
from metalora.models.adapt import build_model
from metalora.suites.suite import Suite
from metalora.training.config import VALIDATIONS
from metalora.training.plan import STEPS, planned_steps, seconds_per_step, trial_steps
from metalora.util.device import pick_device
from metalora.util.files import write_text

PLAN = "plan.json"
OVERHEAD = 3.0  # seconds of a job beside training and measuring
EMBEDDING = 1 / 3  # of a training step's time for an image is that of embedding it
MINUTES, MINUTES_DIGITS = 40.0, 3.0


def plan_comparison(
    config: ComparisonConfig,
    suite: Suite,
    folder: Path,
    *,
    minutes: float | None = None,
    n_jobs: int | None = None,
    choose_lr: bool = True,
) -> tuple[ComparisonConfig, str]:
    """Return the settings with steps, trials of learning rates and the best validation kept; and a note on them.

    A plan is kept in `folder`, so that the same comparison resumes, and other rows are trained as long as the first.

    Args:
        config: whose steps nobody chose.
        suite: of the settings.
        folder: of the results.
        minutes: that the whole may take here, roughly; None: 3 for digits, 40 for others.
        n_jobs: processes at a time, see `run_comparison`.
        choose_lr: whether the learning rates are chosen, too.

    Raises:
        InputError: a training cannot be started.
    """
    minutes = minutes or (MINUTES_DIGITS if suite.name == "digits" else MINUTES)
    rows, batch = len(suite.splits["train"]), config.training.batch_size
    stored = _stored(folder / PLAN)
    if stored is not None and stored["minutes"] == minutes:
        steps, note = stored["steps"], f"as the trainings in {folder} began"
    else:
        steps = planned_steps(rows, batch, _affordable_steps(config, suite, 60 * minutes, n_jobs))
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
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _affordable_steps(config: ComparisonConfig, suite: Suite, seconds: float, n_jobs: int | None) -> float:
    """Return the steps with which all trainings and measurements take `seconds`, by a few steps of each backbone."""
    processes = n_jobs or (joblib.cpu_count() if pick_device(config.training.device).type == "cpu" else 1)
    trained = [job for job in jobs_of(config) if job.trained.is_trained]
    if not trained:
        return config.training.steps
    paces = {backbone: _pace(config, suite, backbone) for backbone in config.backbones}
    per_image = {backbone: EMBEDDING * pace / config.training.batch_size for backbone, pace in paces.items()}
    sizes = {name: len(split) for name, split in suite.splits.items() if name != "train"}
    validated = VALIDATIONS * (sizes["validation"] + sizes["seen gallery"])
    fixed = sum(len(job.variants) * sum(sizes.values()) * per_image[job.backbone] for job in jobs_of(config))
    fixed += sum(validated * per_image[job.backbone] for job in trained)
    fixed += OVERHEAD * len(jobs_of(config))
    return (seconds * processes - fixed) / sum(paces[job.backbone] for job in trained)


def _pace(config: ComparisonConfig, suite: Suite, backbone: str) -> float:
    """Return the seconds of a step of the slowest method on a backbone."""
    jobs: list[JobConfig] = [job for job in config.jobs(0, config.training.lr) if job.trained.is_trained]
    jobs = [job for job in jobs if job.backbone == backbone]
    job = max(jobs, key=lambda job: job.trained.has_mapping_net)
    model = build_model(backbone, job.adapter, image_size=suite.image_size, download=job.download)
    training = replace(job.training, steps=STEPS + 1, keep_best=False, validate_every=0)
    return seconds_per_step(model, suite, training)
