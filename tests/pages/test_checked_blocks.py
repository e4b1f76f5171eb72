"""Whatever is posted to an event is answered with one sentence, never with a traceback."""

import asyncio
import math

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from metalora.util.errors import InputError
from pages.checked_blocks import FAILED, UNREADABLE, checked

TEXT, WHOLE, NUMBER = gr.Textbox(label="Adapter"), gr.Number(label="Rank", precision=0), gr.Number(label="Rate")
SLIDER, BOX = gr.Slider(0, 1, label="Part"), gr.Checkbox(label="Aligned")
MENU = gr.Dropdown(["a"], label="Data", allow_custom_value=True)
FILLED = gr.Dropdown([], label="Image", allow_custom_value=True)  # an event gives it choices
KS = gr.Dropdown([1, 5], label="K", multiselect=True)


@pytest.mark.parametrize(
    ("block", "value", "result"),
    [
        *((TEXT, None, ""), (TEXT, "x", "x"), (WHOLE, None, None), (WHOLE, 4.0, 4.0), (NUMBER, 2.5, 2.5)),
        *((SLIDER, 0, 0), (BOX, None, False), (BOX, True, True), (KS, [1, 5], [1, 5])),
        *((MENU, None, ""), (MENU, "own", "own")),
        *((FILLED, 0, 0), (FILLED, "own", "own"), (FILLED, None, "")),
    ],
)
def test_values_of_the_right_kind_pass(block, value, result):
    assert checked(block, value) == result and type(checked(block, value)) is type(result)


WRONG = {
    TEXT: [4, ["x"], {"a": 1}, True, "x" * 10_001],
    WHOLE: ["4; rm", [4], math.nan, math.inf, True, 2.5, {}],
    NUMBER: ["0.1", [1], math.nan, -math.inf, False],
    SLIDER: [None, "1", math.nan, True],
    BOX: [1, "yes", []],
    MENU: [["a"], {"a": 1}, 3, True, "x" * 10_001],
    FILLED: [{"a": 1}, True, 1.5],
    KS: ["5", [True], [[1]], [math.nan], [5] * 1_001],
}


@pytest.mark.parametrize(("block", "value"), [(block, value) for block, values in WRONG.items() for value in values])
def test_values_of_another_kind_are_named_in_a_sentence(block, value):
    with pytest.raises(InputError, match=f"^{block.label} (is|has) ") as refused:
        checked(block, value)
    assert len(str(refused.value)) < 150


@pytest.fixture
def post(build_page):
    """post(name, change, …) calls an event of the page with its own values but for the inputs by label in `change`."""
    page = build_page()

    def call(name, change, keep=lambda fn: True):
        event = next(fn for fn in page.fns.values() if name in (fn.name, fn.api_name) and keep(fn))
        values = [None if block.stateful else block.value for block in event.inputs]
        labels = [getattr(block, "label", None) for block in event.inputs]
        values = [change.get(label, value) for label, value in zip(labels, values, strict=True)]
        request = gr.Request(session_hash="session", headers={}, client={"host": "1.2.3.4"})
        return asyncio.run(page.process_api(event, values, state=SessionState(page), request=request))

    return call


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Rank R": 2.5}, "Rank R is 2.5: use a whole number"),
        ({"Rank R": True}, "Rank R is True: use a whole number"),
        ({"Rank R": "4; rm"}, "use a whole number"),
        ({"Steps": math.inf}, "Steps is inf"),
        ({"Backbone, bundled or of timm": None}, "Unknown backbone ''"),
        ({"Backbone, bundled or of timm": ["resnet20"]}, "use a text"),
        ({"Learning rate": None}, "learning rate is empty"),
    ],
)
def test_a_start_of_wrong_types_is_refused_in_a_sentence(post, change, said):
    with pytest.raises(gr.Error, match=said) as refused:
        post("start_run", change)
    assert not refused.value.print_exception


def test_what_is_no_file_is_refused_in_a_sentence(post):
    for file in ("/etc/passwd", {"path": 3}, [{"path": "/etc/passwd"}], 3):
        with pytest.raises(gr.Error) as refused:
            post("upload_images", {"Zip archive of images": file})
        assert refused.value.message == UNREADABLE
    with pytest.raises(gr.Error, match="There is no file"):
        post("upload_images", {})


def test_a_fault_of_the_app_is_said_to_be_one(post, monkeypatch):
    monkeypatch.setattr("pages.api.compare_rows", lambda name: 1 / 0)
    with pytest.raises(gr.Error) as failed:
        post("compare", {})
    assert failed.value.message == FAILED and failed.value.print_exception


def test_kept_forms_and_runs_of_another_kind_are_ignored(post):
    for value in (3, True, {"a": 1}, "x", [1], math.nan):
        post("restore", {None: value})
        post("update_menu", {None: value})


def test_pure_look_ups_wait_for_no_turn(build_page):
    queues = {fn.api_name: fn.queue for fn in build_page().fns.values() if fn.api_visibility == "public"}
    assert not any(queues[name] for name in ("run_status", "uploads", "compare", "bundled_adapters", "measured_result"))
    assert queues["inspect_images"] and queues["start_run"]
