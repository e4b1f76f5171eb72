"""Methods and suites that are registered from outside are on the page, and work there."""

import gradio as gr
import pytest

from metalora.adapters.lora import LoRA
from metalora.adapters.methods import METHODS, Method, register
from metalora.suites.digits import digits
from metalora.suites.registry import SUITES, SuiteEntry
from metalora.suites.task_lists import DIGITS


class Toy(LoRA):
    """A format of another package."""


@pytest.fixture
def toy_method():
    register("toy", Method("Toy method", Toy, "a test"))
    yield "toy"
    METHODS.unregister("toy")


@pytest.fixture
def toy_suite():
    SUITES.register("toy-suite", SuiteEntry(digits, DIGITS))
    yield "toy-suite"
    SUITES.unregister("toy-suite")


def choices(demo, label):
    """Names that the fields of that label offer."""
    fields = (block for block in demo.blocks.values() if isinstance(block, gr.Radio | gr.CheckboxGroup | gr.Dropdown))
    return [[name for _, name in field.choices] for field in fields if field.label == label]


def form(demo, handler):
    """The form that a handler of the page belongs to."""
    return next(event.fn.__self__ for event in demo.fns.values() if event.name == handler)


def test_a_registered_method_is_offered_by_train_and_compare(toy_method, build_page):
    demo = build_page()
    assert toy_method in choices(demo, "Method")[0] and toy_method in choices(demo, "Methods")[0]


def test_train_describes_a_registered_method(toy_method, build_page):
    train = form(build_page(), "describe")
    values = [toy_method if name == "method" else field.value for name, field in train.fields.items()]
    data, backbone, problem, start, _, *_, headline, _, _, diagram, table, command, _, _ = train.describe(
        None, None, None, *values
    )
    assert not (data or backbone or problem) and start["interactive"]
    assert "21 layers adapted" in headline and len(table) == 21
    assert diagram and "--method toy" in command


def test_a_registered_suite_is_offered_by_train_and_compare_with_its_tasks(toy_suite, build_page):
    demo = build_page()
    assert all(toy_suite in choices(demo, label)[0] for label in ("Data", "Suite"))
    train = form(demo, "describe")
    chosen = {name: field.value for name, field in train.fields.items()}
    config = train.run_config(None, None, chosen | {"data": toy_suite, "hold_out": DIGITS.names[:1]})
    assert config.suite.name == toy_suite and config.suite.unseen == DIGITS.names[:1]
