"""The active run, live: state, curves, log; stop, resume, delete, download."""

from functools import partial
from typing import Any

import gradio as gr

from metalora.plots import training_curves
from metalora.runs.run_log import NO_EVENTS, read_events, read_log
from metalora.runs.status import RunStatus
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from pages.context import PRIVATE, QUIET, Context
from pages.plot import Plot
from pages.shell import menu, say
from pages.words import Message, Meter, show_errors

EMPTY = training_curves(NO_EVENTS, "original")
BUTTONS = ("stop", "resume", "delete", "download")
ASK = "(token, run) => [token, run, confirm('Delete this run with its adapter? It cannot be brought back.')]"
WHY = {
    "": "Stop, resume, delete and download wait for a run.",
    "queued": "Resume, delete and download wait until the run is over.",
    "running": "Resume, delete and download wait until the run is over.",
    "stopping": "The step at hand is being finished.",
    "stopped": "A stopped run keeps what is trained; stop has nothing to do.",
    "failed": "Stop has nothing to do; the reason stands above.",
    "finished": "Stop and resume have nothing to do.",
}


def watch(context: Context) -> None:
    """Lay out what is seen of the active run, and wire its events."""
    app_state = context.app_state
    status = Message("No run yet: choose a suite and press Start.", kind="status")
    meter, reason = Meter("Steps that are done"), Message(WHY[""])
    with gr.Row():
        small = {"size": "sm", "interactive": False, "min_width": 80}
        buttons = {name: gr.Button(name.capitalize(), **small) for name in BUTTONS[:3]}
        buttons["download"] = gr.DownloadButton("Download adapter", **small)
    curves = Plot(EMPTY, label="Accuracy and loss by step", height=440)
    gr.Markdown(
        "Training accuracy is of the linear head (discarded afterwards) on the batch at hand; validation is k-NN "
        "(K = 5) on held-out pictures of seen tasks; the dotted level is the original backbone's.",
        elem_classes="caption",
    )
    result = gr.Dataframe(label="Result: k-NN accuracy", interactive=False, visible=False)
    log = gr.Textbox(label="Log", lines=6, max_lines=6, interactive=False, autoscroll=True)
    outputs = [status, meter, reason, *buttons.values(), curves, result, log]

    look = partial(_look, app_state)
    chosen = [context.visitor, context.run]
    gr.on([context.moved.change, context.load], look, chosen, outputs, **QUIET)
    buttons["stop"].click(
        show_errors(lambda token, run: say(app_state.backend.stop(token, run))), chosen, status, **PRIVATE
    )

    @show_errors
    def resume(token: str, run: str):
        for now in app_state.backend.start(token, run):
            yield say(now)

    buttons["resume"].click(resume, chosen, status, concurrency_limit=None, **PRIVATE)

    @show_errors
    def delete(token: str, run: str, sure: bool) -> Any:
        if not sure:
            return gr.skip()
        app_state.workspace.delete_run(token, run)
        return menu(app_state, token, None)

    sure = gr.Checkbox(visible="hidden", show_label=False)
    # "multiple": pressed again before a server that is busy has heard of a "no", it would do nothing.
    buttons["delete"].click(delete, [*chosen, sure], context.run, js=ASK, trigger_mode="multiple", **PRIVATE)


def _look(app_state: AppState, token: str | None, run: str | None) -> list[Any]:
    """Everything that is seen of a run, which may be deleted meanwhile, here or on another page of its visitor."""
    try:
        now = app_state.backend.status(token, run) if token and run else None
        return [*_states(now), *_contents(app_state, token, run, now)]
    except InputError as error:
        deletable = _is_there(app_state, token, run)  # but damaged
        resting = [gr.update(interactive=name == "delete" and deletable) for name in BUTTONS]
        return [str(error), "", "", *resting, EMPTY, gr.update(visible=False), ""]


def _is_there(app_state: AppState, token: str | None, run: str | None) -> bool:
    try:
        return bool(app_state.workspace.run_folder(token or "", run or ""))
    except InputError:
        return False


def _states(now: RunStatus | None) -> list[Any]:
    """The sentence, the share that is done, why some buttons rest, and which do not."""
    if now is None:
        return ["No run yet: choose a suite and press Start.", "", WHY[""], *[gr.update(interactive=False)] * 3]
    over = now.state in ("stopped", "failed", "finished")
    able = {"stop": now.state in ("queued", "running"), "resume": now.state in ("stopped", "failed"), "delete": over}
    share = "" if now.share is None else now.share
    return [say(now), share, WHY.get(now.state, ""), *(gr.update(interactive=able[name]) for name in BUTTONS[:3])]


def _contents(app_state: AppState, token: str | None, run: str | None, now: RunStatus | None) -> list[Any]:
    """Download, curves, result and log."""
    if now is None or token is None or run is None:
        return [gr.update(interactive=False, value=None), EMPTY, gr.update(visible=False), ""]
    folder = app_state.workspace.run_folder(token, run)
    curves = training_curves(read_events(folder), app_state.config(token, run).adapter.method)
    ready = now.state in ("stopped", "finished") and app_state.trained(token, run)
    download = gr.update(interactive=ready, value=str(app_state.packed(token, run)) if ready else None)
    table = app_state.result(token, run) if now.state == "finished" else None
    shown = gr.update(value=table, visible=table is not None)
    return [download, curves, shown, read_log(folder, 12)]
