"""The visitor's runs in a table: one is shown, several are compared as curves, or deleted."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from metalora.views.app_state import AppState
from metalora.views.runs import COLUMNS, GAIN, compare_curves, list_runs

from .checked_blocks import event_value
from .components import caption, show_errors
from .context import PRIVATE, QUIET, Context
from .plot import Plot
from .shell import menu

SCRIPT = Path(__file__).parent / "runs_table.js"
FRAME = (
    '<div class="runs"><div class="runs-scroll"><table><thead><tr></tr></thead><tbody></tbody></table></div>'
    '<p class="none">Runs that you train appear here.</p></div>'
)
# The ticked runs are known to the server alone.
ASK = "(token, ticked, run) => [token, ticked, run, confirm('Delete the ticked runs with their adapters?')]"


class RunsTable(gr.HTML):
    """A table of runs. Events: `choose` with "run", the one whose name is clicked; `tick` with "runs", those ticked."""

    def __init__(self, **settings: Any):
        super().__init__(
            value=None,
            html_template=FRAME,
            js_on_load=SCRIPT.read_text(encoding="utf-8"),
            apply_default_css=False,
            **settings,
        )

    def postprocess(self, value: dict[str, Any] | str | None) -> str | None:
        """Return {"columns", "rows", "active"} as JSON; rows as `list_runs` returns them."""
        return json.dumps(value) if isinstance(value, dict) else value

    def api_info(self) -> dict[str, Any]:
        """Describe the value for programs."""
        return {"type": "string", "description": "A table of runs as JSON."}


def runs_table(context: Context) -> None:
    """Lay out the table, and wire its events."""
    gr.Markdown("### Runs", elem_classes="runs-title")
    table, ticked = RunsTable(), gr.State([])
    caption(f"Click a name to show that run; tick runs to lay their validation curves over each other. {GAIN}")
    curves = Plot(label="Validation of the ticked runs", height=320, follows=True, visible=False)
    delete = gr.Button("Delete ticked runs", size="sm", visible=False, min_width=140, scale=0)
    runs, owned = Runs(context.app_state), [context.visitor, context.run]
    changes = [context.load, context.moved.change, context.adapters.change, context.run.change]
    gr.on(changes, runs.show, owned, table, **QUIET)
    table.choose(runs.choose, context.visitor, context.run, **QUIET)
    table.tick(runs.tick, context.visitor, [ticked, curves, delete], **QUIET)
    sure = gr.Checkbox(visible="hidden", show_label=False)
    gone = delete.click(
        show_errors(runs.delete),
        [context.visitor, ticked, context.run, sure],
        context.run,
        js=ASK,
        trigger_mode="multiple",
        **PRIVATE,
    )
    gone.then(runs.show, owned, table, **QUIET)


@dataclass(frozen=True)
class Runs:
    """What the table answers."""

    app_state: AppState

    def show(self, token: str | None, run: str | None) -> dict[str, Any]:
        """Return the visitor's runs."""
        return {"columns": COLUMNS, "rows": list_runs(self.app_state, token) if token else [], "active": run}

    def choose(self, token: str, event: gr.EventData) -> Any:
        """Make a run the active one."""
        return menu(self.app_state, token, event_value(event, "run", str))

    def tick(self, token: str, event: gr.EventData) -> list[Any]:
        """Return the ticked runs that are the visitor's, their validation curves, and whether they can be deleted."""
        known = self.app_state.runs(token)
        ticked = [run for run in event_value(event, "runs", list) if isinstance(run, str) and run in known]
        shown = gr.update(visible=bool(ticked))
        if not ticked:
            return [[], shown, shown]
        figure = compare_curves(self.app_state, token, ticked)  # of runs that another page may have deleted meanwhile
        return [ticked, gr.update(value=figure, visible=True), shown]

    def delete(self, token: str, ticked: list[str], run: str | None, sure: bool) -> Any:
        """Delete the ticked runs, unless their visitor said no."""
        if not sure:
            return gr.skip()
        for one in ticked:
            self.app_state.workspace.delete_run(token, one)
        return menu(self.app_state, token, run)
