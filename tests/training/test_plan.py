"""The pace of a training, measured in a few of its steps."""

import itertools

import pytest

from metalora.training import plan
from metalora.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("seconds", "pace", "taken"),
    [
        ((9.0, 0.2, 0.7, 0.3, 0.4), 0.2, plan.FEWEST_STEPS),  # a slow start: the rest is still measured
        ((0.5, 0.4, 0.3, 0.2, 0.1), 0.2, plan.STEPS),
        ((1.0, 0.3, 3.5, 0.2, 0.1), 0.3, plan.FEWEST_STEPS),  # something else was at work meanwhile
    ],
)
def test_the_pace_is_that_of_the_fastest_step_after_the_first(monkeypatch, seconds, pace, taken):
    steps, times = [], itertools.accumulate((0.0, *seconds))

    def fit(*_, **__):
        for step in range(len(seconds)):
            steps.append(step)
            yield step

    monkeypatch.setattr(plan, "fit", fit)
    monkeypatch.setattr(plan, "FeatureCache", lambda *_, **__: None)
    monkeypatch.setattr(plan.time, "monotonic", lambda: next(times))
    assert plan.seconds_per_step(None, None, TrainingConfig()) == pytest.approx(pace)
    assert len(steps) == taken
