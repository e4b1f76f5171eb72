"""What the tabs answer where there is nothing to show yet, or what was typed does not serve."""

import pytest

from metalora.errors import InputError
from pages.inspect import _core
from pages.inspect_exchange import FORGOTTEN
from pages.train import BOUNDS, _check

TYPED = {"steps": 60, "batch": 32, "set_size": 1, "validate_every": 0, "seed": 0, "max_queries": 500, "rate": 3e-3}


def test_a_page_whose_pictures_are_forgotten_says_so():
    assert _core(None, "layer1.0.conv1")[1] == FORGOTTEN


def test_good_settings_pass():
    _check({**TYPED, "train_pictures": 0}, dict.fromkeys(BOUNDS, "It"))


@pytest.mark.parametrize(("name", "value"), [("rate", None), *((name, v) for name in BOUNDS for v in (None, -1, 1.5))])
def test_what_a_person_may_type_by_mistake_is_a_sentence(name, value):
    with pytest.raises(InputError, match="use a"):
        _check({**TYPED, "train_pictures": 0, name: value}, dict.fromkeys(BOUNDS, "It"))
