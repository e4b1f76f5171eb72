"""What the tabs answer where there is nothing to show yet, or what was typed does not serve."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr

from metalora.runs.status import RunStatus
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from pages import build
from pages.inspect import _redraw
from pages.inspect_exchange import FORGOTTEN
from pages.watch import EMPTY, _look


def test_a_page_whose_pictures_are_forgotten_says_so():
    assert _redraw(None, "", None, "layer1.0.conv1")[1] == FORGOTTEN


def test_a_run_that_is_deleted_while_it_is_looked_at_is_said_to_be_gone():
    def gone(visitor, run):
        raise InputError("There is no such run of yours.")

    status = RunStatus("run", "finished")
    app_state = SimpleNamespace(
        backend=SimpleNamespace(status=lambda visitor, run: status), workspace=SimpleNamespace(run_folder=gone)
    )
    sentence, share, why, *buttons, curves, result, log = _look(app_state, "visitor", "run")
    assert (sentence, share, why, log) == ("There is no such run of yours.", "", "", "")
    assert all(not button["interactive"] for button in buttons)
    assert curves is EMPTY and not result["visible"]


def test_what_two_tabs_read_change_and_write_they_change_in_turns(tmp_path):
    async def built():  # where no loop runs, gradio begins one and leaves it open
        return build(AppState(tmp_path))

    with ThreadPoolExecutor(1) as thread:  # this one may have the loop of a browser test before it
        demo = thread.submit(asyncio.run, built()).result()
    changes = {}
    for event in demo.fns.values():
        for part in set(event.inputs) & set(event.outputs):
            if isinstance(part, gr.State):
                changes.setdefault(part, {}).setdefault(event.name, set()).add((event.concurrency_id, event.queue))
    shared = [by_name for by_name in changes.values() if len(by_name) > 1]
    assert [set(by_name) for by_name in shared] == [{"describe", "update_settings"}]
    assert all(turn == {("settings", True)} for turn in shared[0].values())
