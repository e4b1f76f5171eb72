"""How long a step of a training takes on this machine: a few real steps, on a model that is thrown away."""

import contextlib
import itertools
import time

from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Suite
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit

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
