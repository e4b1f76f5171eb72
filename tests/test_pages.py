"""What the tabs answer where there is nothing to show yet, or what was typed does not serve."""

from pages.inspect import _redraw
from pages.inspect_exchange import FORGOTTEN


def test_a_page_whose_pictures_are_forgotten_says_so():
    assert _redraw(None, "", None, "layer1.0.conv1")[1] == FORGOTTEN
