"""The largest settings that an app accepts from its visitors, to protect the server's time and memory."""

from metalora.adapters.patterns import check_plain
from metalora.runs.run_config import RunConfig
from metalora.util.checks import check_int

LIMITS = {
    "adapter": {"rank": 10_000, "hidden": 4_096, "code": 4_096, "branches": 64},
    "training": {"steps": 1_000_000, "batch_size": 4_096, "set_size": 4_096, "validate_every": 1_000_000},
    "suite": {"image_size": 512, "max_queries": 1_000_000, "max_train_images": 1_000_000},
}


def check_limits(config: RunConfig) -> None:
    """Check that a visitor's settings are within `LIMITS`; None is allowed.

    Raises:
        InputError: one is not, or a regular expression may take too long.
    """
    adapter = config.adapter
    for pattern in (*(adapter.targets or ()), *adapter.exclude, *adapter.modules_to_save, *adapter.rank_pattern):
        check_plain(pattern)
    for part, limits in LIMITS.items():
        for name, maximum in limits.items():
            value = getattr(getattr(config, part), name)
            if value is not None:
                check_int(name, value, 0, maximum)
