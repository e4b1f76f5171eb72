"""Compare: methods with their controls in one table, accuracy against budget, every task; and what is still to run."""

from pathlib import Path
from typing import Any

import gradio as gr

from metalora.cli.as_code import as_compare_command, as_study_command
from metalora.experiments.comparison import Comparison
from metalora.experiments.paper_table import PAPER_CAPTION, paper_table
from metalora.experiments.results import PRIMARY, load_bundled, of_set_size, own_comparison, own_config, set_sizes
from metalora.experiments.table_writers import to_html
from metalora.models.backbones import BUNDLED
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.compare import heatmap, marks, results_to_show, scatter, title
from pages.compare_run import fields_to_run, run_missing
from pages.context import QUIET, Context
from pages.plot import Plot
from pages.words import Message, remember

OWN, EVERY = "own", "every"
SIZES = {"1": "single images", "all": "whole tasks"}
DOWNLOADS = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "json": "JSON"}
THEME = "() => document.body.classList.contains('dark') ? 'dark' : 'light'"


def build(context: Context) -> None:
    """Lay out the tab and wire its events."""
    view = _view()
    error = Message(kind="error")
    table = gr.HTML(label="Measured")
    with gr.Row():
        downloads = [gr.DownloadButton(f"Download {name}", size="sm", min_width=120) for name in DOWNLOADS.values()]
    command = gr.Code(
        language="shell", label="The command that makes these numbers", interactive=False, wrap_lines=True, lines=1
    )
    with gr.Accordion("Run what is missing from here", open=True):
        fields = fields_to_run()
        progress = run_missing(context, fields)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            budget = Plot(label="Accuracy against trained parameters", height=480, follows=True)
            gr.Markdown(
                "Up and to the left is better: more accuracy for fewer trained parameters (static and generator "
                "together). Nothing beats a point on the dashed Pareto line at its budget; bars: standard deviation "
                "over seeds.",
                elem_classes="caption",
            )
        with gr.Column(scale=2, min_width=320):
            gr.Markdown("### For reference only: the paper's numbers")
            gr.HTML(to_html(paper_table(), caption=PAPER_CAPTION), elem_classes="paper")
    gr.Markdown(
        "### Accuracy of every task\n\nA row per method, a column per task; brighter is more accurate. Means over "
        "seeds, in per cent.",
        elem_classes="caption",
    )
    left_out = Message()
    tasks = Plot(label="Accuracy of every task", height=560, follows=True, visible=False)
    theme = gr.Textbox("light", visible="hidden", show_label=False)
    form = context.forms["compare"]
    inputs = [context.visitor, theme, *view.values(), *fields.values()]
    outputs = [form, error, table, *downloads, command, budget, tasks, left_out]

    def show(token: str | None, theme: str, *values: Any) -> list[Any]:
        chosen = dict(zip((*view, *fields), values, strict=True))
        kept = [chosen[name] for name in fields]
        try:
            comparison, folder = _read(context.app_state, token, chosen)
            comparison = comparison if chosen["sets"] == EVERY else of_set_size(comparison, chosen["sets"])
            shown = _shown(comparison, folder, theme, chosen)
        except InputError as problem:
            return [kept, str(problem), *[gr.skip()] * (len(outputs) - 2)]
        return [kept, "", *shown]

    showing = {"fn": show, "inputs": inputs, "outputs": outputs, "trigger_mode": "always_last", **QUIET}
    triggers = [*view.values(), *fields.values(), theme, progress]
    gr.on([component.change for component in triggers], **showing)
    remember(context, form, list(fields.values())).then(**showing)
    context.load(None, None, theme, js=THEME, **QUIET)
    follows = [view["gallery"], view["backbone"]]
    view["shown"].change(_gallery_and_backbones, [view["shown"], view["backbone"]], follows, **QUIET)
    # Who chooses rows of their own wants to see them; what the start of the page restores is no choice.
    gr.on([field.input for field in fields.values()], lambda: OWN, None, view["shown"], **QUIET)


def _view() -> dict[str, Any]:
    """What is looked at, by name."""
    results = [(title(name), name) for name in results_to_show()]
    shown = gr.Dropdown(
        [*results, ("Own rows: those ticked below", OWN)],
        value=results[0][1] if results else OWN,
        label="Results",
    )
    with gr.Row():
        gallery = gr.Radio(
            ["pooled", "within"], value=PRIMARY, label="Gallery", info="All tasks, or each by itself.", min_width=200
        )
        task_split = gr.Radio(["seen", "unseen"], value="unseen", label="Tasks of the figures", min_width=180)
        k = gr.Radio([5, 10], value=5, label="K of the figures", min_width=140)
        backbone = gr.Radio(list(BUNDLED), value="resnet20", label="Backbone of the tasks", min_width=200)
        sizes = [("every", EVERY), *((SIZES.get(size, f"sets of {size}"), size) for size in set_sizes())]
        sets = gr.Radio(sizes, value=EVERY, label="Rows", info="By the images that share a core.", min_width=260)
    return {"shown": shown, "gallery": gallery, "task_split": task_split, "k": k, "backbone": backbone, "sets": sets}


def _gallery_and_backbones(shown: str, chosen: str) -> tuple[str, Any]:
    """The gallery in which results are read first, and the menu of backbones that they have."""
    results = None if shown == OWN else load_bundled(shown)
    known = list(results.config.backbones if results else BUNDLED)
    backbones = gr.update(choices=known, value=chosen if chosen in known else known[0])
    return results.primary if results else PRIMARY, backbones


def _read(app_state: AppState, token: str | None, chosen: dict[str, Any]) -> tuple[Comparison, Path]:
    """What is chosen, and where its tables may be written."""
    if chosen["shown"] != OWN:
        return load_bundled(chosen["shown"]), app_state.workspace.tables_folder(chosen["shown"].replace("/", "-"))
    folder = app_state.workspace.comparison_folder(token or "", chosen["suite"])
    config = own_config(
        chosen["backbones"], [*chosen["methods"], *chosen["controls"]], chosen["seeds"], chosen["steps"]
    )
    return own_comparison(config, folder), folder / "shown"


def _shown(comparison: Comparison, folder: Path, theme: str, chosen: dict[str, Any]) -> list[Any]:
    """Table, downloads, command, the two figures, and what is left out of the second."""
    table = comparison.table(chosen["gallery"])
    files = comparison.write(folder, table)
    place = [chosen["task_split"], chosen["gallery"], int(chosen["k"])]
    figure, left_out = heatmap(comparison, chosen["backbone"], *place, theme)
    return [
        to_html(table, caption=f"Measured: k-NN accuracy in %, {chosen['gallery']} gallery", colours=marks(comparison)),
        *(str(files[kind]) for kind in DOWNLOADS),
        as_study_command(chosen["shown"], comparison.config)
        if "/" in chosen["shown"]
        else as_compare_command(comparison.config),
        scatter(comparison, *place, theme),
        gr.update(value=figure, visible=figure is not None),
        left_out,
    ]
