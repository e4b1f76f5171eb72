"""The form of a run: its fields as settings, what they amount to, and what keeps it from starting."""

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.cli.as_code import as_command, as_json, as_python
from metalora.plots.diagram import network
from metalora.runs.estimates import estimate
from metalora.runs.run_config import RunConfig
from metalora.runs.start import start_run
from metalora.runs.visitor_limits import check_limits, missing_data
from metalora.runs.workspace import RUN
from metalora.suites.config import SuiteConfig
from metalora.training.loop import clock
from metalora.util.errors import InputError
from metalora.views.configure import (
    KINDS,
    AdapterSummary,
    has_branches,
    kind_of,
    missing_weights,
    only_kind,
    summarise_adapter,
)
from metalora.views.uploads import UPLOADED, fit_ks

from .context import Context
from .shell import menu
from .train_fields import ALL, EXPRESSION, GENERATED, NEW_RUN, OF_CONTEXT, ZERO
from .uploads import OWN

OF_ADAPTER = ("method", "rank", "extractor", "hidden", "code", "core_distribution", "alpha", "branches", "dropout")
OF_TRAINING = ("steps", "batch_size", "lr", "set_size", "validate_every", "seed", "precision")
OF_SUITE = ("image_size", "hold_out", "max_queries", "max_train_images")
OWN_START = "adapter"  # what a command line calls the unpacked download of a run
NO_UPLOAD = "There are no images yet: upload a zip archive, or choose other data."
EVERY_LAYER = "The expression is empty, so every layer is adapted. "
ESTIMATING = "Estimating the time on this machine …"
VALID, INVALID = ["summary"], ["summary", "invalid"]


@dataclass(frozen=True)
class TrainForm:
    """The fields of a run and what they do.

    Attributes:
        upload: id of the visitor's uploaded archive, None without one.
        fields: by name, see `train_fields`, with the choice of data as "data".
    """

    context: Context
    upload: gr.Dropdown
    fields: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        """The visitor, the uploaded archive and all fields: the arguments of `checked`."""
        return [self.context.visitor, self.upload, *self.fields.values()]

    def describe(self, layer: str | None, token: str | None, upload: str | None, *values: Any) -> list[Any]:
        """Return problems by field, whether the run can start, the summary, and the settings as code."""
        chosen = dict(zip(self.fields, values, strict=True))
        problems = {"data": "", "backbone": _problem(missing_weights, chosen["backbone"]), "form": ""}
        summary, config = None, None
        try:
            config = self.run_config(token, upload, chosen)
            summary = summarise_adapter(config.backbone, config.adapter, config.suite)
        except InputError as problem:
            problems["form"] = "" if str(problem) == problems["backbone"] else str(problem)
        if chosen["data"] == OWN and not upload:
            problems["data"] = NO_UPLOAD
        elif config is not None:
            problems["data"] = missing_data(config.suite) or _problem(self._fit_ks, token or "", config, chosen)
        wrong = [name for name in ("data", "backbone") if problems[name]]
        why = f"Start waits for another choice of {' and '.join(wrong)}." if wrong else ""
        can_start = gr.update(interactive=not any(problems.values()))
        shown = _summary_values(summary, layer, self._note(chosen)) if summary else [gr.skip()] * 5
        code = texts(config) if config and summary else [gr.skip()] * 3
        classes = [gr.update(elem_classes=VALID if summary else INVALID)] * 2
        return [*problems.values(), can_start, why, *classes, *shown, *code]

    def run_config(self, token: str | None, upload: str | None, chosen: dict[str, Any]) -> RunConfig:
        """Return the settings of a run.

        Args:
            token: of the visitor.
            upload: id of the uploaded archive.
            chosen: values of the fields.

        Raises:
            InputError: a value that cannot be used.
        """
        app_state, seed = self.context.app_state, chosen["seed"]
        start = app_state.start_settings(token or "", chosen["start"])[1] if chosen["start"] else None
        adapter: dict[str, Any] = {name: chosen[name] for name in OF_ADAPTER}
        # Gradio shows 0 where a number has no value.
        adapter |= {"alpha": adapter["alpha"] or None, "dropout": adapter["dropout"] or 0, "seed": seed}
        generates = method(chosen["method"]).generated
        if not generates:  # whose field is hidden
            adapter["core_distribution"] = "point"
        if chosen["kind"] == EXPRESSION:
            adapter["targets"] = (chosen["expression"] or "",)
        elif chosen["kind"] in KINDS:
            adapter |= only_kind(chosen["backbone"], chosen["kind"])
        of_suite = {name: chosen[name] or None for name in OF_SUITE} | {"hold_out": tuple(chosen["hold_out"] or ())}
        name = f"{UPLOADED}{upload or ''}" if chosen["data"] == OWN else chosen["data"]
        reads_sets = method(chosen["method"]).reads_sets
        training = {name: chosen[name] for name in OF_TRAINING} | ({} if reads_sets else {"set_size": 1})
        factors = start.factors if start and chosen["factors"] else ()
        config = replace(
            NEW_RUN,
            backbone=chosen["backbone"],
            suite=SuiteConfig(name, **of_suite),
            adapter=AdapterConfig(**adapter, factors=factors),
            training=replace(NEW_RUN.training, **training),
            ks=tuple(chosen["ks"] or NEW_RUN.ks),
            start=chosen["start"] or None,
        )
        config = config.with_factor_code() if chosen["factors"] and not factors and generates else config
        check_limits(config)
        app_state.check_start(token or "", config)
        return config

    def checked(self, token: str, upload: str | None, *values: Any) -> RunConfig:
        """Return the settings of a run that can be started.

        Raises:
            InputError: what keeps it from starting.
        """
        chosen = dict(zip(self.fields, values, strict=True))
        if chosen["data"] == OWN and not upload:
            raise InputError(NO_UPLOAD)
        config = self.run_config(token, upload, chosen)
        problem = missing_weights(config.backbone) or missing_data(config.suite)
        if problem:
            raise InputError(problem)
        summarise_adapter(config.backbone, config.adapter, config.suite)
        return self._fit_ks(token, config, chosen)

    def _fit_ks(self, token: str, config: RunConfig, chosen: dict[str, Any]) -> RunConfig:
        return fit_ks(self.context.app_state, token, config, chosen=bool(chosen["ks"]))

    def start(self, token: str, *values: Any) -> Iterator[Any]:
        """Make a run and start it, in one event that no page can leave half way; it becomes the active one."""
        app_state = self.context.app_state
        shown = False
        for status in start_run(app_state.workspace, app_state.backend, token, self.checked(token, *values)):
            yield gr.skip() if shown else menu(app_state, token, status.run)
            shown = True

    def estimate(self, tab: str, token: str, *values: Any) -> Iterator[str]:
        """Say how long the run will take: seconds of training, so only while the tab is shown."""
        if tab != "Train":
            yield gr.skip()
            return
        try:
            config = self.context.app_state.workspace.resolve(token, self.checked(token, *values))
            yield ESTIMATING
            yield f"About {clock(estimate(config))} of training on this machine (minutes:seconds)."
        except InputError:  # shown by `describe`
            yield ""

    def list_starts(self, token: str | None) -> Any:
        """Return the adapters that training can start from."""
        adapters = self.context.app_state.adapters(token or "")
        return gr.update(choices=[ZERO, *((title, name) for name, title in adapters.items())])

    def fill(self, token: str, start: str) -> list[Any]:
        """Return all fields, with the settings of the adapter that training starts from."""
        if not start:
            return [gr.skip()] * len(self.fields)
        backbone, adapter = self.context.app_state.start_settings(token, start)
        values = {name: getattr(adapter, name) for name in OF_ADAPTER} | _layers(backbone, adapter)
        values |= {"preset": None, "backbone": backbone, "factors": bool(adapter.factors), "alpha": adapter.alpha or 0}
        return [values.get(name, gr.skip()) for name in self.fields]

    def show_fields(self, name: str, kind: str) -> list[Any]:
        """Return which fields apply to the method and the kind of layers, by `conditional`."""
        entry = method(name)
        return [
            *[gr.update(visible=entry.generated or (entry.reads_sets and part in OF_CONTEXT)) for part in GENERATED],
            *map(_visible, (has_branches(name), kind == EXPRESSION)),
        ]

    @property
    def conditional(self) -> list[Any]:
        """The fields that apply to some methods or kinds of layers only."""
        return [self.fields[name] for name in (*GENERATED, "branches", "expression")]

    def _note(self, chosen: dict[str, Any]) -> str:
        return EVERY_LAYER if chosen["kind"] == EXPRESSION and not chosen["expression"] else ""


