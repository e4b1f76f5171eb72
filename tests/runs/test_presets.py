"""Sizes of training by name: what they set, and that the smallest is worth its minute."""

import pytest

from metalora.adapters.methods import METHODS
from metalora.runs.execute import execute
from metalora.runs.presets import PRESETS
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import create_run
from metalora.suites.config import SuiteConfig

TRAINED = [name for name, entry in METHODS.items() if entry.format is not None]
GAIN = 0.1  # in k-NN accuracy; the standard error of the validation is about 0.02


@pytest.mark.parametrize("size", PRESETS)
@pytest.mark.parametrize("method", TRAINED)
def test_only_what_reads_sets_is_trained_on_them(size, method):
    training = PRESETS[size].training(method)
    assert training.set_size == (8 if METHODS[method].generated or METHODS[method].context else 1)
    RunConfig(adapter=PRESETS[size].adapter(method), training=training)  # its settings fit together


def test_a_larger_size_trains_longer_and_has_more_parameters():
    sizes = [PRESETS[name] for name in ("Tiny", "Default", "Large")]
    assert list(PRESETS.values()) == sizes
    for name in ("rank", "hidden", "steps"):
        values = [getattr(size, name) for size in sizes]
        assert values == sorted(set(values))


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_the_smallest_size_gains_on_validation(method, tmp_path):
    size = PRESETS["Tiny"]
    suite = SuiteConfig("digits", max_queries=500)
    run = create_run(tmp_path / "run", RunConfig("resnet20", suite, size.adapter(method), size.training(method)))
    events = [event.metrics for event in execute(run)]
    (original,) = [metrics["original"] for metrics in events if "original" in metrics]
    assert run.result["validation"] > original + GAIN
