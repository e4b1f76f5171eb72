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


@pytest.mark.parametrize("setting", ["targets", "exclude", "modules_to_save", "rank_pattern"])
def test_an_expression_that_may_take_years_is_refused_of_visitors_alone(setting):
    slow = "(([a-z0-9.]+)+)+!"
    adapter = replace(RunConfig().adapter, **{setting: {slow: 2} if setting == "rank_pattern" else (slow,)})
    with pytest.raises(InputError, match="can take too long: use letters"):
        check_limits(replace(RunConfig(), adapter=adapter))
    assert RunConfig.from_dict(replace(RunConfig(), adapter=adapter).to_dict()).adapter == adapter
