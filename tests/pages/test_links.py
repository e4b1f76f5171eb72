"""What links say, without a browser: they come from anybody."""

import gradio as gr
import pytest

from metalora.views.app_state import AppState
from pages.links import Links


@pytest.fixture
def links(tmp_path):
    look = {
        "adapter": gr.Dropdown(["resnet20/lora"], value="resnet20/lora", allow_custom_value=True),
        "image": gr.State(0),
        "blur": gr.Slider(0, 10, 6.0),
        "inversion": gr.Checkbox(False),
    }
    compare = {"k": gr.Radio([5, 10], value=5), "rows": gr.CheckboxGroup(["a", "b, c"], value=["a"])}
    return Links(AppState(tmp_path), {"Look": look, "Compare": compare})


def test_what_a_link_holds_is_read_as_it_was(links):
    held = ["mixer_nano/lora", 3, 2.5, True, 10, ["a", "b, c"]]
    query = links.compose("Look", *held)
    assert links.open(None, query) == (
        "Look",
        {"adapter": "mixer_nano/lora", "image": 3, "blur": 2.5, "inversion": True},
        [],
    )
    assert links.open(None, links.compose("Compare", *held)) == ("Compare", {"k": 10, "rows": ["a", "b, c"]}, [])


def test_defaults_are_left_out(links):
    assert links.compose("Look", "resnet20/lora", 0, 6.0, False, 5, ["a"]) == "?tab=look"


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("tab=look&image=inf", "'inf' is not a whole number."),
        ("tab=look&image=nan", "'nan' is not a whole number."),
        ("tab=look&blur=1e999", "blur cannot be 1e999."),
        ("tab=look&blur=-1", "blur cannot be -1."),
        ("tab=look&inversion=maybe", "'maybe' is neither true nor false."),
        ("tab=look&adapter=run:1", "There is no adapter 'run:1' here."),
        ("tab=compare&k=7", "There is no k '7' here."),
        ("tab=compare&rows=[", "'[' is not a list."),
        ("tab=compare&rows=[[1]]", "There is no rows '[[1]]' here."),
        ("tab=nowhere&k=5", "There is no tab 'nowhere'."),
    ],
)
def test_what_cannot_be_is_named_and_left_out(links, query, problem):
    _, values, problems = links.open(None, f"?{query}")
    assert (values, problems) == ({}, [problem])


def test_a_foreign_visitor_is_not_made_a_new_one_by_a_link(links, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    links.open("f" * 32, "?tab=look&adapter=run:1")
    assert sorted(tmp_path.rglob("*")) == before
