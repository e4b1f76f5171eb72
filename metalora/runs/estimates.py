"""How long the steps of a training take on this machine: a few real steps on random images, then remembered.

The pace depends on the network, the adapter and the sizes only, so that other numbers of steps, learning rates and
seeds are estimated at once. Evaluation is not counted.
"""

import functools
import json
from dataclasses import replace

import torch

from metalora.models.adapt import build_model
from metalora.runs.run_config import RunConfig
from metalora.suites.config import SuiteConfig
from metalora.suites.suite import SEEN_SPLITS, Examples, Suite
from metalora.suites.transforms import Identity
from metalora.training.config import TrainingConfig
from metalora.training.plan import STEPS, seconds_per_step

MAX_BATCH = 64  # images of a measured step; the time of larger batches is proportional


def estimate(config: RunConfig) -> float:
    """Return the seconds that the steps of a run take here, measured in a few seconds where the pace is not known.

    Raises:
        InputError: the settings cannot be used.
    """
    training, measured = config.training, _measured(config.training)
    return training.steps * _seconds_of_step(_key(config)) * training.batch_size / measured.batch_size


def _measured(training: TrainingConfig) -> TrainingConfig:
    """Return the settings of measured steps: those that decide the pace, and of a large batch a part."""
    set_size = min(max(training.set_sizes), MAX_BATCH)
    batch_size = min(training.batch_size, MAX_BATCH - MAX_BATCH % set_size)
    kept = {name: getattr(training, name) for name in ("precision", "device", "compile")}
    return TrainingConfig(steps=STEPS + 1, batch_size=batch_size, set_size=set_size, lr=1e-4, **kept)


def _key(config: RunConfig) -> str:
    """Return the settings that decide the pace, as text."""
    size = config.suite.image_size or (16 if config.suite.name == "digits" else 32)
    suite = SuiteConfig("noise", image_size=size, download=config.suite.download)
    adapter = replace(config.adapter, seed=0)
    # With a start, factors need not be those of the suite.
    measured = replace(config, suite=suite, adapter=adapter, training=_measured(config.training), ks=(1,), start="any")
    return json.dumps(measured.to_dict(), sort_keys=True)


@functools.lru_cache(64)
def _seconds_of_step(key: str) -> float:
    config = RunConfig.from_dict(json.loads(key))
    size, download = config.suite.image_size or 32, config.suite.download
    assert size is not None
    suite = _noise(max(config.training.batch_size, 16), size, config.adapter.factors)
    adapter = config.adapter.with_tasks(len(suite.seen))
    model = build_model(config.backbone, adapter, image_size=size, download=download)
    return seconds_per_step(model, suite, config.training)


def _noise(count: int, size: int, factors: tuple[int, ...]) -> Suite:
    """Build a suite of `count` random images in two classes and two tasks, which have factors of so many values."""
    images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
    rows = torch.arange(count)
    examples = Examples(images, (Identity(), Identity()), rows, rows % 2, rows // 2 % 2)
    return Suite(
        name="noise",
        source_images=images,
        names=tuple(map(str, rows.tolist())),
        classes=("a", "b"),
        tasks=("one", "two"),
        seen=(0, 1),
        unseen=(),
        splits=dict.fromkeys(SEEN_SPLITS, examples),
        primary="pooled",
        seed=0,
        factors=tuple(tuple(map(str, range(values))) for values in factors),
        factor_indices=torch.stack([torch.zeros(len(factors)), torch.ones(len(factors))]).long() if factors else None,
    )
