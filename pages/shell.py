"""The frame around the tabs: sidebar with the active run, the visitor's identity, the clock."""

from typing import Any

import gradio as gr

from metalora.runs.run_config import RunConfig
from metalora.runs.status import RunStatus
from metalora.training.loop import clock
from metalora.util.device import pick_device
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from pages.context import QUIET, Context
from pages.words import Message

PAPER = "https://arxiv.org/abs/2504.00460"
# On a screen that Gradio holds for a narrow one the open sidebar lies over everything.
NARROW = "() => { if (innerWidth <= 768) document.querySelector('.sidebar.open .toggle-button')?.click(); }"
FORMS = ("configure", "train", "compare")  # tabs whose fields are kept
SECONDS = 2  # between looks at the active run


def shell(app_state: AppState, demo: gr.Blocks) -> Context:
    """The sidebar; what the tabs share."""
    visitor, chosen, *forms = map(_kept, ("visitor", "run", *FORMS))
    # A gr.State tells its change for queued events only; these are written by helpers that do not queue.
    started, settled, adapters = (gr.Number(0, visible="hidden", show_label=False) for _ in range(3))
    settings = gr.State(RunConfig().to_dict())
    moved, timer = gr.Textbox(visible="hidden", show_label=False), gr.Timer(SECONDS)
    with gr.Sidebar(width=280):
        gr.Markdown("# MetaLoRA")
        gr.Markdown("Adapters whose core is generated for each image: configure, train, look, compare.")
        # Custom values, because a server that was restarted knows no choices until the page is loaded again.
        run = gr.Dropdown(
            [], value=None, label="Active run", info="The run of all tabs.", interactive=True, allow_custom_value=True
        )
        status = Message("No run yet: start one in Train.", kind="status")
        seed = Message()
        gr.Markdown(f"Computing on **{pick_device()}**.")
        gr.Markdown(f"How to cite: see About. [Paper]({PAPER})")
    size, tab, kept = gr.State("Default"), gr.State("Configure"), dict(zip(FORMS, forms, strict=True))
    context = Context(app_state, started.change, settled, visitor, run, settings, size, tab, kept, adapters, moved)

    def ensure_visitor(token: str | None, run_id: str | None) -> list[Any]:
        token = app_state.ensure_visitor(token)
        return [token, menu(app_state, token, run_id), 1]

    demo.load(None, js=NARROW)
    demo.load(ensure_visitor, [visitor, chosen], [visitor, run, started], **QUIET)
    run.change(lambda run_id: run_id, run, chosen, **QUIET)
    gr.on(
        [timer.tick, run.change],
        lambda token, run_id, count: _look(app_state, token, run_id, count),
        [visitor, run, adapters],
        [status, seed, adapters, moved],
        **QUIET,
    )
    return context


def _kept(name: str) -> gr.BrowserState:
    """Something that the visitor's browser keeps. Outside the tabs: one that is not shown yet gives nothing back."""
    # The secret protects nothing (it is in the page); a fixed one outlives a restart.
    return gr.BrowserState(None, storage_key=f"metalora-{name}", secret="metalora")


def menu(app_state: AppState, token: str, run_id: str | None) -> Any:
    """The visitor's runs, with theirs chosen where it still exists, else the newest."""
    runs = app_state.runs(token)
    value = run_id if run_id in runs else next(iter(runs), None)
    return gr.update(choices=[(title, run) for run, title in runs.items()], value=value)


def _look(app_state: AppState, token: str | None, run_id: str | None, count: int) -> list[Any]:
    """The active run in a sentence, its seed, whether there is an adapter more, and how it stands."""
    if not token or not run_id:
        return ["No run yet: start one in Train.", "", gr.skip(), ""]
    try:
        status = app_state.backend.status(token, run_id)
        seed = app_state.config(token, run_id).training.seed
    except InputError as error:
        return [str(error), "", gr.skip(), f"{run_id} {error}"]
    known = len(app_state.adapters(token))
    stands = f"{run_id} {status.state} {status.step} {status.place}"
    return [say(status), f"Random seed {seed}.", known if known != count else gr.skip(), stands]


def say(status: RunStatus) -> str:
    """How a run stands, in a sentence."""
    if status.state == "queued":
        return f"Queued, place {status.place}." if status.place else "Queued."
    if status.state == "running" and not status.step:
        return "Running: reading pictures and building the model."
    progress = f"step {status.step} of {status.steps}"
    if status.state == "running":
        return f"Running: {progress}, {clock(status.seconds_left or 0)} left."
    if status.state == "failed":
        return f"Failed at {progress}: {status.reason}"
    return f"{status.state.capitalize()}: {progress}."
