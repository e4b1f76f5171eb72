"""Train: what is trained on what, its budget, the run while it trains, and the runs so far."""

import json
from typing import Any

import gradio as gr

from metalora.adapters.methods import METHODS
from metalora.runs.presets import PRESETS
from metalora.views.configure import summarise_adapter

from .components import Message, show_errors
from .configure import VALID, TrainForm, diagram, texts
from .context import PRIVATE, QUIET, Context
from .run_panel import run_panel
from .runs_table import runs_table
from .train_fields import (
    NEW_RUN,
    OF_SIZE,
    adapter_fields,
    data_field,
    data_fields,
    method_field,
    preset_field,
    rank_and_backbone,
    training_fields,
)
from .uploads import upload_panel
from .uploads import wire as wire_uploads
from .weights import weights_panel

LANGUAGES = {"Command line": "shell", "Python": "python", "JSON": "json"}
# A change of the form is described in its turn; of several at once the last one counts.
DESCRIBE = {"concurrency_id": "describe", "trigger_mode": "always_last", "show_progress": "hidden", **PRIVATE}


def build(context: Context) -> dict[str, Any]:
    """Lay out the tab and wire its events; return the fields that a link restores."""
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes="train"):
        with gr.Column(scale=2, min_width=320):
            fields: dict[str, Any] = {"data": data_field()}
            uploads = upload_panel(context)
            parts["data"] = Message(kind="error")
            fields["method"] = method_field()
            with gr.Row():
                fields |= rank_and_backbone()
            with gr.Row(elem_classes="backbone-note"):
                parts["backbone"] = Message(kind="error")
            parts["fetched"] = weights_panel(fields["backbone"])
            fields["preset"] = preset_field()
            summary = summarise_adapter(NEW_RUN.backbone, NEW_RUN.adapter)
            parts["form"] = Message(kind="error")
            parts["start"] = gr.Button("Start", variant="primary")
            parts["why"], parts["cost"] = Message(), Message(kind="status", elem_classes="cost")
            with gr.Accordion("Advanced", open=False):
                for title, layout in (
                    ("Adapter", adapter_fields),
                    ("Training", training_fields),
                    ("Data", data_fields),
                ):
                    gr.Markdown(f"#### {title}")
                    fields |= layout()
            with gr.Accordion("As a command, Python or JSON", open=False), gr.Column(elem_classes=VALID) as written:
                code = _code()
        with gr.Column(scale=3, min_width=320), gr.Tabs(selected="plan") as views:
            with gr.Tab("Adapter and budget", id="plan"), gr.Column(elem_classes=VALID) as plan:
                shown = _summary(summary)
            with gr.Tab("Run", id="run"):
                run_panel(context)
    runs_table(context)
    parts |= {"summaries": [plan, written], "shown": shown, "code": code}
    form = TrainForm(context, uploads.chosen, fields)
    _wire(form, parts)
    _wire_sizes(fields)
    wire_uploads(uploads, fields["data"], fields["hold_out"])
    parts["start"].click(show_errors(form.start), form.inputs, context.run, concurrency_limit=None, **PRIVATE)
    context.run.change(_view, context.run, views, **QUIET)
    return {**{name: fields[name] for name in ("data", "method", "rank", "backbone", "preset")}, "run": context.run}


def _wire(form: TrainForm, parts: dict[str, Any]) -> None:
    """Keep what is said about the form up to date, and fill it from what the browser kept."""
    context, fields, kept = form.context, form.fields, form.context.forms["train"]
    problems = [parts[name] for name in ("data", "backbone", "form")]
    event = {
        "fn": form.describe,
        "inputs": [parts["shown"]["layer"], *form.inputs],
        "outputs": [
            *(*problems, parts["start"], parts["why"]),
            *(*parts["summaries"], *parts["shown"].values(), *parts["code"]),
        ],
        **DESCRIBE,
    }
    changes = [field.change for field in (form.upload, *fields.values())]
    gr.on([*changes, parts["shown"]["layer"].input], **event)
    parts["fetched"].then(**event)
    # In the browser: a page that is left before the server has answered keeps what was chosen.
    keep = f"(...values) => Object.fromEntries({json.dumps(list(fields))}.map((name, i) => [name, values[i]]))"
    gr.on([field.change for field in fields.values()], None, list(fields.values()), kept, js=keep, **QUIET)
    # A page without a kept form shows what it was built with: it is described all the same, to say what is missing.
    sources = [kept, context.link]
    restored = context.load(lambda *values: _restore(fields, *values), sources, list(fields.values()), **QUIET)
    restored.then(**event).then(lambda: 1, None, context.settled, **QUIET)
    gr.on(
        [context.tab.change, *changes],
        form.estimate,
        [context.tab, *form.inputs],
        parts["cost"],
        **{**DESCRIBE, "concurrency_id": "estimate"},
    )
    applies = [fields["method"], fields["kind"]]
    gr.on([field.change for field in applies], form.show_fields, applies, form.conditional, **QUIET)
    gr.on([context.load, context.adapters.change], form.list_starts, context.visitor, fields["start"], **QUIET)
    fill = {"inputs": [context.visitor, fields["start"]], "outputs": list(fields.values())}
    fields["start"].input(show_errors(form.fill), **fill, show_progress="hidden", **PRIVATE)


