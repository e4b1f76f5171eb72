"""The fields of a run: five that everybody sets, and those under Advanced."""

from dataclasses import replace
from typing import Any

import gradio as gr

from metalora.adapters.methods import METHODS
from metalora.models.bundled_networks import BUNDLED
from metalora.runs.presets import PRESETS
from metalora.runs.run_config import RunConfig
from metalora.suites.registry import SUITES
from metalora.views.configure import KINDS

from .uploads import OWN, held_out_info
from .weights import known_backbones

TITLES = {  # of suites; others are offered by their names
    "digits": "Digits: 12 tasks, 3 of them unseen",
    "digits-rotations": "Digits, 14 rotations, some of them rare",
    "cifar10": "CIFAR-10, ten transforms",
    "cifar10-compositions": "CIFAR-10, 48 compositions of transforms",
    "cifar10-corruptions": "CIFAR-10, 16 corruptions",
    "cifar10-c-rendered": "CIFAR-10, 15 corruptions in five severities, four of them unseen",
    "cifar10-rules": "CIFAR-10, a rule of labels for each task",
}
ALL, EXPRESSION = "all layers", "by expression"
ZERO = ("a new adapter", "")
PRESET = "Default"
OF_SIZE = ("rank", "hidden", "steps", "batch_size", "lr", "set_size", "validate_every")  # what a preset sets
# Fields of methods that generate a core.
GENERATED = ("extractor", "hidden", "code", "factors", "core_distribution", "set_size")
OF_CONTEXT = ("extractor", "hidden", "code", "set_size")  # those of methods that embed images given their set, too
KS = [1, 3, 5, 10, 20]
NEW_RUN = RunConfig(
    adapter=PRESETS[PRESET].adapter("metalora-tr"), training=replace(PRESETS[PRESET].training(), device="auto")
)


def suite_choices() -> list[tuple[str, str]]:
    """Return title and name of the suites that need no path."""
    return [(TITLES.get(name, name), name) for name in SUITES if not name.endswith(":")]


def data_field() -> gr.Dropdown:
    """Lay out the choice of data."""
    return gr.Dropdown([*suite_choices(), ("My own images (zip)", OWN)], value="digits", label="Data")


def method_field() -> gr.Dropdown:
    """Lay out the choice of a method."""
    methods = [(entry.title, name) for name, entry in METHODS.items() if entry.format is not None]
    return gr.Dropdown(methods, value=NEW_RUN.adapter.method, label="Method")


def rank_and_backbone() -> dict[str, Any]:
    """Lay out rank and backbone."""
    return {
        "rank": gr.Number(NEW_RUN.adapter.rank, label="Rank R", min_width=90, scale=1),
        "backbone": gr.Dropdown(
            known_backbones(),
            value=NEW_RUN.backbone,
            label="Backbone",
            allow_custom_value=True,
            info="Bundled, or a name of timm such as resnet18.a1_in1k.",
            min_width=180,
            scale=3,
        ),
    }


def preset_field() -> gr.Radio:
    """Lay out the choice of a size."""
    held = "; ".join(f"{name} trains {preset.steps} steps of {preset.batch_size}" for name, preset in PRESETS.items())
    return gr.Radio(list(PRESETS), value=PRESET, label="Size", info=f"Rank, mapping net, steps and batch. {held}.")


def adapter_fields() -> dict[str, Any]:
    """Lay out the other settings of the adapter."""
    adapter, small = NEW_RUN.adapter, {"min_width": 130}
    fields: dict[str, Any] = {
        "start": gr.Dropdown(
            [ZERO],
            value="",
            label="Start from",
            info="A bundled adapter or a run of yours can be trained further.",
            allow_custom_value=True,
        ),
        "kind": gr.Radio([ALL, *KINDS, EXPRESSION], value=ALL, label="Adapted layers"),
        "expression": gr.Textbox(
            label="Regular expression over layer names",
            placeholder=r"layer[23]\..*conv1",
            info="Left empty, it means every layer. No repetition inside a repeated group.",
            visible=False,
        ),
        "extractor": gr.Dropdown(
            ["self", "stem", *BUNDLED],
            value="self",
            label="Extractor",
            info="Reads the image for the mapping net: the backbone itself, its first stage, or another one.",
        ),
    }
    with gr.Row():
        fields["hidden"] = gr.Number(adapter.hidden, label="Mapping net, hidden width", **small)
        fields["code"] = gr.Number(adapter.code, label="Mapping net, code", **small)
    fields["factors"] = gr.Checkbox(
        label="The code predicts the suite's factors",
        info="For data whose tasks combine named factors, such as Digits; works best with sets of 8.",
    )
    fields["core_distribution"] = gr.Radio(
        ["point", "gaussian"],
        value=adapter.core_distribution,
        label="Distribution of a core",
        info="Gaussian: a mean and a variance for each value. Look then shows how uncertain every image's core is.",
    )
    with gr.Row():
        fields["alpha"] = gr.Number(0, label="Alpha", info="Scale is alpha / R; 0: scale 1.", **small)
        fields["dropout"] = gr.Number(0, label="Dropout on the adapter's input", info="A fraction.", step=0.05, **small)
    fields["branches"] = gr.Number(adapter.branches, label="Branches, or experts of a mixture", visible=False)
    return fields


def training_fields() -> dict[str, Any]:
    """Lay out the settings of the training."""
    training, small, fields = NEW_RUN.training, {"min_width": 110}, {}
    with gr.Row():
        fields["steps"] = gr.Number(training.steps, label="Steps", **small)
        fields["batch_size"] = gr.Number(training.batch_size, label="Batch", info="images", **small)
        fields["lr"] = gr.Number(training.lr, label="Learning rate", **small)
    with gr.Row():
        fields["set_size"] = gr.Number(training.set_size, label="Set size", info="images that share a core", **small)
        fields["validate_every"] = gr.Number(
            training.validate_every, label="Validate every", info="steps; 0: at the end", **small
        )
        fields["seed"] = gr.Number(training.seed, label="Random seed", **small)
    fields["precision"] = gr.Radio(["float32", "bfloat16"], value=training.precision, label="Precision")
    return fields


def data_fields() -> dict[str, Any]:
    """Lay out which images and tasks are used, and how the result is measured."""
    small, tasks = {"min_width": 110}, SUITES["digits"].tasks
    assert tasks is not None
    fields: dict[str, Any] = {
        "hold_out": gr.Dropdown(
            list(tasks.names),
            value=[],
            multiselect=True,
            allow_custom_value=True,
            label="Tasks held out",
            info=held_out_info(tasks),
        )
    }
    with gr.Row():  # Gradio shows 0 where a number has no value
        fields["image_size"] = gr.Number(0, label="Image size", info="pixels; 0: the data's own", **small)
        fields["max_queries"] = gr.Number(500, label="Max queries", info="images to be classified", **small)
        fields["max_train_images"] = gr.Number(0, label="Max train images", info="of each class; 0: all", **small)
    fields["ks"] = gr.Dropdown(
        KS,
        value=[],
        multiselect=True,
        label="K",
        info="Neighbours that vote in the result. None chosen: 5 and 10, fewer where your own images are few.",
    )
    return fields
