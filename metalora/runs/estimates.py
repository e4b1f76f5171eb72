"""How long a run will take on this machine: a few real steps on random images, extrapolated.

The steps are those of `fit` itself. They depend on the network, the adapter and the sizes only, so that a change of the
number of steps, of a rate or of the seed is estimated at once.
"""

import contextlib
import functools
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from metalora.evaluation.embedding import embed
from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import image_size_for, load_backbone
from metalora.runs.run_config import RunConfig
from metalora.suites.archives import list_pictures
from metalora.suites.splits import SHARES
from metalora.suites.suite import SEEN_SPLITS, Examples, Suite
from metalora.suites.transforms import unchanged
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit

WARM, TIMED, LONGEST = 1, 3, 4.0  # steps before the clock, steps on it; seconds after which no further one is begun
LARGEST = 64  # images of a step that is timed; of larger batches the time grows in proportion
START = 6.0  # seconds in which a fresh worker imports torch and timm on two cores
OWN_SIZE = {"digits": 16}  # pixels; other suites have 32
PICTURES = {"digits": 1_797}
CIFAR_QUERIES, CIFAR_GALLERY = 10_000, 5_000
SPLITS = 2  # seen and unseen tasks


def estimate(config: RunConfig) -> float:
    """Seconds that a run will take here, evaluation included; measured in a few seconds, then remembered.

    Raises:
        InputError: the settings do not serve.
    """
    step, image = _pace(_key(config))
    training = config.training
    step *= training.batch_size / _measured(training).batch_size
    # One at the end; on the way one before the first step, then where they are due.
    validations = 1 + (1 + (training.steps - 1) // training.validate_every if training.validate_every else 0)
    validation, query, gallery = _sizes(config)
    images = validations * (validation + gallery) + SPLITS * (query + gallery) + validation + gallery
    return START + training.steps * step + images * image


def _measured(training: TrainingConfig) -> TrainingConfig:
    """The settings whose steps are timed: of a large batch a part, which is enough to know the pace."""
    if training.batch_size <= LARGEST:
        return training
    set_size = min(training.set_size, LARGEST)
    return replace(training, set_size=set_size, batch_size=LARGEST - LARGEST % set_size)


def _key(config: RunConfig) -> str:
    """The settings on which the pace depends, as text."""
    adapter, name = replace(config.adapter, seed=0), ""
    if adapter.predicts(config.suite.factors):
        name = config.suite.name
    elif adapter.factors:  # which this suite lacks: they are not named, and the code is like a free one
        adapter = replace(adapter, factors=(), code=sum(adapter.factors))
    suite = replace(config.suite, name=name, data="", image_size=_size(config), hold_out=(), max_queries=1)
    rates = {"lr": 1e-4, "mapping_lr_scale": 1.0}
    fixed = {"steps": WARM + TIMED + 1, **rates, "validate_every": 0, "seed": 0}
    training = replace(_measured(config.training), **fixed)
    alike = replace(config, suite=suite, adapter=adapter, training=training, start=None)
    return json.dumps(alike.to_dict(), sort_keys=True)


def _size(config: RunConfig) -> int:
    return config.suite.image_size or OWN_SIZE.get(config.suite.name, 32)


@functools.lru_cache(64)
def _pace(key: str) -> tuple[float, float]:
    """Seconds of a training step, and of an image's embedding."""
    config = RunConfig.from_dict(json.loads(key))
    size, download = config.suite.image_size, config.suite.download
    backbone = load_backbone(config.backbone, image_size=image_size_for(config.backbone, size), download=download)
    model = adapt(backbone, config.adapter, download=download)
    suite = _random_suite(max(config.training.batch_size, 16), size, config.adapter.factors)
    return _seconds_of_step(model, suite, config.training), _seconds_of_image(model, suite, config)


def _seconds_of_step(model: AdaptedModel, suite: Suite, training: TrainingConfig) -> float:
    nothing_kept = FeatureCache(suite, limit=0)  # for a real suite's images are new for long
    # The last step is never taken: it would validate as well.
    with contextlib.closing(fit(model, suite, training, features=nothing_kept)) as events:
        began, seconds = time.monotonic(), []
        while len(seconds) < WARM + TIMED and sum(seconds) < LONGEST:
            before = time.monotonic() if seconds else began
            next(events)
            seconds.append(time.monotonic() - before)
    timed = seconds[WARM:] or seconds
    return sum(timed) / len(timed)


def _seconds_of_image(model: AdaptedModel, suite: Suite, config: RunConfig) -> float:
    examples = suite.splits["train"]
    before = time.monotonic()
    embed(model, examples, config.embed_config)
    return (time.monotonic() - before) / len(examples)


def _random_suite(count: int, size: int, factors: tuple[int, ...]) -> Suite:
    """`count` pictures of noise in two classes and two tasks, which combine factors of so many values."""
    pictures = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
    rows = torch.arange(count)
    examples = Examples(pictures, (unchanged, unchanged), rows, rows % 2, rows // 2 % 2)
    return Suite(
        name="noise",
        pictures=pictures,
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


def _sizes(config: RunConfig) -> tuple[int, int, int]:
    """About how many images validation, queries and gallery have."""
    suite = config.suite
    if suite.name.startswith("cifar10"):
        queries, gallery = CIFAR_QUERIES, CIFAR_GALLERY
        return min(suite.max_queries, gallery), min(suite.max_queries, queries), gallery
    count = PICTURES.get(suite.name) or _count(Path(suite.name.partition(":")[2]))
    _, validation, gallery, query = (round(share * count) for share in SHARES)
    return min(suite.max_queries, validation), min(suite.max_queries, query), gallery


def _count(source: Path) -> int:
    count, entries = list_pictures(source)
    return count if count is not None else sum(1 for _ in entries)
