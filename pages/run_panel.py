"""The active run, live: state, curves, result, log; stop, resume, rename, delete, download, and where to go next."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from metalora.plots import training_curves
from metalora.runs.run_folder import MAX_NAME
from metalora.runs.run_log import NO_EVENTS, read_events, read_log
from metalora.runs.status import RunStatus
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.runs import result_line, result_table, run_result

from .components import Message, Meter, caption, served, show_errors
from .context import PRIVATE, QUIET, Context
from .plot import Plot
from .shell import NO_RUN, describe_status, menu

WAITING = "The first step comes after reading the images and building the model."
EMPTY = training_curves(NO_EVENTS, "original")
BUTTONS = ("stop", "resume", "delete", "download")
NEXT = {"look": "See its adapters", "map": "See its embedding", "compare": "Compare it"}  # tab → what leads there
ASK = "(token, run) => [token, run, confirm('Delete this run with its adapter? It cannot be brought back.')]"
# The sidebar's words; a failure in the colour of errors.
COPY = "(said) => String(said).startsWith('Failed') ? ['', said] : [said, '']"
# State of the run → why some buttons are disabled.
WHY = {
    "": "These buttons work once there is a run.",
    "new": "This run was never started. Start it, or delete it.",
    "queued": "Resume, delete and download are possible once the run has ended or is stopped.",
    "running": "Resume, delete and download are possible once the run has ended or is stopped.",
    "stopping": "The current step is finished first.",
    "stopped": "Not running, so it cannot be stopped. The adapter trained so far is kept.",
    "failed": "Not running, so it cannot be stopped. Resume continues from the last checkpoint.",
    "finished": "Finished, so it can be neither stopped nor resumed.",
}
_SET_LOG = """
const log = element.querySelector('pre');
const show = () => {
  log.textContent = props.value || 'Nothing yet.';
  log.scrollTop = log.scrollHeight;
};
show();
watch('value', show);
"""


class Log(gr.HTML):
    """Output of a worker, scrolled to its newest line."""

    def __init__(self, label: str, **settings: Any):
        super().__init__(
            value="",
            html_template=f'<pre class="log" tabindex="0" role="log" aria-label="{label}"></pre>',
            js_on_load=_SET_LOG,
            apply_default_css=False,
            **settings,
        )


def run_panel(context: Context) -> None:
    """Lay out what is seen of the active run, and wire its events."""
    with gr.Column(elem_classes="run-state"):
        status, failure = Message(NO_RUN, kind="status"), Message(kind="error")
        meter, reason = Meter("Steps that are done"), Message(WHY[""])
    with gr.Row(elem_classes="run-buttons"):
        small = {"size": "sm", "interactive": False, "min_width": 80}
        buttons = {name: gr.Button(name.capitalize(), **small) for name in BUTTONS[:3]}
        buttons["download"] = gr.DownloadButton("Download adapter", **small)
    curves = Plot(EMPTY, label="Accuracy and loss by step", height=440)
    caption(
        "Training batch: the linear head's accuracy, which is discarded afterwards. Validation: k-NN (K = 5) on "
        "held-out images of seen tasks; the dotted line is the original network's."
    )
    result = Message(kind="status", elem_classes="result")
    with gr.Row(visible=False) as next_steps:
        leads = {tab: gr.Button(label, size="sm", min_width=120) for tab, label in NEXT.items()}
    with gr.Accordion("All accuracies", open=False, visible=False) as details:
        table = gr.Dataframe(show_label=False, interactive=False)
    name = gr.Textbox(
        label="Name", placeholder="A name of your own for this run", max_length=MAX_NAME, interactive=True
    )
    gr.Markdown("Log", elem_classes="log-title")
    log = Log("Log")
    outputs = [meter, reason, *buttons.values(), curves, result, next_steps, details, table, log]
    panel, chosen = RunPanel(context.app_state), [context.visitor, context.run]
    show: dict[str, Any] = {"fn": panel.show, "inputs": chosen, "outputs": outputs, **QUIET}
    gr.on([context.moved.change, context.load], **show)
    # One source: the tab says what the sidebar says.
    context.status.change(None, context.status, [status, failure], js=COPY, **QUIET)
    buttons["stop"].click(show_errors(panel.stop), chosen, context.status, **PRIVATE).then(**show)
    resume = buttons["resume"].click(
        show_errors(panel.resume), chosen, context.status, concurrency_limit=None, **PRIVATE
    )
    resume.then(**show)
    sure = gr.Checkbox(visible="hidden", show_label=False)
    # "multiple": pressed again before a busy server has heard of a "no", the button would do nothing.
    buttons["delete"].click(
        show_errors(panel.delete), [*chosen, sure], context.run, js=ASK, trigger_mode="multiple", **PRIVATE
    )
    context.run.change(panel.name, chosen, name, **QUIET)
    gr.on([name.submit, name.blur], show_errors(panel.rename), [*chosen, name], context.run, **PRIVATE)
    for tab, button in leads.items():
        button.click(lambda tab=tab: gr.Tabs(selected=tab), None, context.tabs, **QUIET)


@dataclass(frozen=True)
class RunPanel:
    """What the panel answers."""

    app_state: AppState

    def show(self, token: str | None, run: str | None) -> list[Any]:
        """Show everything of a run but its state in words; it may be deleted meanwhile, on another page as well."""
        try:
            status = self.app_state.backend.status(token, run) if token and run else None
            return [*_state(status), *self._contents(token, run, status)]
        except InputError:  # which the sidebar says
            deletable = self._exists(token, run)  # but damaged
            buttons = [gr.update(interactive=name == "delete" and deletable) for name in BUTTONS]
            return ["", "", *buttons, EMPTY, *_result(None), ""]

    def stop(self, token: str, run: str) -> str:
        """Ask the run to stop."""
        return describe_status(self.app_state.backend.stop(token, run))

    def resume(self, token: str, run: str) -> Iterator[str]:
        """Resume the run, or start one that never was; where it lives in its event, this is the event."""
        for status in self.app_state.backend.start(token, run):
            yield describe_status(status)

    def delete(self, token: str, run: str, sure: bool) -> Any:
        """Delete the run, unless its visitor said no."""
        if not sure:
            return gr.skip()
        self.app_state.workspace.delete_run(token, run)
        return menu(self.app_state, token, None)

    def name(self, token: str | None, run: str | None) -> str:
        """Return what the run is called."""
        return self.app_state.run_name(token, run) if token and run and self._exists(token, run) else ""

    def rename(self, token: str, run: str | None, name: str) -> Any:
        """Name the run, and say so in the menu; leaving the field as it was does nothing."""
        if not run or name == self.app_state.run_name(token, run):
            return gr.skip()
        self.app_state.workspace.rename_run(token, run, name)
        return menu(self.app_state, token, run)

    def _exists(self, token: str | None, run: str | None) -> bool:
        try:
            return bool(self.app_state.workspace.run_folder(token or "", run or ""))
        except InputError:
            return False

    def _contents(self, token: str | None, run: str | None, status: RunStatus | None) -> list[Any]:
        """Return download, curves, result and log."""
        if status is None or token is None or run is None:
            return [gr.update(interactive=False, value=None), EMPTY, *_result(None), ""]
        folder = self.app_state.workspace.run_folder(token, run)
        waiting = WAITING if status.state in ("queued", "running") else ""
        curves = training_curves(read_events(folder), self.app_state.config(token, run).adapter.method, waiting=waiting)
        ready = status.state in ("stopped", "finished") and self.app_state.has_adapter(token, run)
        file = served(self.app_state.zip_adapter(token, run)) if ready else None
        measured = run_result(self.app_state, token, run) if status.state == "finished" else None
        return [
            gr.update(interactive=ready, value=file),
            curves,
            *_result(measured),
            read_log(folder, 40).replace(f"{folder}/", ""),
        ]


def _result(measured: dict[str, Any] | None) -> list[Any]:
    """Return a result in a line, whether what comes next and all accuracies are shown, and these."""
    shown = gr.update(visible=measured is not None)
    if measured is None:
        return ["", shown, shown, gr.skip()]
    return [result_line(measured), shown, shown, result_table(measured)]


def _state(status: RunStatus | None) -> list[Any]:
    """Return the fraction that is done, why some buttons are disabled, and which are not."""
    if status is None:
        return ["", WHY[""], *[gr.update(interactive=False)] * 3]
    over = status.state in ("new", "stopped", "failed", "finished")
    enabled = {
        "stop": status.state in ("queued", "running"),
        "resume": over and status.state != "finished",
        "delete": over,
    }
    labels = {"resume": "Start this run" if status.state == "new" else "Resume"}
    fraction = "" if status.fraction is None else status.fraction
    buttons = [gr.update(interactive=enabled[name], value=labels.get(name, name.capitalize())) for name in BUTTONS[:3]]
    return [fraction, WHY.get(status.state, ""), *buttons]