def _problem(check: Any, *values: Any) -> str:
    """Return what a check complains about, as text or by an error; "" where it does not."""
    try:
        answer = check(*values)
    except InputError as problem:
        return str(problem)
    return answer if isinstance(answer, str) else ""


def _visible(shown: bool) -> Any:
    return gr.update(visible=shown)


def _layers(backbone: str | None, adapter: AdapterConfig) -> dict[str, Any]:
    """Return which layers are adapted, as values of the fields."""
    if adapter.targets is None and not adapter.exclude:
        return {"kind": ALL, "expression": ""}
    kind = kind_of(backbone, adapter)
    return {"kind": kind or EXPRESSION, "expression": "" if kind else "|".join(adapter.targets or ())}


def _summary_values(summary: AdapterSummary, layer: str | None, note: str) -> list[Any]:
    """Return headline, notes, the menu of layers, the diagram and the table."""
    names = list(summary.model.layers)
    layer = layer if layer in names else names[0]
    return [
        summary.headline,
        note + " ".join(summary.notes),
        gr.update(choices=names, value=layer),
        diagram(summary, layer),
        summary.table(),
    ]


def diagram(summary: AdapterSummary, layer: str) -> str:
    """Return a layer's tensor network as SVG, or why there is none, for a method of another package."""
    try:
        return network(summary.model, layer)
    except InputError as problem:
        return f"<p>{html.escape(str(problem))}</p>"


def texts(config: RunConfig) -> list[str]:
    """Return the settings as a command line, as Python and as JSON."""
    # A run of this server has no name elsewhere: there it is what was downloaded of it.
    written = replace(config, start=OWN_START) if (config.start or "").startswith(RUN) else config
    return [as_command(written), as_python(written), as_json(written)]
