"""The largest settings that an app takes from its visitors: above them, time or memory of the server would go."""

from metalora.runs.run_config import RunConfig
from metalora.util.checks import check_int

LIMITS = {
    "adapter": {"rank": 10_000, "hidden": 4_096, "code": 4_096, "branches": 64},
    "training": {"steps": 1_000_000, "batch_size": 4_096, "set_size": 4_096, "validate_every": 1_000_000},
    "suite": {"image_size": 512, "max_queries": 1_000_000, "max_train_images": 1_000_000},
}


def check_limits(config: RunConfig) -> None:
    """See that a visitor's settings stay within `LIMITS`; what is left out (None) does.

    Raises:
        InputError: one does not.
    """
    for part, limits in LIMITS.items():
        for name, most in limits.items():
            value = getattr(getattr(config, part), name)
            if value is not None:
                check_int(name, value, 0, most)
