"""Configure: which layers get an update, of which format and rank, and what that costs."""

import html
from dataclasses import dataclass, replace
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

from .components import Message, remember, show_errors
from .context import PRIVATE, QUIET, SETTING, Context

ALL, EXPRESSION = "all layers", "by expression"
ZERO = ("nothing: a new adapter", "")
OF_ADAPTER = ("method", "rank", "extractor", "hidden", "code", "alpha", "branches", "dropout")
OWN_START = "adapter"  # what a command line calls the unpacked download of a run
LANGUAGES = {"Command line": "shell", "Python": "python", "JSON": "json"}


def build(context: Context) -> None:
    """Lay out the tab and wire its events."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            form = ConfigureForm(context, _fields())
        # What the first screen shows is part of the page: nobody waits for an answer to see it.
        config = form.run_config({}, {name: field.value for name, field in form.fields.items()})
        with gr.Column(scale=3, min_width=320):
            error = Message(kind="error")
            summary, code = _summary(summarise_adapter(config.backbone, config.adapter)), _code(config)
    layer = summary["layer"]
    event = {
        "fn": form.describe,
        "inputs": [context.visitor, context.settings, layer, *form.fields.values()],
        "outputs": [context.forms["configure"], error, *summary.values(), *code, context.settings],
        **SETTING,
    }
    changes = [field.change for name, field in form.fields.items() if name != "preset"]
    gr.on([*changes, layer.input], **event)
    described = remember(context, context.forms["configure"], list(form.fields.values())).then(**event)
    described.then(lambda: 1, None, context.settled, **QUIET)
    # Train changes settings too.
    context.settings.change(lambda settings: _texts(RunConfig.from_dict(settings)), context.settings, code, **SETTING)
    _wire_sizes(form)
    _wire_start(form)
    kind, expression = form.fields["kind"], form.fields["expression"]
    kind.change(lambda kind: gr.update(visible=kind == EXPRESSION), kind, expression, **QUIET)


@dataclass(frozen=True)
class ConfigureForm:
    """The controls of an adapter and what they do.

    Attributes:
        fields: by name, see `_fields`.
    """

    context: Context
    fields: dict[str, Any]

    def describe(self, token: str | None, settings: dict[str, Any], layer: str | None, *values: Any) -> list[Any]:
        """Return the form to keep, an error, the summary, the settings as code, and the new settings."""
        chosen, app_state = dict(zip(self.fields, values, strict=True)), self.context.app_state
        try:
            start = app_state.start_settings(token or "", chosen["start"])[1] if chosen["start"] else None
            config = self.run_config(settings, chosen, start)
            check_limits(config)
            app_state.check_start(token or "", config)
            summary = summarise_adapter(config.backbone, config.adapter)
        except InputError as problem:
            return [list(values), str(problem), *[gr.skip()] * 9]
        return [list(values), "", *_summary_values(summary, layer), *_texts(config), config.to_dict()]

    def run_config(
        self, settings: dict[str, Any], chosen: dict[str, Any], start: AdapterConfig | None = None
    ) -> RunConfig:
        """Return the current settings with the choices of this tab.

        Args:
            settings: `RunConfig.to_dict` of the current settings, or none.
            chosen: values of the fields.
            start: settings of the adapter that training starts from.

        Raises:
            InputError: a value that cannot be used.
        """
        adapter: dict[str, Any] = {name: chosen[name] for name in OF_ADAPTER}
        # Gradio shows 0 where a number has no value.
        adapter |= {"alpha": adapter["alpha"] or None, "dropout": adapter["dropout"] or 0}
        if chosen["kind"] == EXPRESSION:
            adapter["targets"] = (chosen["expression"] or "",)
        elif chosen["kind"] in KINDS:
            adapter |= only_kind(chosen["backbone"], chosen["kind"])
        before = RunConfig.from_dict(settings) if settings else RunConfig()
        factors = start.factors if start and chosen["factors"] else ()
        config = AdapterConfig(**adapter, factors=factors, seed=before.training.seed)
        run = replace(before, backbone=chosen["backbone"], adapter=config, start=chosen["start"] or None)
        return run.with_factor_code() if chosen["factors"] and not factors and config.generates else run

    def list_starts(self, token: str | None) -> Any:
        """Return the adapters that training can start from."""
        adapters = self.context.app_state.adapters(token or "")
        return gr.update(choices=[ZERO, *((title, name) for name, title in adapters.items())])

    def fill(self, token: str, start: str) -> list[Any]:
        """Return the fields with the settings of the adapter that training starts from."""
        if not start:
            return [gr.skip()] * (len(self.fields) - 1)
        backbone, adapter = self.context.app_state.start_settings(token, start)
        values = {name: getattr(adapter, name) for name in OF_ADAPTER}
        values |= {"preset": None, "backbone": backbone, "factors": bool(adapter.factors), "alpha": adapter.alpha or 0}
        values |= _layers(backbone, adapter)
        return [values[name] for name in self.fields if name != "start"]


def _wire_sizes(form: ConfigureForm) -> None:
    """Let a preset set rank and mapping net, and a size of one's own clear the preset."""
    preset, method, rank, hidden = (form.fields[name] for name in ("preset", "method", "rank", "hidden"))
    gr.on([preset.input, method.input], _sizes, [preset, method], [rank, hidden], **QUIET)
    preset.input(lambda preset: preset, preset, form.context.size, **PRIVATE)
    for field in (rank, hidden):
        field.input(lambda: None, None, preset, **QUIET)


