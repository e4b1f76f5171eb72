"""Steps that follow from the images and the time."""

from dataclasses import replace

import pytest

from metalora.experiments import plan
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.plan import plan_comparison
from metalora.experiments.runner import jobs_of
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.training.config import TrainingConfig
from metalora.training.plan import LEAST, PASSES, planned_steps, trial_steps

CONFIG = ComparisonConfig(
    suite=SuiteConfig(max_queries=60, image_size=8),
    methods=("original", "lora", "metalora-tr"),
    training=TrainingConfig(device="cpu"),
)


@pytest.fixture(scope="module")
def suite():
    return load_suite(CONFIG.suite)


@pytest.fixture
def pace(monkeypatch):
    """Let a step take so many seconds on every network."""

    def set_pace(seconds):
        monkeypatch.setattr(plan, "measure_paces", lambda jobs, *_: {job.backbone: seconds for job in jobs})

    return set_pace


@pytest.mark.parametrize(
    ("images", "batch", "affordable", "steps"),
    [
        (1000, 50, 1e9, 20 * PASSES),  # all passes fit
        (1000, 50, 137.9, 100),  # the time decides, trials included
        (1000, 50, -5, LEAST),  # never fewer
        (10, 50, 1e9, -(-PASSES * 10 // 50)),  # few images
    ],
)
def test_steps_follow_from_images_and_time(images, batch, affordable, steps):
    assert planned_steps(images, batch, affordable) == steps


@pytest.mark.parametrize(("steps", "tried"), [(4, 4), (40, 8), (800, 100)])
def test_learning_rates_are_tried_in_an_eighth_of_the_steps(steps, tried):
    assert trial_steps(steps) == tried


def test_a_plan_takes_the_time_that_it_may(suite, pace, tmp_path):
    pace(0.5)
    planned, note = plan_comparison(CONFIG, suite, tmp_path, minutes=10, n_jobs=2)
    assert planned.training.keep_best and planned.trial_steps and str(planned.training.steps) in note
    trainings = [job for job in jobs_of(planned) if job.trained.is_trained]
    trials = 3 * len(trainings) * planned.trial_steps  # of three learning rates
    seconds = 0.5 * (len(trainings) * planned.training.steps + trials) / 2
    assert 0.55 * 600 < seconds <= 0.8 * 600  # the rest is for the start and for measuring


def test_trainings_that_leave_processes_idle_count_by_rounds(suite, pace, tmp_path):
    pace(0.5)
    config = replace(CONFIG, methods=("lora", "metalora-cp", "metalora-tr"), backbones=("resnet20",))
    three, two = (
        plan_comparison(replace(config, methods=config.methods[:n]), suite, tmp_path / str(n), minutes=10, n_jobs=2)[0]
        for n in (3, 2)
    )
    assert 0.4 < three.training.steps / two.training.steps < 0.6


def test_a_plan_is_kept_for_the_same_time_and_made_anew_for_another(suite, pace, tmp_path):
    pace(0.5)
    first, _ = plan_comparison(CONFIG, suite, tmp_path, minutes=10)
    pace(5.0)
    again, note = plan_comparison(replace(CONFIG, methods=("lora",)), suite, tmp_path, minutes=10)
    assert again.training.steps == first.training.steps and "as the trainings in" in note
    assert plan_comparison(CONFIG, suite, tmp_path, minutes=9)[0].training.steps < first.training.steps


def test_a_rate_that_was_chosen_is_not_tried(suite, pace, tmp_path):
    pace(0.5)
    planned, _ = plan_comparison(CONFIG, suite, tmp_path, minutes=10, choose_lr=False)
    assert planned.trial_steps is None and planned.training.lr == CONFIG.training.lr
    tried, _ = plan_comparison(CONFIG, suite, tmp_path / "tried", minutes=10)
    # The time of the trials is left for the training: three of an eighth of the steps.
    assert planned.training.steps == pytest.approx(tried.training.steps * 11 / 8, abs=2)


def test_the_pace_is_that_of_the_slowest_method(suite, monkeypatch, tmp_path):
    measured = []
    monkeypatch.setattr(plan, "measure_pace", lambda job: measured.append(job.trained.method) or 0.5)
    methods = ("original", "metalora-tr", "lora")
    plan_comparison(replace(CONFIG, methods=methods), suite, tmp_path, minutes=10, n_jobs=1)
    assert measured == ["metalora-tr"] * len(CONFIG.backbones)


def test_a_pace_is_measured_as_jobs_run(suite):
    (job,) = (job for job in jobs_of(CONFIG) if str(job.variants[0]) == "lora" and job.backbone == "resnet20")
    (pace,) = plan.measure_paces([job], 2).values()
    assert 1e-4 < pace < 60
