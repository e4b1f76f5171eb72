"""Train: choose a suite and start a run."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from metalora.adapters.methods import method
from metalora.runs.estimates import estimate
from metalora.runs.presets import PRESETS
from metalora.runs.run_config import RunConfig
from metalora.suites.config import SuiteConfig
from metalora.suites.registry import SUITES
from metalora.training.loop import clock
from metalora.util.errors import InputError

from .components import Message, remember, show_errors
from .context import PRIVATE, QUIET, SETTING, Context
from .run_panel import run_panel
from .shell import menu
from .uploads import OWN, held_out_info, upload_panel
from .uploads import wire as wire_uploads

TITLES = {  # of suites; others are offered by their names
    "digits": "Digits: 12 tasks of scikit-learn's digits, 3 of them unseen; nothing to download",
    "cifar10": "CIFAR-10, ten transforms (the server needs its archive in data/)",
    "cifar10-compositions": "CIFAR-10, 48 compositions of rotation, channel order and inversion (likewise)",
    "cifar10-corruptions": "CIFAR-10 under corruptions (likewise)",
    "cifar10-rules": "CIFAR-10 with a rule of labels for each task (likewise)",
}
UPLOADED = "upload:"
OF_SUITE = ("image_size", "hold_out", "max_queries", "max_train_images")
OF_SIZE = ("steps", "batch_size", "validate_every")  # what a preset sets
KS = [1, 3, 5, 10, 20]
ESTIMATING = "Estimating the time on this machine …"


def build(context: Context) -> None:
    """Lay out the tab and wire its events."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            adapter = Message(kind="status")
            suite = gr.Radio([*suite_choices(), ("My own images (zip)", OWN)], value="digits", label="Suite")
            uploads = upload_panel(context)
            fields = _fields()
            cost, error = Message(kind="status"), Message(kind="error")
            start = gr.Button("Start", variant="primary")
        with gr.Column(scale=3, min_width=320):
            run_panel(context)
    form = TrainForm(context, suite, uploads.chosen, fields)
    _wire(form, adapter, error, cost)
    prepared = start.click(show_errors(form.prepare), [context.visitor, *form.inputs], context.run, **PRIVATE)
    # Where a run lives in its event, this is the event.
    prepared.success(show_errors(form.start), [context.visitor, context.run], concurrency_limit=None, **PRIVATE)
    context.size.change(_sizes, context.size, [fields[name] for name in OF_SIZE], **QUIET)
    wire_uploads(uploads, suite, fields["hold_out"])


@dataclass(frozen=True)
class TrainForm:
    """The controls of a run and what they do.

    Attributes:
        upload: id of the visitor's uploaded archive, None without one.
        fields: by their names in `TrainingConfig`, `SuiteConfig` and `RunConfig`.
    """

    context: Context
    suite: gr.Radio
    upload: gr.Dropdown
    fields: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        """The current settings and all controls, in the order of `run_config`'s arguments."""
        return [self.context.settings, self.suite, self.upload, *self.fields.values()]

    def run_config(self, settings: dict[str, Any], suite: str, upload: str | None, *values: Any) -> RunConfig:
        """Return the current settings with the choices of this tab.

        Raises:
            InputError: a value that cannot be used, or no images yet.
        """
        if suite == OWN and not upload:
            raise InputError("There are no images yet: upload a zip archive, or choose another suite.")
        config, training = RunConfig.from_dict(settings), dict(zip(self.fields, values, strict=True))
        of_suite = {name: training.pop(name) or None for name in OF_SUITE}  # 0 and nothing: left out
        of_suite["hold_out"], ks = tuple(of_suite["hold_out"] or ()), tuple(training.pop("ks") or ())
        # Another suite has other factors; an adapter that training starts from keeps its own.
        factors_follow = bool(config.adapter.factors) and config.start is None
        adapter = replace(config.adapter, seed=training["seed"], **({"factors": ()} if factors_follow else {}))
        config = replace(
            config,
            suite=SuiteConfig(f"{UPLOADED}{upload}" if suite == OWN else suite, **of_suite),
            adapter=adapter,
            training=replace(config.training, **training),
            ks=ks,
        )
        return config.with_factor_code() if factors_follow else config

    def update_settings(self, settings: dict[str, Any], *values: Any) -> list[Any]:
        """Write the choices into the current settings; return these, the form to keep, the adapter and an error."""
        adapter, form = _describe_adapter(RunConfig.from_dict(settings)), [values[0], *values[2:]]
        try:
            config = self.run_config(settings, *values)
        except InputError as problem:
            return [gr.skip(), form, adapter, str(problem)]
        return [config.to_dict(), form, adapter, ""]

    def update_estimate(self, token: str, tab: str, *values: Any) -> Iterator[Any]:
        """Say how long the run will take: seconds of training, so only while the tab is shown."""
        if tab != "Train":
            yield gr.skip()
            return
        try:
            config = self.context.app_state.workspace.resolve(token, self.run_config(*values))
        except InputError:  # shown by `update_settings`
            yield ""
            return
        yield ESTIMATING
        yield _cost(config)

    def prepare(self, token: str, *values: Any) -> Any:
        """Make the folder of a run and choose it as the active one."""
        run = self.context.app_state.workspace.prepare_run(token, self.run_config(*values))
        return menu(self.context.app_state, token, run)

    def start(self, token: str, run: str) -> Iterator[None]:
        """Start the active run."""
        for _ in self.context.app_state.backend.start(token, run):
            yield


