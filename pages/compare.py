"""Compare: methods with their controls in one table, accuracy against budget, every task; and what is still to run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from metalora.cli.as_code import as_compare_command, as_study_command
from metalora.experiments.comparison import Comparison
from metalora.experiments.paper_table import PAPER_CAPTION, paper_table
from metalora.experiments.results import PRIMARY, load_bundled, of_set_size, own_comparison, set_sizes
from metalora.experiments.table_writers import to_html
from metalora.models.backbones import BUNDLED
from metalora.util.errors import InputError
from metalora.views.compare import heatmap, marks, results_to_show, scatter, title

from .compare_run import ComparisonForm, own_rows
from .components import Message, caption, remember, served
from .context import QUIET, Context
from .plot import Plot

OWN, EVERY = "own", "every"
SIZES = {"1": "single images", "all": "whole tasks"}
DOWNLOADS = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "json": "JSON"}
THEME = "() => document.body.classList.contains('dark') ? 'dark' : 'light'"


def build(context: Context) -> None:
    """Lay out the tab and wire its events."""
    view, parts = _view(), {"error": Message(kind="error"), "table": gr.HTML(label="Measured")}
    with gr.Row():
        for kind, name in DOWNLOADS.items():
            parts[kind] = gr.DownloadButton(f"Download {name}", size="sm", min_width=120)
    parts["command"] = gr.Code(
        language="shell", label="The command that makes these numbers", interactive=False, wrap_lines=True, lines=1
    )
    with gr.Accordion("Run what is missing from here", open=True):
        form, ended = own_rows(context)
    parts |= _figures()
    _wire(CompareTab(context, view, form, parts), ended)


@dataclass(frozen=True)
class CompareTab:
    """What the tab answers.

    Attributes:
        view: fields that choose what is shown, by name.
        form: fields that choose the visitor's own rows.
        parts: components that show it, by name.
    """

    context: Context
    view: dict[str, Any]
    form: ComparisonForm
    parts: dict[str, Any]

    def show(self, token: str | None, theme: str, *values: Any) -> dict[Any, Any]:
        """Show the chosen results, and keep the form; after an error the earlier results stay."""
        chosen, own = dict(zip(self.view, values, strict=False)), values[len(self.view) :]
        kept = {self.context.forms["compare"]: list(own)}
        try:
            comparison, folder = self._read(token, chosen["shown"], own)
            comparison = comparison if chosen["sets"] == EVERY else of_set_size(comparison, chosen["sets"])
            shown = {"error": "", **_shown(comparison, folder, theme, chosen)}
        except InputError as problem:
            shown = {"error": str(problem)}
        return kept | {self.parts[name]: value for name, value in shown.items()}

    def _read(self, token: str | None, name: str, own: tuple[Any, ...]) -> tuple[Comparison, Path]:
        """Read the results called `name`; also return where their tables are written."""
        if name != OWN:
            return load_bundled(name), self.context.app_state.workspace.tables_folder(name.replace("/", "-"))
        config, folder = self.form.config_and_folder(token, *own)
        return own_comparison(config, folder), folder / "shown"


def _view() -> dict[str, Any]:
    """Lay out the fields that choose what is shown, by name."""
    results = [(title(name), name) for name in results_to_show()]
    view: dict[str, Any] = {
        "shown": gr.Dropdown(
            [*results, ("Own rows: those ticked below", OWN)],
            value=results[0][1] if results else OWN,
            label="Results",
        )
    }
    sizes = [("every", EVERY), *((SIZES.get(size, f"sets of {size}"), size) for size in set_sizes())]
    with gr.Row():
        view["gallery"] = gr.Radio(
            ["pooled", "within"], value=PRIMARY, label="Gallery", info="All tasks, or each by itself.", min_width=200
        )
        view["task_split"] = gr.Radio(["seen", "unseen"], value="unseen", label="Tasks of the figures", min_width=180)
        view["k"] = gr.Radio([5, 10], value=5, label="K of the figures", min_width=140)
        view["backbone"] = gr.Radio(list(BUNDLED), value="resnet20", label="Backbone of the tasks", min_width=200)
        view["sets"] = gr.Radio(
            sizes, value=EVERY, label="Rows", info="By the images that share a core.", min_width=260
        )
    return view


def _figures() -> dict[str, Any]:
    """Lay out both figures and the paper's table."""
    parts: dict[str, Any] = {}
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            parts["budget"] = Plot(label="Accuracy against trained parameters", height=480, follows=True)
            caption(
                "Up and to the left is better: more accuracy for fewer trained parameters (static and generator "
                "together). Nothing beats a point on the dashed Pareto line at its budget; bars: standard deviation "
                "over seeds."
            )
        with gr.Column(scale=2, min_width=320):
            gr.Markdown("### For reference only: the paper's numbers")
            gr.HTML(to_html(paper_table(), caption=PAPER_CAPTION), elem_classes="paper")
    caption(
        "### Accuracy of every task\n\nA row per method, a column per task; brighter is more accurate. Means over "
        "seeds, in per cent."
    )
    parts["left_out"] = Message()
    parts["tasks"] = Plot(label="Accuracy of every task", height=560, follows=True, visible=False)
    return parts


def _wire(tab: CompareTab, ended: gr.Number) -> None:
    context, view, own = tab.context, tab.view, list(tab.form.fields.values())
    theme, kept = gr.Textbox("light", visible="hidden", show_label=False), context.forms["compare"]
    event = {
        "fn": tab.show,
        "inputs": [context.visitor, theme, *view.values(), *own],
        "outputs": [kept, *tab.parts.values()],
        "trigger_mode": "always_last",
        **QUIET,
    }
    gr.on([field.change for field in (*view.values(), *own, theme, ended)], **event)
    remember(context, kept, own).then(**event)
    context.load(None, None, theme, js=THEME, **QUIET)
    of_results = [view["gallery"], view["backbone"]]
    view["shown"].change(_gallery_and_backbones, [view["shown"], view["backbone"]], of_results, **QUIET)
    # Whoever chooses rows of their own wants to see them; what the start of the page restores is no choice.
    gr.on([field.input for field in own], lambda: OWN, None, view["shown"], **QUIET)


def _gallery_and_backbones(shown: str, chosen: str) -> tuple[str, Any]:
    """Return the gallery in which results are read first, and the menu of backbones that they have."""
    results = None if shown == OWN else load_bundled(shown)
    names = list(results.config.backbones if results else BUNDLED)
    backbones = gr.update(choices=names, value=chosen if chosen in names else names[0])
    return results.primary if results else PRIMARY, backbones


def _shown(comparison: Comparison, folder: Path, theme: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return table, downloads, command, the two figures, and what is left out of the second."""
    gallery, table = chosen["gallery"], comparison.table(chosen["gallery"])
    files = comparison.write(folder, table)
    place = [chosen["task_split"], gallery, int(chosen["k"])]
    tasks, left_out = heatmap(comparison, chosen["backbone"], *place, theme)
    name, config = chosen["shown"], comparison.config
    return {
        "table": to_html(table, caption=f"Measured: k-NN accuracy in %, {gallery} gallery", colours=marks(comparison)),
        **{kind: served(files[kind]) for kind in DOWNLOADS},
        "command": as_study_command(name, config) if "/" in name else as_compare_command(config),
        "budget": scatter(comparison, *place, theme),
        "tasks": gr.update(value=tasks, visible=tasks is not None),
        "left_out": left_out,
    }