def _wire_start(form: ConfigureForm) -> None:
    """Keep the list of adapters to start from; a chosen one fills the fields."""
    context, start = form.context, form.fields["start"]
    gr.on([context.load, context.adapters.change], form.list_starts, context.visitor, start, **QUIET)
    others = [field for name, field in form.fields.items() if name != "start"]
    start.input(show_errors(form.fill), [context.visitor, start], others, show_progress="hidden", **PRIVATE)


def _layers(backbone: str | None, adapter: AdapterConfig) -> dict[str, Any]:
    """Return which layers are adapted, as values of the fields."""
    if adapter.targets is None and not adapter.exclude:
        return {"kind": ALL, "expression": ""}
    kind = kind_of(backbone, adapter)
    return {"kind": kind or EXPRESSION, "expression": "" if kind else "|".join(adapter.targets or ())}


def _fields() -> dict[str, Any]:
    """Lay out the controls, by name; those of `OF_ADAPTER` as `AdapterConfig` calls them."""
    default = PRESETS["Default"].adapter("metalora-tr")
    methods = [(entry.title, name) for name, entry in METHODS.items() if entry.format is not None]
    fields = {
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
        fields["kind"] = gr.Radio([ALL, *KINDS, EXPRESSION], value=ALL, label="Adapted layers")
        fields["expression"] = gr.Textbox(
            label="Regular expression over layer names", placeholder=r"layer[23]\..*conv1", visible=False
        )
    with gr.Accordion("Generation", open=False):
        fields["extractor"] = gr.Dropdown(
            ["self", "stem", *BUNDLED],
            value="self",
            label="Extractor",
            info="Whose features the core is generated from: the frozen backbone, its first stage, or another one.",
        )
        fields["hidden"] = gr.Number(default.hidden, label="Mapping net, hidden width")
        fields["code"] = gr.Number(default.code, label="Mapping net, code")
        fields["factors"] = gr.Checkbox(
            label="The code predicts the suite's factors",
            info="Where its tasks combine named ones, as those of Digits do; trained along, best with sets of 8.",
        )
    with gr.Accordion("Scale and dropout", open=False):
        fields["alpha"] = gr.Number(0, label="Alpha", info="The update's scale is alpha / R; 0: scale 1.")
        fields["branches"] = gr.Number(default.branches, label="Branches of Multi-LoRA")
        fields["dropout"] = gr.Number(0, label="Dropout on the adapter's input", info="A fraction.", step=0.05)
    return fields


def _summary(summary: AdapterSummary) -> dict[str, Any]:
    """Lay out what the configuration amounts to, in the order of `_summary_values`."""
    names = list(summary.model.layers)
    return {
        "headline": Message(summary.headline, kind="status"),
        "notes": Message(" ".join(summary.notes)),
        "layer": gr.Dropdown(names, value=names[0], label="Layer drawn", interactive=True),
        "diagram": gr.HTML(
            _diagram(summary, names[0]), elem_classes="diagram", label="Tensor network of one layer's update"
        ),
        "table": gr.Dataframe(
            summary.table(), label="Adapted layers and their budget", interactive=False, max_height=360
        ),
    }


def _summary_values(summary: AdapterSummary, layer: str | None) -> list[Any]:
    names = list(summary.model.layers)
    layer = layer if layer in names else names[0]
    return [
        summary.headline,
        " ".join(summary.notes),
        gr.update(choices=names, value=layer),
        _diagram(summary, layer),
        summary.table(),
    ]


def _diagram(summary: AdapterSummary, layer: str) -> str:
    """Return a layer's tensor network as SVG, or why there is none, for a method of another package."""
    try:
        return network(summary.model, layer)
    except InputError as problem:
        return f"<p>{html.escape(str(problem))}</p>"


def _code(config: RunConfig) -> list[gr.Code]:
    """Lay out the settings in three languages, each on a tab of its own."""
    fields = []
    with gr.Tabs():
        for (title, language), text in zip(LANGUAGES.items(), _texts(config), strict=True):
            with gr.Tab(title):
                wrap = language != "json"
                fields.append(gr.Code(text, language=language, label=title, interactive=False, wrap_lines=wrap))
    return fields


def _texts(config: RunConfig) -> list[str]:
    """Return the settings as a command line, as Python and as JSON."""
    # A run of this server has no name elsewhere: there it is what was downloaded of it.
    written = replace(config, start=OWN_START) if (config.start or "").startswith(RUN) else config
    return [as_command(written), as_python(written), as_json(written)]


def _sizes(preset: str | None, method: str) -> list[Any]:
    """Return rank and hidden width of a preset."""
    if preset is None:
        return [gr.skip(), gr.skip()]
    config = PRESETS[preset].adapter(method)
    return [config.rank, config.hidden]
