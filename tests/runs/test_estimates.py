"""The estimate: measured once for a network and its sizes, extrapolated for everything else."""

import json
from dataclasses import replace

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.runs import estimates
from metalora.runs.estimates import START, estimate
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
def paces(monkeypatch):
    """Keys that were measured, with a pace of 2 s a step and 0.01 s an image."""
    asked = []
    monkeypatch.setattr(estimates, "_pace", lambda key: (asked.append(key), (2.0, 0.01))[1])
    return asked


def changed(**training):
    return replace(CONFIG, training=replace(CONFIG.training, **training))


def test_a_real_measurement(monkeypatch):
    estimates._pace.cache_clear()
    found = estimate(CONFIG)
    assert START < found < START + 300
    step, image = estimates._pace(estimates._key(CONFIG))
    assert step > image > 0
    assert estimates._pace.cache_info().misses == 1  # the second time it was remembered


@pytest.mark.parametrize("factors, suite", [((2, 2, 3), "digits"), ((4, 6, 2), "digits")])
def test_named_factors_are_measured_whether_the_suite_has_them_or_not(factors, suite):
    adapter = replace(CONFIG.adapter, factors=factors)
    config = replace(CONFIG, suite=SuiteConfig(suite, image_size=8), adapter=adapter, start="some adapter")
    assert START < estimate(config) < START + 300


def test_steps_add_up(paces):
    assert estimate(changed(steps=110)) - estimate(CONFIG) == pytest.approx(200)
    assert len(set(paces)) == 1


def test_validations_add_up(paces):
    validation, _, gallery = 180, 359, 359  # of 1,797 digits
    assert estimate(changed(validate_every=5)) - estimate(CONFIG) == pytest.approx(2 * (validation + gallery) * 0.01)


def test_evaluation_counts_what_is_embedded(paces):
    few = replace(CONFIG, suite=replace(CONFIG.suite, max_queries=10))
    assert estimate(CONFIG) - estimate(few) == pytest.approx((2 * (180 - 10) + 2 * (359 - 10)) * 0.01)


@pytest.mark.parametrize("change", [{"batch_size": 16}, {"precision": "bfloat16"}, {"set_size": 1}])
def test_what_changes_the_pace_is_measured_anew(paces, change):
    estimate(CONFIG), estimate(changed(**change))
    assert len(set(paces)) == 2


def test_another_random_seed_costs_no_measurement(paces):
    estimate(CONFIG), estimate(replace(changed(seed=7), adapter=replace(CONFIG.adapter, seed=7)))
    assert len(set(paces)) == 1


def test_of_a_large_batch_a_part_is_timed(paces):
    small, large = (estimate(changed(batch_size=batch, set_size=4)) for batch in (64, 4096))
    assert len(set(paces)) == 1
    assert large - small == pytest.approx(10 * 2.0 * (4096 / 64 - 1))
    estimate(changed(batch_size=4096, set_size=4096))
    assert all(RunConfig.from_dict(json.loads(key)).training.batch_size <= 64 for key in paces)


def test_pictures_of_ones_own_are_counted(paces, tmp_path):
    for number in range(50):
        (tmp_path / f"{number}.png").touch()
    own = replace(CONFIG, suite=replace(CONFIG.suite, name=f"folder:{tmp_path}"))
    images = 2 * (5 + 10) + 2 * (10 + 10)
    assert estimate(own) == pytest.approx(START + 20 + images * 0.01)


def test_cifar_is_not_read_for_an_estimate(paces):
    assert estimate(replace(CONFIG, suite=SuiteConfig("cifar10", data="nowhere"))) > START


def test_wrong_settings_are_told():
    with pytest.raises(InputError, match="Unknown backbone"):
        estimate(replace(CONFIG, backbone="resnet2000"))
