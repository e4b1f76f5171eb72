"""The largest settings that an app takes from its visitors."""

from dataclasses import replace

import pytest

from metalora.runs.run_config import RunConfig
from metalora.runs.visitor_limits import LIMITS, check_limits
from metalora.util.errors import InputError


def test_the_defaults_are_within_them():
    check_limits(RunConfig())


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in LIMITS.items() for name in names])
def test_one_above_is_refused_and_the_largest_is_not(part, name):
    default, most = RunConfig(), LIMITS[part][name]

    def config(value):
        changes = {name: value, **({"batch_size": value} if name == "set_size" else {})}
        return replace(default, **{part: replace(getattr(default, part), **changes)})

    check_limits(config(most))
    with pytest.raises(InputError, match=f"is {most + 1:,}: use a whole number from 0 to {most:,}"):
        check_limits(config(most + 1))
