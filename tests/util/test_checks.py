"""Checks of numbers that users give."""

import pytest

from metalora.util.checks import check_float, check_int
from metalora.util.errors import InputError


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "rank is empty"),
        (0, "rank is 0"),
        (-1, "rank is -1"),
        (1.5, r"rank is 1\.5"),
        (1e30, r"rank is 1e\+30"),
        (9000, "rank is 9,000"),
        (True, "rank is True"),
        ("4", "rank is '4'"),
    ],
)
def test_other_values_than_whole_numbers_within_bounds_are_refused(value, said):
    with pytest.raises(InputError, match=f"{said}: use a whole number from 1 to 8,000"):
        check_int("rank", value, 1, 8000)


def test_without_an_upper_bound_the_message_names_the_lower_one():
    with pytest.raises(InputError, match="rank is 0: use a whole number of 1 or more"):
        check_int("rank", 0)


@pytest.mark.parametrize("value", [1, 8000])
def test_bounds_are_allowed(value):
    check_int("rank", value, 1, 8000)


@pytest.mark.parametrize("value", [None, "0.5", True, float("nan"), float("inf"), 1.5])
def test_other_values_than_numbers_of_that_kind_are_refused(value):
    shown = "empty" if value is None else repr(value)
    with pytest.raises(InputError, match=f"^share is {shown}: use a share up to 1\\.$"):
        check_float("share", value, lambda share: share <= 1, "a share up to 1")


@pytest.mark.parametrize("value", [1, 0.5, -3])
def test_a_number_of_that_kind_is_allowed(value):
    check_float("share", value, lambda share: share <= 1, "a share up to 1")
