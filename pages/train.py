"""Train: choose a suite and start a run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from metalora.adapters.methods import METHODS
from metalora.runs.estimates import estimate
from metalora.runs.presets import PRESETS
from metalora.runs.run_config import RunConfig
from metalora.suites import FIXED_TASKS
from metalora.suites.archives import check_archive
from metalora.suites.config import SuiteConfig
from metalora.suites.folder_layout import folder_tasks
from metalora.suites.task_lists import TEN_TRANSFORMS, TaskList
from metalora.training.loop import clock
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from pages.context import PRIVATE, QUIET, SETTING, Context
from pages.shell import menu
from pages.watch import watch
from pages.words import Message, remember, show_errors

OWN = "own"
SUITES = [
    ("Digits: 12 tasks of scikit-learn's digits, nothing to download", "digits"),
    ("CIFAR-10, ten shifts (the server needs its archive in data/)", "cifar10"),
    ("CIFAR-10, 48 compositions of rotation, channel order and inversion (likewise)", "cifar10-compositions"),
    ("My own pictures (zip)", OWN),
]
UPLOADED = "upload:"
OF_SUITE = ("image_size", "hold_out", "max_queries", "max_train_images")
KS = [1, 3, 5, 10, 20]
ESTIMATING = "Estimating the time on this machine …"


def build(context: Context) -> None:
    """Lay out the tab and wire its events."""
    app_state = context.app_state
    form = context.forms["train"]
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            adapter = Message(kind="status")
            suite = gr.Radio(SUITES, value="digits", label="Suite")
            archive = gr.File(
                label="Zip of task/class/picture or class/picture", file_types=[".zip"], visible=False, height=120
            )
            found = Message()
            fields = _fields()
            cost, error = Message(kind="status"), Message(kind="error")
            start = gr.Button("Start", variant="primary")
        with gr.Column(scale=3, min_width=320):
            watch(context)
    upload = gr.State("")
    inputs = [suite, upload, *fields.values()]

    def configured(known: dict[str, Any], suite: str, upload_id: str, *values: Any) -> RunConfig:
        given = dict(zip(fields, values, strict=True))
        if suite == OWN and not upload_id:
            raise InputError("There are no pictures yet: upload a zip archive, or choose another suite.")
        config = RunConfig.from_dict(known)
        chosen = {name: given.pop(name) or None for name in OF_SUITE}  # 0 and nothing: left out
        chosen["hold_out"], ks = tuple(chosen["hold_out"] or ()), tuple(given.pop("ks") or ())
        name = f"{UPLOADED}{upload_id}" if suite == OWN else suite
        # Those of another suite are others; an adapter to go on from keeps its own.
        renamed = bool(config.adapter.factors) and config.start is None
        adapter = replace(config.adapter, seed=given["seed"], **({"factors": ()} if renamed else {}))
        config = replace(
            config,
            suite=SuiteConfig(name, **chosen),
            adapter=adapter,
            training=replace(config.training, **given),
            ks=ks,
        )
        return config.with_factor_code() if renamed else config

    def update_settings(known: dict[str, Any], *values: Any) -> list[Any]:
        """Take the choices over."""
        title, kept = _title(RunConfig.from_dict(known)), [values[0], *values[2:]]
        try:
            config = configured(known, *values)
        except InputError as problem:
            return [gr.skip(), kept, title, str(problem)]
        return [config.to_dict(), kept, title, ""]

    def update_estimate(token: str, tab: str, known: dict[str, Any], *values: Any) -> Iterator[Any]:
        """Say how long that takes, which costs seconds of training: only where somebody looks."""
        if tab != "Train":
            yield gr.skip()
            return
        try:
            config = app_state.workspace.resolve(token, configured(known, *values))
        except InputError:  # told by `take`
            yield ""
            return
        yield ESTIMATING
        yield _cost(config)

    quietly = {"trigger_mode": "always_last", "show_progress": "hidden", **PRIVATE}
    taking = {
        "fn": update_settings,
        "inputs": [context.settings, *inputs],
        "outputs": [context.settings, form, adapter, error],
        **SETTING,
    }
    gr.on([context.settings.change, *(field.change for field in inputs)], **taking)
    remember(context, form, [suite, *fields.values()]).then(**taking)
    gr.on(
        [context.tab.change, context.settings.change, suite.input, upload.change, *(f.input for f in fields.values())],
        update_estimate,
        [context.visitor, context.tab, context.settings, *inputs],
        cost,
        concurrency_id="estimate",
        **quietly,
    )

    @show_errors
    def prepare(token: str, *values: Any) -> Any:
        run = app_state.workspace.prepare_run(token, configured(*values))
        return menu(app_state, token, run)

    @show_errors
    def begin(token: str, run: str) -> Iterator[None]:
        for _ in app_state.backend.start(token, run):
            yield

    prepared = start.click(prepare, [context.visitor, context.settings, *inputs], context.run, **PRIVATE)
    # Where a run lives in its event, this is the event.
    prepared.success(begin, [context.visitor, context.run], concurrency_limit=None, **PRIVATE)
    context.size.change(
        _sizes, context.size, [fields[name] for name in ("steps", "batch_size", "validate_every")], **QUIET
    )
    suite.change(_of_suite, suite, [archive, fields["hold_out"]], **QUIET)
    # Tasks of another suite; in the browser, since an answer of the server may come after the next choice.
    suite.input(None, None, fields["hold_out"], js="() => []", **QUIET)
    archive.upload(
        show_errors(_receive(app_state)), [context.visitor, archive], [upload, found, fields["hold_out"]], **PRIVATE
    )


def _fields() -> dict[str, Any]:
    """The settings of a run, by their names in `TrainingConfig` and `SuiteConfig`."""
    default = PRESETS["Default"].training()
    found: dict[str, Any] = {}
    with gr.Row():
        found["steps"] = gr.Number(default.steps, label="Steps", min_width=100)
        found["batch_size"] = gr.Number(default.batch_size, label="Batch", info="images", min_width=100)
        found["lr"] = gr.Number(default.lr, label="Learning rate", min_width=100)
    with gr.Row():
        found["seed"] = gr.Number(0, label="Random seed", min_width=100)
        found["set_size"] = gr.Number(1, label="Set size", info="images of one core", min_width=100)
        found["validate_every"] = gr.Number(
            default.validate_every, label="Validate every", info="steps; 0: at the end", min_width=100
        )
    with gr.Accordion("Tasks, sizes and precision", open=False):
        found["hold_out"] = gr.Dropdown(
            list(FIXED_TASKS["digits"].names),
            value=[],
            multiselect=True,
            allow_custom_value=True,
            label="Tasks held out",
            info=_held_out_info(FIXED_TASKS["digits"]),
        )
        with gr.Row():  # Gradio shows 0 where a number has no value
            found["image_size"] = gr.Number(0, label="Image size", info="pixels; 0: the suite's own", min_width=100)
            found["max_queries"] = gr.Number(500, label="Max queries", info="the most images of a side", min_width=100)
        found["max_train_images"] = gr.Number(
            0,
            label="Train pictures",
            info="The most of each class (of each task's class, in own pictures); 0: all.",
        )
        found["ks"] = gr.Dropdown(
            KS, value=list(RunConfig().ks), multiselect=True, label="K", info="Neighbours that vote in the result."
        )
        found["precision"] = gr.Radio(["float32", "bfloat16"], value="float32", label="Precision")
    return found


def _of_suite(name: str) -> list[Any]:
    """Whether an archive is asked for, and the tasks that can be held out."""
    tasks = FIXED_TASKS.get(name)
    choices = list(tasks.names) if tasks else []
    return [gr.update(visible=name == OWN), gr.update(choices=choices, info=_held_out_info(tasks))]


def _held_out_info(tasks: TaskList | None) -> str:
    """What held out means, and what holds without a choice; None: tasks that are folders."""
    which = "no task is"
    if tasks is not None:
        few = len(tasks.unseen) < 5
        which = ", ".join(tasks.unseen) if few else f"{len(tasks.unseen)} of {len(tasks.names)}"
    return f"Not trained on, measured at the end. None chosen: {which}."


def _cost(config: RunConfig) -> str:
    try:
        return f"About {clock(estimate(config))} on this machine (minutes:seconds)."
    except InputError as problem:
        return str(problem)


def _title(config: RunConfig) -> str:
    adapter = config.adapter
    start = ", which goes on from a trained one" if config.start else ""
    named = ", factors named" if adapter.factors else ""
    return f"{METHODS[adapter.method].title}, rank {adapter.rank}{named}, on {config.backbone}{start} (from Configure)."


def _sizes(preset: str | None) -> list[Any]:
    if preset is None:
        return [gr.skip()] * 3
    training = PRESETS[preset].training()
    return [training.steps, training.batch_size, training.validate_every]


def _receive(app_state: AppState):
    """Keep an uploaded archive, after a look at its directory."""

    def receive(token: str, file: str) -> list[Any]:
        pictures = check_archive(file)
        upload = app_state.workspace.add_upload(token, file, file)
        tasks = folder_tasks(pictures)
        kind = f"in {len(tasks)} tasks" if tasks else "in class folders, to which ten shifts are applied"
        count = f"{len(pictures):,} picture{'s' if len(pictures) > 1 else ''}"
        told = f"{count} {kind}; whether they make a suite shows when the run starts."
        info = _held_out_info(None if tasks else TEN_TRANSFORMS)
        return [upload, told, gr.update(choices=tasks or list(TEN_TRANSFORMS.names), value=[], info=info)]

    return receive
