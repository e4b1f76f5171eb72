"""The active run, live: state, curves, log; stop, resume, delete, download."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from metalora.plots import training_curves
from metalora.runs.run_log import NO_EVENTS, read_events, read_log
from metalora.runs.status import RunStatus
from metalora.util.errors import InputError
from metalora.views.app_state import AppState

from .components import Message, Meter, caption, served, show_errors
from .context import PRIVATE, QUIET, Context
from .plot import Plot
from .shell import describe_status, menu

EMPTY = training_curves(NO_EVENTS, "original")
NO_RUN = "No run yet: choose a suite and press Start."
BUTTONS = ("stop", "resume", "delete", "download")
ASK = "(token, run) => [token, run, confirm('Delete this run with its adapter? It cannot be brought back.')]"
# State of the run → why some buttons are disabled.
WHY = {
    "": "Stop, resume, delete and download wait for a run.",
    "queued": "Resume, delete and download wait until the run is over.",
    "running": "Resume, delete and download wait until the run is over.",
    "stopping": "The current step is being finished.",
    "stopped": "A stopped run keeps what is trained; stop has nothing to do.",
    "failed": "Stop has nothing to do; the reason is shown above.",
    "finished": "Stop and resume have nothing to do.",
}


def run_panel(context: Context) -> None:
    """Lay out what is seen of the active run, and wire its events."""
    status = Message(NO_RUN, kind="status")
    meter, reason = Meter("Steps that are done"), Message(WHY[""])
    with gr.Row():
        small = {"size": "sm", "interactive": False, "min_width": 80}
        buttons = {name: gr.Button(name.capitalize(), **small) for name in BUTTONS[:3]}
        buttons["download"] = gr.DownloadButton("Download adapter", **small)
    curves = Plot(EMPTY, label="Accuracy and loss by step", height=440)
    caption(
        "Training accuracy is of the linear head (discarded afterwards) on the batch of the step; validation is k-NN "
        "(K = 5) on held-out images of seen tasks; the dotted level is the original backbone's."
    )
    result = gr.Dataframe(label="Result: k-NN accuracy", interactive=False, visible=False)
    log = gr.Textbox(label="Log", lines=6, max_lines=6, interactive=False, autoscroll=True)
    outputs = [status, meter, reason, *buttons.values(), curves, result, log]
    panel, chosen = RunPanel(context.app_state), [context.visitor, context.run]
    gr.on([context.moved.change, context.load], panel.show, chosen, outputs, **QUIET)
    buttons["stop"].click(show_errors(panel.stop), chosen, status, **PRIVATE)
    buttons["resume"].click(show_errors(panel.resume), chosen, status, concurrency_limit=None, **PRIVATE)
    sure = gr.Checkbox(visible="hidden", show_label=False)
    # "multiple": pressed again before a busy server has heard of a "no", the button would do nothing.
    buttons["delete"].click(
        show_errors(panel.delete), [*chosen, sure], context.run, js=ASK, trigger_mode="multiple", **PRIVATE
    )


@dataclass(frozen=True)
class RunPanel:
    """What the panel answers."""

    app_state: AppState

    def show(self, token: str | None, run: str | None) -> list[Any]:
        """Show everything of a run; it may be deleted meanwhile, here or on another page of its visitor."""
        try:
            status = self.app_state.backend.status(token, run) if token and run else None
            return [*_state(status), *self._contents(token, run, status)]
        except InputError as error:
            deletable = self._exists(token, run)  # but damaged
            buttons = [gr.update(interactive=name == "delete" and deletable) for name in BUTTONS]
            return [str(error), "", "", *buttons, EMPTY, gr.update(visible=False), ""]

    def stop(self, token: str, run: str) -> str:
        """Ask the run to stop."""
        return describe_status(self.app_state.backend.stop(token, run))

    def resume(self, token: str, run: str) -> Iterator[str]:
        """Resume the run; where it lives in its event, this is the event."""
        for status in self.app_state.backend.start(token, run):
            yield describe_status(status)

    def delete(self, token: str, run: str, sure: bool) -> Any:
        """Delete the run, unless its visitor said no."""
        if not sure:
            return gr.skip()
        self.app_state.workspace.delete_run(token, run)
        return menu(self.app_state, token, None)

    def _exists(self, token: str | None, run: str | None) -> bool:
        try:
            return bool(self.app_state.workspace.run_folder(token or "", run or ""))
        except InputError:
            return False

    def _contents(self, token: str | None, run: str | None, status: RunStatus | None) -> list[Any]:
        """Return download, curves, result and log."""
        if status is None or token is None or run is None:
            return [gr.update(interactive=False, value=None), EMPTY, gr.update(visible=False), ""]
        folder = self.app_state.workspace.run_folder(token, run)
        curves = training_curves(read_events(folder), self.app_state.config(token, run).adapter.method)
        ready = status.state in ("stopped", "finished") and self.app_state.has_adapter(token, run)
        file = served(self.app_state.zip_adapter(token, run)) if ready else None
        table = self.app_state.result_table(token, run) if status.state == "finished" else None
        result = gr.update(value=table, visible=table is not None)
        return [gr.update(interactive=ready, value=file), curves, result, read_log(folder, 12)]


def _state(status: RunStatus | None) -> list[Any]:
    """Return the run's state in words, the fraction that is done, why some buttons are disabled, and which are not."""
    if status is None:
        return [NO_RUN, "", WHY[""], *[gr.update(interactive=False)] * 3]
    over = status.state in ("stopped", "failed", "finished")
    enabled = {
        "stop": status.state in ("queued", "running"),
        "resume": over and status.state != "finished",
        "delete": over,
    }
    fraction = "" if status.fraction is None else status.fraction
    buttons = [gr.update(interactive=enabled[name]) for name in BUTTONS[:3]]
    return [describe_status(status), fraction, WHY.get(status.state, ""), *buttons]
