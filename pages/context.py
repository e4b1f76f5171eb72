"""What all tabs share: the app's state, the visitor, and which run is the run of all tabs."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from metalora.views.app_state import AppState


@dataclass(frozen=True)
class Context:
    """Handed to every page's `build`.

    Attributes:
        load: event of the page's start, after which the visitor's token is there; for `gr.on` and to call.
        settled: 0, then 1; its `change` says that the first screen is complete, after which other tabs get ready.
        visitor: the visitor's token, kept by their browser; an input of every event that touches what is theirs.
        run: id of the active run, chosen in the sidebar; None without one.
        tab: title of the tab that is shown; its `change` tells of another one.
        tabs: all of them; as an output, `gr.Tabs(selected="train")` shows one.
        link: tab's id → name of a field → its value, for tabs of `forms`, as the link said that the page came with.
        forms: what the fields of some tabs held last, by the name of the tab.
        adapters: counts the times that the visitor's adapters may have changed; its `change` says so.
        moved: says how the active run is doing; its `change` tells of a further step, or of another state.
        status: the same in words for a person, as the sidebar shows it.
    """

    app_state: AppState
    load: Callable
    settled: gr.Number
    visitor: gr.BrowserState
    run: gr.Dropdown
    tab: gr.State
    tabs: gr.Tabs
    link: gr.State
    forms: dict[str, gr.BrowserState]
    adapters: gr.Number
    moved: gr.Textbox
    status: gr.HTML


# Everything that computes waits for its turn: two cores compute one thing at a time.
COMPUTE = {"concurrency_id": "compute", "concurrency_limit": 1}
# Helpers of the page: at once, without a spinner, and not among the endpoints.
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
PRIVATE = {"api_visibility": "private"}
