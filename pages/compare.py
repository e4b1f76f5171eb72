"""Compare: what results say, in one sentence, a short table and a figure; folded away, all numbers and own rows."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from metalora.cli.as_code import as_compare_command, as_study_command
from metalora.experiments.paper_table import PAPER_CAPTION, paper_table
from metalora.experiments.results import PRIMARY
from metalora.experiments.table_writers import to_html
from metalora.models.bundled_networks import BUNDLED
from metalora.util.errors import InputError
from metalora.views.compare import GALLERIES, Overview, Source, bundled_source
from metalora.views.compare_questions import HEADLINE, MINE, QUESTIONS, menu, question_of
from metalora.views.own_results import OWN, RUNS, TICKED, find_own, own_menu, own_source, runs_overview

from .compare_run import ComparisonForm, own_rows
from .components import Message, caption, remember, served
from .context import QUIET, Context
from .plot import Plot

DOWNLOADS = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "json": "JSON"}
SORT = Path(__file__).parent / "results_table.js"
# While a view is computed the earlier one is dimmed and says so, see assets/style.css.
COMPUTING = "(...values) => { document.querySelector('#compare-view')?.classList.add('computing'); return values; }"
COMPUTED = "() => { document.querySelector('#compare-view')?.classList.remove('computing'); }"
INSTEAD = " The main study is shown instead."


def build(context: Context) -> dict[str, Any]:
    """Lay out the tab and wire its events; return the fields that a link restores, by name."""
    view = _choices()
    parts: dict[str, Any] = {"refused": Message(kind="error"), "error": Message(kind="error")}
    with gr.Column(elem_id="compare-view"):
        parts["sentence"] = Message(kind="status", elem_classes="finding")
        parts["remarks"] = Message()
        with gr.Row():
            with gr.Column(scale=13, min_width=320):
                parts["short"] = gr.HTML(label="Results in short", js_on_load=SORT.read_text(encoding="utf-8"))
            with gr.Column(scale=7, min_width=320) as parts["beside"]:
                parts["gains"] = Plot(label="Gains with their 95 % intervals", height=320, follows=True)
    with gr.Accordion("All numbers: every column, accuracy against budget, every task", open=False):
        view |= _place()
        parts |= _numbers()
    with gr.Accordion("How it was measured", open=False):
        parts["measured"] = gr.Markdown(elem_classes="caption")
        parts["command"] = gr.Code(
            language="shell", label="The command that makes these numbers", interactive=False, wrap_lines=True, lines=1
        )
    with gr.Accordion("Run rows of your own", open=False) as panel:
        form, ended = own_rows(context)
    with gr.Accordion("The paper's Table I, for reference", open=False):
        gr.HTML(to_html(paper_table(), caption=PAPER_CAPTION), elem_classes="paper")
    _wire(CompareTab(context, view, form, parts), panel, ended)
    return view


def _choices() -> dict[str, Any]:
    """Lay out the fields that choose results and rows, by name."""
    questions = [question.text for question in QUESTIONS] + [MINE]
    with gr.Row(elem_classes="slim"):
        return {
            "question": gr.Dropdown(questions, value=questions[0], label="Question", min_width=200, scale=2),
            # Custom values: results of a link, or of the visitor, are not in the menu that the page starts with.
            "results": gr.Dropdown(
                menu(QUESTIONS[0]), value=HEADLINE, label="Results", min_width=280, scale=5, allow_custom_value=True
            ),
            "backbone": gr.Radio(list(BUNDLED), value="resnet20", label="Backbone", min_width=200, visible=False),
            "rows": gr.Textbox(label="Filter rows", placeholder="such as @8, or LoRA", min_width=160, scale=2),
        }


def _place() -> dict[str, Any]:
    """Lay out the fields that choose which numbers are shown, by name."""
    with gr.Row(elem_classes="slim"):
        return {
            "gallery": gr.Radio(
                list(GALLERIES), value=PRIMARY, label="Gallery", info="All tasks, or each by itself.", min_width=200
            ),
            "split": gr.Radio(["seen", "unseen"], value="unseen", label="Tasks of the figures", min_width=180),
            "k": gr.Radio([5, 10], value=5, label="K of the figures", min_width=140),
        }


def _numbers() -> dict[str, Any]:
    """Lay out the whole table, its downloads and the figures, by name."""
    parts: dict[str, Any] = {"table": gr.HTML(label="Every column")}
    with gr.Row():
        for kind, name in DOWNLOADS.items():
            parts[kind] = gr.DownloadButton(f"Download {name}", size="sm", min_width=120)
    parts["budget"] = Plot(label="Accuracy against trained parameters", height=395, follows=True)
    parts["legend"] = gr.HTML(label="Markers of the figure")
    caption(
        "Up and to the left is better: more accuracy for fewer trained parameters (static and generator together). "
        "Nothing beats a point on the dashed Pareto line at its budget; bars: standard deviation over seeds."
    )
    parts["left_out"] = Message()
    # Not hidden where there is none: Gradio loses a change of visibility that arrives while an accordion opens.
    parts["tasks"] = Plot(label="Accuracy of every task", height=0, follows=True, elem_classes="wide")
    caption("A row per method, a column per task; brighter is more accurate. Means over seeds, in per cent.")
    return parts


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

    def list_results(self, token: str, question: str) -> list[Any]:
        """Return the menu of results of a question, the first one chosen."""
        choices = self._menu(token, question)
        return [gr.update(choices=choices, value=choices[0][1]), ""]

    def update_menu(self, token: str, question: str) -> Any:
        """Return the menu of the visitor's own results as it is now, where that is shown."""
        return gr.update(choices=self._menu(token, question)) if question == MINE else gr.skip()

    def follow_link(self, link: dict[str, Any]) -> list[Any]:
        """Return what the fields hold in the link that the page came with."""
        named = link.get("compare", {})
        return [named.get(name, gr.skip()) for name in self.view]

    def settle(self, token: str, link: dict[str, Any], name: str, backbone: str, *own: Any) -> list[Any]:
        """Return what follows from the choice of results: question, menus, gallery, whether the form of rows is open.

        Instead of results that are not there the headline's are shown. What a link says of these results counts more.
        """
        named = link.get("compare", {})
        named = named if named.get("results") == name else {}
        if name == RUNS:
            menu_of_runs = gr.update(choices=self._menu(token, MINE))
            return [MINE, menu_of_runs, gr.update(visible=False), gr.skip(), gr.skip(), gr.skip()]
        try:
            source = self._source(token, name, own)
        except InputError as problem:
            if name == TICKED:  # the form says what is wrong
                return [MINE, gr.update(choices=self._menu(token, MINE)), *[gr.skip()] * 2, gr.update(open=True), ""]
            return [gr.skip(), gr.update(value=HEADLINE), *[gr.skip()] * 3, f"{problem}{INSTEAD}"]
        question = MINE if source.name is None else question_of(name).text
        names = list(source.comparison.config.backbones)
        chosen = _backbone(source, named.get("backbone", backbone))
        return [
            question,
            gr.update(choices=self._menu(token, question)),
            gr.update(choices=names, value=chosen, visible=len(names) > 1),
            named.get("gallery", source.comparison.primary),
            gr.update(open=True) if name == TICKED else gr.skip(),
            gr.skip(),
        ]

    def show(self, token: str, name: str, backbone: str, words: str, *own: Any) -> list[Any]:
        """Show results at first sight; after an error the earlier ones go, lest they pass for these."""
        try:
            seen = self._overview(token, name, backbone, words or "", own)
        except InputError as problem:
            return ["", "", "", gr.update(visible="hidden"), gr.skip(), "", str(problem)]
        figure, beside = (gr.skip(), "hidden") if seen.figure is None else (seen.figure, True)
        return [
            seen.sentence,
            seen.remarks,
            seen.table,
            gr.update(visible=beside),
            figure,
            seen.measured,
            "",
        ]

    def show_numbers(
        self, token: str, name: str, backbone: str, words: str, gallery: str, split: str, k: int, *own: Any
    ) -> list[Any]:
        """Show all numbers of results: command, table, downloads, figures; nothing where there are none."""
        nothing = ["", "", *[None] * len(DOWNLOADS), None, "", "", None]
        if name == RUNS:
            return nothing
        try:
            source = self._source(token, name, own)
            seen = source.numbers(_backbone(source, backbone), split, gallery, k, words or "")
        except InputError as problem:
            return [*nothing[:-2], str(problem), None]
        files = source.write(seen.table, self.context.app_state.workspace.tables_folder(_folder(name)))
        shown = [served(files[kind]) for kind in DOWNLOADS]
        return [_command(source), seen.html, *shown, seen.budget, seen.legend, seen.left_out, seen.tasks]

    def _overview(self, token: str, name: str, backbone: str, words: str, own: tuple[Any, ...]) -> Overview:
        if name == RUNS:
            return runs_overview(self.context.app_state, token, words)
        source = self._source(token, name, own)
        return source.overview(_backbone(source, backbone), words)

    def _source(self, token: str, name: str, own: tuple[Any, ...]) -> Source:
        """Return the results of that name.

        Raises:
            InputError: there are none, or the rows that are ticked cannot be run.
        """
        if name == TICKED:
            return own_source(*self.form.config_and_folder(token, *own))
        if isinstance(name, str) and name.startswith(OWN):
            return own_source(*find_own(self.context.app_state, token, name))
        return bundled_source(name)

    def _menu(self, token: str, question: str) -> list[tuple[str, str]]:
        if question == MINE:
            return own_menu(self.context.app_state, token)
        return next((menu(other) for other in QUESTIONS if other.text == question), menu(QUESTIONS[0]))


