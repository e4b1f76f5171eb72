"""The estimate: measured once for a network and its sizes, extrapolated for everything else."""

import json
from dataclasses import replace

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.runs import estimates
from metalora.runs.estimates import estimate
from metalora.runs.run_config import RunConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError

CONFIG = RunConfig(
    suite=SuiteConfig(image_size=8),
    adapter=AdapterConfig("metalora-tr", rank=2, targets=("layer1.0",)),
    training=TrainingConfig(steps=10, batch_size=8, set_size=4, device="cpu"),
)


@pytest.fixture
def keys(monkeypatch):
    """Keys that were measured, with a pace of 2 s a step."""
    asked = []
    monkeypatch.setattr(estimates, "_seconds_of_step", lambda key: (asked.append(key), 2.0)[1])
    return asked


def changed(**training):
    return replace(CONFIG, training=replace(CONFIG.training, **training))


def test_steps_are_measured_once_and_remembered():
    estimates._seconds_of_step.cache_clear()
    assert 0 < estimate(CONFIG) < 300
    assert estimate(changed(steps=20)) == 2 * estimate(CONFIG)
    assert estimates._seconds_of_step.cache_info().misses == 1


@pytest.mark.parametrize("factors", [(2, 2, 3), (4, 6, 2)])
def test_factor_codes_are_measured_whether_or_not_the_suite_has_their_factors(factors):
    adapter = replace(CONFIG.adapter, factors=factors)
    assert 0 < estimate(replace(CONFIG, adapter=adapter, start="some adapter")) < 300


@pytest.mark.parametrize("change", [{"batch_size": 16}, {"precision": "bfloat16"}, {"set_size": 1}])
def test_what_changes_the_pace_is_measured_again(keys, change):
    estimate(CONFIG), estimate(changed(**change))
    assert len(set(keys)) == 2


@pytest.mark.parametrize("change", [{"seed": 7}, {"lr": 0.1}, {"steps": 7}, {"validate_every": 3}])
def test_what_does_not_change_the_pace_is_not_measured_again(keys, change):
    other = replace(
        changed(**change), adapter=replace(CONFIG.adapter, seed=7), suite=SuiteConfig("cifar10", "nowhere", 8)
    )
    estimate(CONFIG), estimate(other)
    assert len(set(keys)) == 1


def test_a_part_of_a_large_batch_is_measured(keys):
    small, large = (estimate(changed(batch_size=batch, set_size=4)) for batch in (64, 4096))
    assert len(set(keys)) == 1
    assert (small, large) == (20, 20 * 64)
    estimate(changed(batch_size=4096, set_size=4096))
    estimate(changed(batch_size=4096, set_size=(0, 1, 1024)))
    assert all(RunConfig.from_dict(json.loads(key)).training.batch_size <= 64 for key in keys)


def test_settings_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="Unknown backbone"):
        estimate(replace(CONFIG, backbone="resnet2000"))