def _restore(fields: dict[str, Any], kept: Any, link: dict[str, Any]) -> list[Any]:
    """Return the fields as a link says, else as the browser kept them, as far as they still offer it.

    A size sets what it sets today; a link with another rank is of no size.
    """
    values = dict(kept) if isinstance(kept, dict) else {}
    if "train" in link:
        values = {name: field.value for name, field in fields.items()} | link["train"]
    for name, field in fields.items():
        offered = [value for _, value in getattr(field, "choices", None) or []]
        one_of = isinstance(field, gr.Radio) or name == "method"
        if one_of and values.get(name) not in [*offered, *([None] if name == "preset" else [])]:
            values.pop(name, None)
    if values.get("preset") and "method" in values:
        sizes = dict(zip(OF_SIZE, _sizes(values["preset"], values["method"]), strict=True))
        another = link.get("train", {}).get("rank", sizes["rank"]) != sizes["rank"]
        values |= {"preset": None} if another else sizes
    return [values.get(name, gr.skip()) for name in fields]


def _sizes(preset: str, method: str) -> list[Any]:
    """Return the values of `OF_SIZE` in a preset for a method."""
    adapter, training = PRESETS[preset].adapter(method), PRESETS[preset].training(method)
    return [getattr(adapter if name in ("rank", "hidden") else training, name) for name in OF_SIZE]


def _wire_sizes(fields: dict[str, Any]) -> None:
    """Let a preset set its fields, and a value set by hand clear the preset.

    In the browser, at once: what is typed next is not overwritten, and a page that is left half way keeps no mixture.
    """
    methods = [name for name, entry in METHODS.items() if entry.format is not None]
    table = {preset: {method: _sizes(preset, method) for method in methods} for preset in PRESETS}
    sized = [fields[name] for name in OF_SIZE]
    choose = f"(preset, method, ...now) => ({json.dumps(table)}[preset] || {{}})[method] || now"
    chosen = [fields["preset"], fields["method"]]
    # Of a person's choice: what a link or the browser restores brings its sizes, and typing clears the size.
    gr.on([field.input for field in chosen], None, [*chosen, *sized], sized, js=choose, **QUIET)
    for field in sized:
        field.input(None, None, fields["preset"], js="() => null", **QUIET)


def _view(run: str | None) -> Any:
    """Show the run where there is one, else the adapter and its budget."""
    return gr.Tabs(selected="run" if run else "plan")


def _summary(summary: Any) -> dict[str, Any]:
    """Lay out what the settings amount to, in the order of `configure._summary_values`.

    What the first screen shows is part of the page: nobody waits for an answer to see it.
    """
    names = list(summary.model.layers)
    headline, notes = Message(summary.headline, kind="status"), Message(" ".join(summary.notes))
    layer = gr.Dropdown(names, value=names[0], label="Layer drawn", interactive=True)
    drawn = gr.HTML(diagram(summary, names[0]), elem_classes="diagram", label="Tensor network of one layer's update")
    table = gr.Dataframe(
        summary.table(),
        label="Adapted layers and their parameters",
        interactive=False,
        max_height=360,
        elem_classes="budget",
        show_search="search",
        pinned_columns=1,
        column_widths=[150, 110, 45, 75, 95, 75, 85],
    )
    return {"headline": headline, "notes": notes, "layer": layer, "diagram": drawn, "table": table}


def _code() -> list[gr.Code]:
    """Lay out the settings in three languages, each on a tab of its own."""
    fields = []
    with gr.Tabs():
        for (title, language), text in zip(LANGUAGES.items(), texts(NEW_RUN), strict=True):
            with gr.Tab(title):
                wrap = language != "json"
                fields.append(
                    gr.Code(
                        text, language=language, label=title, interactive=False, wrap_lines=wrap, lines=1, max_lines=24
                    )
                )
    return fields
