"""How long to train, and how fast, where nobody says.

Steps follow from the images and the time, by the pace of a few real steps; the learning rate is the best of three short
trials on validation.
"""

import contextlib
import itertools
import time

from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Suite
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit

LEARNING_RATES = (1e-3, 3e-3, 6e-3)  # that are tried
PASSES = 12  # over the training images, the most
LEAST = 24  # steps
TRIAL = 0.125  # of the steps, in which a learning rate is tried
STEPS, MAX_SECONDS = 4, 4.0  # that are measured; after so many seconds no further step begins


def seconds_per_step(model: AdaptedModel, suite: Suite, config: TrainingConfig) -> float:
    """Return the seconds of a step, without validation.

    Args:
        model: trained a few steps.
        suite: whose images it is trained on.
        config: of a training with more than `STEPS` steps that does not validate in between.

    Raises:
        InputError: see `fit`.
    """
    no_cache = FeatureCache(suite, limit=0)  # in a real training most images are new for long
    times = [time.monotonic()]
    # The step after the measured ones is never taken: it would validate as well.
    with contextlib.closing(fit(model, suite, config, features=no_cache)) as events:
        while len(times) <= STEPS and times[-1] - times[0] < MAX_SECONDS:
            next(events)
            times.append(time.monotonic())
    seconds = [after - before for before, after in itertools.pairwise(times)]
    return min(seconds[1:] or seconds)  # the first one warms up


def planned_steps(images: int, batch_size: int, affordable: float) -> int:
    """Return the steps for so many training images: those of `PASSES`, or what is affordable, but not below `LEAST`."""
    most = -(-PASSES * images // batch_size)
    return max(min(most, int(affordable)), min(LEAST, most))


def trial_steps(steps: int) -> int:
    """Return the steps in which a learning rate is tried."""
    return max(min(LEAST, steps), round(TRIAL * steps))
