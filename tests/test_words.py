"""What a person types into a field of the page."""

import pytest

from metalora.errors import InputError
from pages.words import whole


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "Rank R is empty"),
        (0, "Rank R is 0"),
        (-1, "is -1"),
        (1.5, "is 1.5"),
        (1e30, "is 1e\\+30"),
        (9000, "is 9,000"),
    ],
)
def test_what_is_no_such_number_is_a_sentence(value, said):
    with pytest.raises(InputError, match=f"{said}: use a whole number from 1 to 8,000"):
        whole("Rank R", value, 1, 8000)


@pytest.mark.parametrize("value", [1, 8000])
def test_bounds_are_allowed(value):
    assert whole("Rank R", value, 1, 8000) == value
