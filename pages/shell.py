"""The frame around the tabs: a sidebar with the active run, the visitor's identity, the clock."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from metalora.runs.status import RunStatus
from metalora.training.loop import clock
from metalora.util.device import pick_device
from metalora.util.errors import InputError
from metalora.views.app_state import AppState

from .components import Message
from .context import QUIET, Context
from .tour import tour

PAPER = "https://arxiv.org/abs/2504.00460"
NO_RUN = "No run yet: start one in Train."
INTRODUCTION = (
    "# MetaLoRA\n\nOne image in, one adapter out: a small network writes a low-rank update into every layer of a "
    "frozen network, anew for each image."
)
FORMS = ("train", "compare")  # tabs whose fields are kept
SECONDS = 2  # between looks at the active run
RUN_STATE = "/run-state"  # where the page asks whether the active run has moved
# By a request of its own: an event of Gradio's would cost the page 50 ms and a place in the queue, moved or not.
POLL = f"""async (token, run, moved) => {{
  if (!token || !run) return '';
  const address = `${{window.gradio_config.root}}{RUN_STATE}?run=${{encodeURIComponent(run)}}`;
  try {{
    const answer = await fetch(address, {{headers: {{'X-Visitor': token}}}});
    return answer.ok ? await answer.text() : moved;
  }} catch (error) {{
    return moved;  // the server is away, which the page says by itself
  }}
}}"""


@dataclass(frozen=True)
class Frame:
    """The parts around the tabs.

    Attributes:
        context: what the tabs share.
        copy: button that copies a link to the view.
        said: message about links.
        start: starts the page after an event, once its tabs are built.
    """

    context: Context
    copy: gr.Button
    said: gr.HTML
    start: Callable[[Any], None]


def shell(app_state: AppState) -> Frame:
    """Lay out the sidebar and what stands above the tabs."""
    visitor, chosen, *forms = map(_kept, ("visitor", "run", *FORMS))
    # A gr.State tells its change for queued events only; these are written by helpers that do not queue.
    counts = {"visible": "hidden", "show_label": False}
    started, adapters = gr.Number(0, **counts), gr.Number(0, **counts)
    settled = gr.Number(0, elem_id="settled", **counts)
    moved, timer = gr.Textbox(visible="hidden", show_label=False), gr.Timer(SECONDS)
    with gr.Sidebar(width=280, open=False):
        # Custom values, because a server that was restarted has no choices until the page is loaded again.
        run = gr.Dropdown(
            [], value=None, label="Active run", info="Used by every tab.", interactive=True, allow_custom_value=True
        )
        status = Message(NO_RUN, kind="status")
        seed = Message()
        gr.Markdown(f"Computing on **{pick_device()}**.")
        gr.Markdown(f"How to cite: see About. [Paper]({PAPER})")
    with gr.Row(elem_classes="introduction"):
        gr.Markdown(INTRODUCTION)
        begin = gr.Button("Tour", size="sm", scale=0, min_width=80)
        copy = gr.Button("Copy link", size="sm", scale=0, min_width=110)
    said = Message(kind="status")
    tabs = gr.Tabs(overflow_behavior="wrap", elem_id="tabs", render=False)
    tab, kept = gr.State("Look"), dict(zip(FORMS, forms, strict=True))
    link = gr.State({})
    shared = (visitor, run, tab, tabs, link, kept, adapters, moved, status)
    context = Context(app_state, started.change, settled, *shared)
    handlers = Shell(app_state)
    run.change(lambda run_id: run_id, run, chosen, **QUIET)
    gr.on([timer.tick, run.change], None, [visitor, run, moved], moved, js=POLL, **QUIET)
    gr.on([moved.change, run.change], handlers.update_run, [visitor, run, adapters], [status, seed, adapters], **QUIET)

    greet = tour(context, begin, _kept("tour"))
    tabs.render()

    def start(opened: Any) -> None:
        opened.then(handlers.ensure_visitor, [visitor, chosen, link], [visitor, run, started], **QUIET)
        greet(opened)

    return Frame(context, copy, said, start)


@dataclass(frozen=True)
class Shell:
    """What the sidebar answers."""

    app_state: AppState

    def ensure_visitor(self, token: str | None, run: str | None, link: dict[str, Any]) -> list[Any]:
        """Return the visitor's token, a new one where there is none; their runs; and that the page has started."""
        run = link.get("train", {}).get("run", run)
        token = self.app_state.ensure_visitor(token)
        return [token, menu(self.app_state, token, run), 1]

    def update_run(self, token: str | None, run: str | None, n_adapters: int) -> list[Any]:
        """Describe the active run: its status, its seed, and the number of adapters."""
        if not token or not run:
            return [NO_RUN, "", gr.skip()]
        try:
            status = self.app_state.backend.status(token, run)
            seed = self.app_state.config(token, run).training.seed
        except InputError as error:
            return [str(error), "", gr.skip()]
        count = len(self.app_state.adapters(token))
        return [describe_status(status), f"Random seed {seed}.", count if count != n_adapters else gr.skip()]

    def run_state(self, request: Request) -> PlainTextResponse:
        """Answer `RUN_STATE`: a text that changes when a run of the visitor moves."""
        token, run = request.headers.get("X-Visitor", ""), request.query_params.get("run", "")
        try:
            status = self.app_state.backend.status(token, run)
        except InputError as error:
            return PlainTextResponse(f"{run} {error}")
        return PlainTextResponse(f"{run} {status.state} {status.step} {status.queue_position}")


def _kept(name: str) -> gr.BrowserState:
    """Return something that the visitor's browser keeps; outside the tabs, since one not shown yet gives nothing back.

    The secret protects nothing (it is in the page); a fixed one outlives a restart.
    """
    return gr.BrowserState(None, storage_key=f"metalora-{name}", secret="metalora")  # nosec B106


def menu(app_state: AppState, token: str, run_id: str | None) -> Any:
    """Return the menu of the visitor's runs: the given one is chosen where it still exists, else the newest."""
    runs = app_state.runs(token)
    value = run_id if isinstance(run_id, str) and run_id in runs else next(iter(runs), None)
    return gr.update(choices=[(title, run) for run, title in runs.items()], value=value)


def describe_status(status: RunStatus) -> str:
    """Describe how a run is doing, in a sentence."""
    if status.state == "new":
        return "Not started: start it in Train, or delete it."
    if status.state == "queued":
        return f"Queued, place {status.queue_position}." if status.queue_position else "Queued."
    if status.state == "running" and not status.step:
        return "Running: reading images and building the model."
    progress = f"step {status.step} of {status.steps}"
    if status.state == "running":
        return f"Running: {progress}" + (f", {clock(status.seconds_left)} left." if status.seconds_left else ".")
    if status.state == "failed":
        return f"Failed at {progress}: {status.reason}"
    return f"{status.state.capitalize()}: {progress}." + (f" {status.reason}" if status.reason else "")
