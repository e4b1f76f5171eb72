"""How a run stands."""

import pytest

from metalora.runs.status import RunStatus


@pytest.mark.parametrize(
    ("state", "step", "fraction"),
    [
        ("new", 0, None),
        ("queued", 0, None),
        ("running", 0, None),
        ("running", 10, 0.25),
        ("stopping", 11, 0.275),
        ("stopped", 20, 0.5),
        ("failed", 30, 0.75),
        ("finished", 40, None),
    ],
)
def test_the_share_that_is_done_is_told_where_something_is_left(state, step, fraction):
    assert RunStatus("run", state, step=step, steps=40).fraction == fraction