def _backbone(source: Source, chosen: str) -> str:
    """Return the chosen backbone, or the first one where these results do not have it."""
    names = source.comparison.config.backbones
    return chosen if chosen in names else names[0]


def _folder(name: str) -> str:
    """Return the name of the folder of a result's tables."""
    return re.sub(r"\W", "-", name)


def _command(source: Source) -> str:
    config = source.comparison.config
    is_study = source.name is not None and "/" in source.name
    return as_study_command(source.name, config) if is_study else as_compare_command(config)


def _wire(tab: CompareTab, panel: gr.Accordion, ended: gr.Number) -> None:
    context, view, parts, own = tab.context, tab.view, tab.parts, list(tab.form.fields.values())
    visitor, results, kept = context.visitor, view["results"], context.forms["compare"]
    seen = ["sentence", "remarks", "short", "beside", "gains", "measured", "error"]
    numbers = ["command", "table", *DOWNLOADS, "budget", "legend", "left_out", "tasks"]
    chosen = [visitor, results, view["backbone"], view["rows"]]
    event = {"trigger_mode": "always_last", **QUIET}
    show = {"fn": tab.show, "inputs": [*chosen, *own], "outputs": [parts[name] for name in seen], **event}
    place = [view[name] for name in ("gallery", "split", "k")]
    more = {
        "fn": tab.show_numbers,
        "inputs": [*chosen, *place, *own],
        "outputs": [parts[name] for name in numbers],
        **event,
    }

    view["question"].input(tab.list_results, [visitor, view["question"]], [results, parts["refused"]], **QUIET)
    results.input(lambda: "", None, parts["refused"], **QUIET)
    settled = [view["question"], results, view["backbone"], view["gallery"], panel, parts["refused"]]
    results.change(tab.settle, [visitor, context.link, results, view["backbone"], *own], settled, **QUIET)
    shown = gr.on(
        [results.change, view["backbone"].change, view["rows"].change, ended.change, *(field.change for field in own)],
        js=COMPUTING,
        **show,
    )
    shown.then(None, js=COMPUTED).then(**more)
    gr.on([field.change for field in place], **more)
    remember(context, kept, own).then(**show).then(**more)
    context.load(tab.follow_link, context.link, list(view.values()), **QUIET)
    gr.on([field.change for field in own], lambda *values: list(values), own, kept, **event)
    # Whoever chooses rows of their own wants to see them; what the start of the page restores is no choice.
    gr.on([field.input for field in own], lambda: TICKED, None, results, **QUIET)
    menu_now = [visitor, view["question"]]
    gr.on([ended.change, context.adapters.change], tab.update_menu, menu_now, results, **QUIET)
