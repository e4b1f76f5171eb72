"""What the tabs answer where there is nothing to show yet, or what was typed cannot be used."""

from types import SimpleNamespace

import gradio as gr
import pandas as pd
import pytest
from plotly.graph_objects import Figure, Scattergl

from metalora.runs.status import RunStatus
from metalora.util.errors import InputError
from pages import map_value
from pages.app import POLLING, rest_queue
from pages.core_swap import FORGOTTEN
from pages.inspect import Inspector
from pages.run_panel import EMPTY, RunPanel


def test_a_page_whose_images_are_forgotten_says_so():
    assert Inspector(None, None, {}, None).show_layer("", None, "layer1.0.conv1")[1] == FORGOTTEN


def test_a_run_that_is_deleted_while_it_is_shown_is_said_to_be_gone():
    def gone(visitor, run):
        raise InputError("There is no such run of yours.")

    status = RunStatus("run", "finished")
    app_state = SimpleNamespace(
        backend=SimpleNamespace(status=lambda visitor, run: status), workspace=SimpleNamespace(run_folder=gone)
    )
    text, fraction, why, *buttons, curves, result, log = RunPanel(app_state).show("visitor", "run")
    assert (text, fraction, why, log) == ("There is no such run of yours.", "", "", "")
    assert all(not button["interactive"] for button in buttons)
    assert curves is EMPTY and not result["visible"]


def test_settings_that_two_tabs_change_are_changed_in_turns(build_page):
    changes = {}
    for event in build_page().fns.values():
        for part in set(event.inputs) & set(event.outputs):
            if isinstance(part, gr.State):
                changes.setdefault(part, {}).setdefault(event.name, set()).add((event.concurrency_id, event.queue))
    shared = [by_name for by_name in changes.values() if len(by_name) > 1]
    assert [set(by_name) for by_name in shared] == [{"describe", "update_settings"}]
    assert all(turn == {("settings", True)} for turn in shared[0].values())


def test_this_gradio_has_the_private_settings_of_an_idle_queue(build_page):
    queue = build_page()._queue
    assert {name: getattr(queue, name) for name in POLLING} == POLLING


@pytest.mark.parametrize("demo", [SimpleNamespace(), SimpleNamespace(_queue=SimpleNamespace())])
def test_a_gradio_without_them_keeps_its_own_pace(demo):
    rest_queue(demo)
    assert not hasattr(getattr(demo, "_queue", None), "sleep_when_free")


def test_two_galleries_that_turn_into_each_other_share_one_plot(monkeypatch):
    def figure(view, i, colour, frame):
        return Figure(Scattergl(x=frame["x"], y=frame["y"]))

    monkeypatch.setattr(map_value, "_figure", figure)
    monkeypatch.setattr(map_value, "hover_sprites", lambda adapter: {"sprite": "", "columns": 1, "tile": 16})
    names = {"name": ["a", "b"], "label": ["1", "2"], "task": ["t", "t"], "predicted": ["1", "1"]}
    frames = [pd.DataFrame({"x": [0.0, 1.0], "y": [2.0, 3.0], **names})]
    frames.append(frames[0].assign(x=[4.0, 5.0], y=[6.0, 7.0]))
    view = SimpleNamespace(
        morphs=True, frames=frames, titles=("Original", "LoRA"), same_images=True, accuracy=lambda i: "50.0 %"
    )
    guest = {"name": "mine.png", "image": "data:", "lines": ["says 1"], "place": [0, 0]}
    guests = [[guest], [{**guest, "lines": ["says 2"], "place": [1, 1]}]]
    (plot,) = map_value.values(view, [SimpleNamespace(opened=None)] * 2, guests, "class")
    assert list(plot["figure"].data[0].x) == [0, 1]
    ends = {"from": "Original, 50.0 %", "to": "LoRA, 50.0 %", "play": True}
    assert plot["morph"] == {"towards": [[4.0, 6.0], [5.0, 7.0]], **ends}
    assert plot["guests"] == [{**guest, "lines": ["Original: says 1", "LoRA: says 2"], "towards": [1, 1]}]
    assert plot["link"] is None and plot["busy"] is None
