"""The largest settings that an app takes from its visitors."""

from dataclasses import replace

import pytest

from metalora.runs.run_config import RunConfig
from metalora.runs.visitor_limits import LIMITS, SHARED, ServerLimits, check_limits, server_limits
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


def test_each_of_several_sizes_of_sets_is_limited(monkeypatch):
    config = replace(RunConfig(), training=replace(RunConfig().training, set_size=(0, 1, 32)))
    check_limits(config)
    monkeypatch.setenv("METALORA_MAX_SET_SIZE", "16")
    with pytest.raises(InputError, match="set_size is 32: use a whole number from 0 to 16"):
        check_limits(config)


@pytest.mark.parametrize("setting", ["targets", "exclude", "modules_to_save", "rank_pattern"])
def test_an_expression_that_may_take_years_is_refused_of_visitors_alone(setting):
    slow = "(([a-z0-9.]+)+)+!"
    adapter = replace(RunConfig().adapter, **{setting: {slow: 2} if setting == "rank_pattern" else (slow,)})
    with pytest.raises(InputError, match="can take too long: use letters"):
        check_limits(replace(RunConfig(), adapter=adapter))
    assert RunConfig.from_dict(replace(RunConfig(), adapter=adapter).to_dict()).adapter == adapter


@pytest.fixture
def public(monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")


def test_on_a_persons_own_machine_nothing_but_the_queue_is_limited():
    assert server_limits() == ServerLimits()


def test_where_others_come_less_is_accepted_unless_a_variable_says_so(public, monkeypatch):
    assert server_limits() == SHARED and SHARED.minutes and SHARED.per_address and SHARED.disk_gb
    config = replace(RunConfig(), training=replace(RunConfig().training, steps=100_001))
    with pytest.raises(InputError, match="steps is 100,001: use a whole number from 0 to 100,000"):
        check_limits(config)
    monkeypatch.setenv("METALORA_MAX_STEPS", "200000")
    monkeypatch.setenv("METALORA_MAX_MINUTES", "5")
    check_limits(config)
    assert server_limits() == replace(SHARED, minutes=5)
    monkeypatch.setenv("METALORA_MAX_WAITING", "many")
    with pytest.raises(InputError, match="METALORA_MAX_WAITING is 'many': set a whole number of 0 or more"):
        server_limits()
