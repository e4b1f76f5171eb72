"""Whole numbers as people give them."""

import pytest

from metalora.bounds import whole
from metalora.errors import InputError


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
def test_what_is_no_such_number_is_a_sentence(value, said):
    with pytest.raises(InputError, match=f"{said}: use a whole number from 1 to 8,000"):
        whole("rank", value, 1, 8000)


def test_without_an_upper_bound_the_sentence_names_the_lower_one():
    with pytest.raises(InputError, match="rank is 0: use a whole number of 1 or more"):
        whole("rank", 0)


@pytest.mark.parametrize("value", [1, 8000])
def test_bounds_are_allowed(value):
    whole("rank", value, 1, 8000)
