"""Configure: which layers get an update, of which format and rank, and what that costs."""

from dataclasses import replace
from typing import Any

import gradio as gr

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import METHODS
from metalora.cli.as_code import as_command, as_json, as_python
from metalora.models.backbones import BUNDLED
from metalora.plots.diagram import network
from metalora.runs.presets import PRESETS
from metalora.runs.run_config import RunConfig
from metalora.runs.visitor_limits import check_limits
from metalora.runs.workspace import RUN
from metalora.util.errors import InputError
from metalora.views.configure import KINDS, AdapterSummary, kind_of, only_kind, summarise_adapter
from pages.context import PRIVATE, QUIET, SETTING, Context
from pages.words import Message, remember, show_errors

ALL, EXPRESSION = "all layers", "by expression"
ZERO = ("nothing: a new adapter", "")
OF_ADAPTER = ("method", "rank", "extractor", "hidden", "code", "alpha", "branches", "dropout")
OWN_START = "adapter"  # what a command line calls the unpacked download of a run


def build(context: Context) -> None:
    """Lay out the tab and wire its events."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            fields = _fields()
        # What the first screen shows is part of the page: nobody waits for an answer to see it.
        first = _run_config({}, {name: field.value for name, field in fields.items()})
        planned = summarise_adapter(first.backbone, first.adapter)
        with gr.Column(scale=3, min_width=320):
            error, headline = Message(kind="error"), Message(planned.headline, kind="status")
            note, drawn = Message(" ".join(planned.notes)), next(iter(planned.model.layers))
            layer = gr.Dropdown(list(planned.model.layers), value=drawn, label="Layer drawn", interactive=True)
            diagram = gr.HTML(
                network(planned.model, drawn), elem_classes="diagram", label="Tensor network of one layer's update"
            )
            table = gr.Dataframe(
                planned.table(), label="Adapted layers and their budget", interactive=False, max_height=360
            )
            with gr.Tabs():
                shown = zip(("Command line", "Python", "JSON"), ("shell", "python", "json"), _texts(first), strict=True)
                command, python, settings = (_code(*text) for text in shown)
    form = context.forms["configure"]
    inputs = list(fields.values())
    outputs = [form, error, headline, note, layer, diagram, table, command, python, settings, context.settings]

    def describe(token: str | None, known: dict[str, Any], drawn: str | None, *values: Any) -> list[Any]:
        given = dict(zip(fields, values, strict=True))
        try:
            start = context.app_state.start(token or "", given["start"])[1] if given["start"] else None
            config = _run_config(known, given, start)
            check_limits(config)
            context.app_state.check_start(token or "", config)
            planned = summarise_adapter(config.backbone, config.adapter)
        except InputError as problem:
            return [list(values), str(problem), *[gr.skip()] * (len(outputs) - 2)]
        return [
            list(values),
            "",
            planned.headline,
            " ".join(planned.notes),
            *_drawing(planned, drawn),
            *_texts(config),
            config.to_dict(),
        ]

    describing = {
        "fn": describe,
        "inputs": [context.visitor, context.settings, layer, *inputs],
        "outputs": outputs,
        **SETTING,
    }
    gr.on([*(field.change for field in inputs if field is not fields["preset"]), layer.input], **describing)
    described = remember(context, form, inputs).then(**describing)
    described.then(lambda: 1, None, context.settled, **QUIET)
    # Train changes settings too.
    texts = [command, python, settings]
    context.settings.change(lambda known: _texts(RunConfig.from_dict(known)), context.settings, texts, **SETTING)
    sized = [fields["rank"], fields["hidden"]]
    gr.on(
        [fields["preset"].input, fields["method"].input],
        _sizes,
        [fields["preset"], fields["method"]],
        sized,
        **QUIET,
    )
    fields["preset"].input(lambda preset: preset, fields["preset"], context.size, **PRIVATE)
    for field in sized:  # a size of one's own is no preset
        field.input(lambda: None, None, fields["preset"], **QUIET)
    _starts(context, fields)
    fields["kind"].change(
        lambda kind: gr.update(visible=kind == EXPRESSION),
        fields["kind"],
        fields["expression"],
        **QUIET,
    )


def _code(title: str, language: str, text: str) -> gr.Code:
    """The settings in one language, on a tab of their own."""
    with gr.Tab(title):
        return gr.Code(text, language=language, label=title, interactive=False, wrap_lines=language != "json")


def _starts(context: Context, fields: dict[str, Any]) -> None:
    """The adapters that one can go on from; a chosen one brings its settings along."""
    app_state, start = context.app_state, fields["start"]
    filled = [name for name in fields if name not in ("start", "preset")]

    def known(token: str | None) -> Any:
        return gr.update(choices=[ZERO, *((title, name) for name, title in app_state.adapters(token).items())])

    @show_errors
    def fill(token: str, name: str) -> list[Any]:
        if not name:
            return [gr.skip()] * (len(filled) + 1)
        backbone, adapter = app_state.start(token, name)
        values = {"backbone": backbone, "named": bool(adapter.factors), **_layers(backbone, adapter)}
        values |= {n: getattr(adapter, n) for n in OF_ADAPTER}
        return [None, *(values[name] or 0 if name == "alpha" else values[name] for name in filled)]

    gr.on([context.load, context.adapters.change], known, context.visitor, start, **QUIET)
    chosen = [fields["preset"], *(fields[name] for name in filled)]
    start.input(fill, [context.visitor, start], chosen, show_progress="hidden", **PRIVATE)


def _layers(backbone: str, adapter: AdapterConfig) -> dict[str, Any]:
    """Which layers are adapted, in the words of the fields."""
    if adapter.targets is None and not adapter.exclude:
        return {"kind": ALL, "expression": ""}
    kind = kind_of(backbone, adapter)
    return {"kind": kind or EXPRESSION, "expression": "" if kind else "|".join(adapter.targets or ())}


def _fields() -> dict[str, Any]:
    """The controls, by name."""
    default = PRESETS["Default"].adapter("metalora-tr")
    methods = [(entry.title, name) for name, entry in METHODS.items() if entry.format is not None]
    found = {
        "preset": gr.Radio(list(PRESETS), value="Default", label="Size", info="Sets rank and mapping net."),
        "start": gr.Dropdown(
            [ZERO],
            value="",
            label="Start from",
            info="Or a bundled adapter or a run of yours, to train it further.",
            allow_custom_value=True,
        ),
        "backbone": gr.Dropdown(
            list(BUNDLED),
            value="resnet20",
            label="Backbone",
            allow_custom_value=True,
            info="Bundled, or any timm name, such as resnet18.a1_in1k.",
        ),
        "method": gr.Radio(methods, value="metalora-tr", label="Method"),
        "rank": gr.Number(default.rank, label="Rank R", info="Of each branch in Multi-LoRA."),
    }
    with gr.Accordion("Layers", open=True):
        found["kind"] = gr.Radio([ALL, *KINDS, EXPRESSION], value=ALL, label="Adapted layers")
        found["expression"] = gr.Textbox(
            label="Regular expression over layer names", placeholder=r"layer[23]\..*conv1", visible=False
        )
    with gr.Accordion("Generation", open=False):
        found["extractor"] = gr.Dropdown(
            ["self", "stem", *BUNDLED],
            value="self",
            label="Extractor",
            info="Whose features the core is read from: the frozen backbone, its first stage, or another one.",
        )
        found["hidden"] = gr.Number(default.hidden, label="Mapping net, hidden width")
        found["code"] = gr.Number(default.code, label="Mapping net, code")
        found["named"] = gr.Checkbox(
            label="The code names the suite's factors",
            info="Where its tasks combine named ones, as those of Digits do; trained along, best with sets of 8.",
        )
    with gr.Accordion("Scale and dropout", open=False):
        found["alpha"] = gr.Number(0, label="Alpha", info="The update's scale is alpha / R; 0: scale 1.")
        found["branches"] = gr.Number(default.branches, label="Branches of Multi-LoRA")
        found["dropout"] = gr.Number(0, label="Dropout on the adapter's input", info="A share.", step=0.05)
    return found


def _run_config(known: dict[str, Any], given: dict[str, Any], start: AdapterConfig | None = None) -> RunConfig:
    """The settings so far, with those of this tab; `start`: settings of the adapter to go on from."""
    kind, chosen = given["kind"], {}
    if kind == EXPRESSION:
        chosen = {"targets": (given["expression"] or "",)}
    elif kind in KINDS:
        chosen = only_kind(given["backbone"], kind)
    adapter = {name: given[name] for name in OF_ADAPTER}
    # Gradio shows 0 where a number has no value.
    adapter |= {"alpha": adapter["alpha"] or None, "dropout": adapter["dropout"] or 0}
    before = RunConfig.from_dict(known) if known else RunConfig()
    kept = start.factors if start and given["named"] else ()
    config = AdapterConfig(**adapter, **chosen, factors=kept, seed=before.training.seed)
    run = RunConfig(given["backbone"], before.suite, config, before.training, before.ks, given["start"] or None)
    return run.with_factor_code() if given["named"] and not kept and config.generates else run


def _drawing(planned: AdapterSummary, drawn: str | None) -> list[Any]:
    """The drawn layer's menu, its diagram and the table."""
    names = list(planned.model.layers)
    drawn = drawn if drawn in names else names[0]
    return [gr.update(choices=names, value=drawn), network(planned.model, drawn), planned.table()]


def _texts(config: RunConfig) -> list[Any]:
    """The settings as a command line, as Python and as JSON."""
    # A run of this server has no name elsewhere: there it is what was downloaded of it.
    written = replace(config, start=OWN_START) if (config.start or "").startswith(RUN) else config
    return [as_command(written), as_python(written), as_json(written)]


def _sizes(preset: str | None, method: str) -> list[Any]:
    if preset is None:
        return [gr.skip(), gr.skip()]
    config = PRESETS[preset].adapter(method)
    return [config.rank, config.hidden]