def _wire(form: TrainForm, adapter: Message, error: Message, cost: Message) -> None:
    """Keep the settings and the estimate up to date."""
    context, kept, fields = form.context, form.context.forms["train"], [form.suite, *form.fields.values()]
    outputs = [context.settings, kept, adapter, error]
    event = {"fn": form.update_settings, "inputs": form.inputs, "outputs": outputs, **SETTING}
    gr.on([field.change for field in form.inputs], **event)
    remember(context, kept, fields).then(**event)
    gr.on(
        [context.tab.change, context.settings.change, form.upload.change, *(field.input for field in fields)],
        form.update_estimate,
        [context.visitor, context.tab, *form.inputs],
        cost,
        concurrency_id="estimate",
        trigger_mode="always_last",
        show_progress="hidden",
        **PRIVATE,
    )


def _fields() -> dict[str, Any]:
    """Lay out the settings of a run, see `TrainForm.fields`."""
    default = PRESETS["Default"].training()
    fields: dict[str, Any] = {}
    with gr.Row():
        fields["steps"] = gr.Number(default.steps, label="Steps", min_width=100)
        fields["batch_size"] = gr.Number(default.batch_size, label="Batch", info="images", min_width=100)
        fields["lr"] = gr.Number(default.lr, label="Learning rate", min_width=100)
    with gr.Row():
        fields["seed"] = gr.Number(0, label="Random seed", min_width=100)
        fields["set_size"] = gr.Number(1, label="Set size", info="images that share a core", min_width=100)
        fields["validate_every"] = gr.Number(
            default.validate_every, label="Validate every", info="steps; 0: at the end", min_width=100
        )
    with gr.Accordion("Tasks, sizes and precision", open=False):
        fields["hold_out"] = gr.Dropdown(
            list(SUITES["digits"].tasks.names),
            value=[],
            multiselect=True,
            allow_custom_value=True,
            label="Tasks held out",
            info=held_out_info(SUITES["digits"].tasks),
        )
        with gr.Row():  # Gradio shows 0 where a number has no value
            fields["image_size"] = gr.Number(0, label="Image size", info="pixels; 0: the suite's own", min_width=100)
            fields["max_queries"] = gr.Number(500, label="Max queries", info="images of a query split", min_width=100)
        fields["max_train_images"] = gr.Number(
            0,
            label="Max train images",
            info="Of each class (of each task's class, in own images); 0: all.",
        )
        fields["ks"] = gr.Dropdown(
            KS, value=list(RunConfig().ks), multiselect=True, label="K", info="Neighbours that vote in the result."
        )
        fields["precision"] = gr.Radio(["float32", "bfloat16"], value="float32", label="Precision")
    return fields


def suite_choices() -> list[tuple[str, str]]:
    """Return title and name of the suites that need no path."""
    return [(TITLES.get(name, name), name) for name in SUITES if not name.endswith(":")]


def _cost(config: RunConfig) -> str:
    try:
        return f"About {clock(estimate(config))} of training steps on this machine (minutes:seconds)."
    except InputError as problem:
        return str(problem)


def _describe_adapter(config: RunConfig) -> str:
    adapter = config.adapter
    start = ", starting from a trained one" if config.start else ""
    factors = ", predicting factors" if adapter.factors else ""
    title = method(adapter.method).title
    return f"{title}, rank {adapter.rank}{factors}, on {config.backbone}{start} (from Configure)."


def _sizes(preset: str | None) -> list[Any]:
    """Return the values of `OF_SIZE`."""
    if preset is None:
        return [gr.skip()] * len(OF_SIZE)
    training = PRESETS[preset].training()
    return [getattr(training, name) for name in OF_SIZE]
