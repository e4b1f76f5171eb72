"""Methods and suites that are registered from outside are on the page, and work there."""

import gradio as gr
import pytest

from metalora.adapters.lora import LoRA
from metalora.adapters.methods import METHODS, Method, register


class Toy(LoRA):
    """A format of another package."""


@pytest.fixture
def toy_method():
    register("toy", Method("Toy method", Toy, "a test"))
    yield "toy"
    METHODS.unregister("toy")


def choices(demo, label):
    """Names that the field of that label offers."""
    (field,) = (
        block
        for block in demo.blocks.values()
        if isinstance(block, gr.Radio | gr.CheckboxGroup) and block.label == label
    )
    return [name for _, name in field.choices]


def test_a_registered_method_is_offered_by_configure_and_compare(toy_method, build_page):
    demo = build_page()
    assert toy_method in choices(demo, "Method") and toy_method in choices(demo, "Methods")


def test_configure_describes_a_registered_method(toy_method, build_page):
    form = next(event.fn.__self__ for event in build_page().fns.values() if event.name == "describe")
    values = [toy_method if name == "method" else field.value for name, field in form.fields.items()]
    _, error, headline, _, _, diagram, table, command, *_ = form.describe(None, {}, None, *values)
    assert not error and "21 layers adapted" in headline and len(table) == 21
    assert diagram and "--method toy" in command
