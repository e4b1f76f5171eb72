"""One vocabulary of options for all verbs: each is named after the setting that it fills.

An option that is not given stays None, and the setting keeps the default of its dataclass. Help texts
show these defaults as they stand in the source, since importing the dataclasses would import torch.
"""

import ast
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from metalora.cli.messages import exit_on_error
from metalora.util.errors import InputError

Settings = TypeVar("Settings")
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Option:
    """An option: its type, its help text, the dataclass with its default and the field there."""

    kind: Any
    help: str
    home: str | None = None
    field: str | None = None
    names: tuple[str, ...] = ()

    def parameter(self, name: str) -> inspect.Parameter:
        """As a keyword argument of a verb."""
        shown = default(self.home, self.field or name) if self.home else None
        if isinstance(shown, tuple):
            shown = ", ".join(map(str, shown))
        text = self.help if shown in (None, "") or shown is False else f"{self.help} Default: {shown}."
        info = typer.Option(*self.names, help=text, rich_help_panel=PANELS.get(self.home, "Options"))
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[self.kind, info]
        )


@functools.cache
def default(home: str, name: str) -> Any:
    """The default of a field of a dataclass "module:Class", where it is a plain value; None otherwise."""
    module, _, title = home.partition(":")
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == title)
    for node in body:
        if isinstance(node, ast.AnnAssign) and node.target.id == name and node.value is not None:
            try:
                return ast.literal_eval(node.value)
            except ValueError:
                return None
    return None


ADAPTER, TRAINING = "adapters/config:AdapterConfig", "training/config:TrainingConfig"
SUITE, COMPARISON = "suites/config:SuiteConfig", "experiments/config:ComparisonConfig"
PROTOCOL, RUN = "evaluation/embedding:EmbedConfig", "runs/run_config:RunConfig"
PANELS = {ADAPTER: "Adapter", SUITE: "Suite", TRAINING: "Training", PROTOCOL: "Computing"}
Many, Text, Number, Whole, Flag = list[str] | None, str | None, float | None, int | None, bool | None

ADAPTER_OPTIONS = {
    "method": Option(Text, "Method, as `metalora info` lists them.", ADAPTER),
    "rank": Option(Whole, "Rank R (of each branch in Multi-LoRA).", ADAPTER),
    "alpha": Option(Number, "Scale is alpha / rank; left out: scale 1.", ADAPTER),
    "targets": Option(Many, "Regular expression over layer names to adapt; repeatable. Left out: all.", ADAPTER),
    "exclude": Option(Many, "Regular expression of layers to leave alone; repeatable.", ADAPTER),
    "branches": Option(Whole, "Branches of Multi-LoRA.", ADAPTER),
    "extractor": Option(Text, "What cores are read from: self, stem, or a backbone's name.", ADAPTER),
    "hidden": Option(Whole, "Width of the mapping net.", ADAPTER),
    "code": Option(Whole, "Width of the mapping net's code.", ADAPTER),
    "factors": Option(
        list[int] | None, "Values of a factor that the code names, such as 4 rotations; repeatable.", ADAPTER
    ),
    "head_init_std": Option(Number, "Deviation of the mapping net's last weights at first.", ADAPTER),
    "code_norm_limit": Option(Number, "Length that a free code stays below; 0: any.", ADAPTER),
    "core": Option(Text, "generated for each image, or one constant core for all.", ADAPTER),
    "rank_pattern": Option(Many, "REGEX=RANK: the rank of layers whose name matches; repeatable.", ADAPTER),
    "dropout": Option(Number, "Dropout on the adapter's input, in training.", ADAPTER),
}
SUITE_OPTIONS = {
    "suite": Option(Text, "A name that `metalora info` lists, such as digits, or folder:PATH.", SUITE, "name"),
    "data": Option(Text, "Where CIFAR-10 lies.", SUITE),
    "image_size": Option(Whole, "Side of the images in pixels; left out: the suite's own.", SUITE),
    "hold_out": Option(Many, "Task to keep unseen; repeatable.", SUITE),
    "draw_unseen": Option(Whole, "Instead of names: how many tasks to keep unseen, drawn with the seed.", SUITE),
    "development": Option(
        Flag,
        "Held-out seen tasks and validation images in place of unseen tasks and queries.",
        SUITE,
        names=("--development",),
    ),
    "max_queries": Option(Whole, "The most images of each query side.", SUITE),
    "max_train_images": Option(Whole, "The most training pictures of each class; left out: all.", SUITE),
    "download": Option(Flag, "Fetch data and weights that are not here.", SUITE, names=("--download",)),
}
TRAINING_OPTIONS = {
    "steps": Option(Whole, "Training steps.", TRAINING),
    "batch_size": Option(Whole, "Images of a step.", TRAINING),
    "lr": Option(Number, "Learning rate of adapters and head.", TRAINING),
    "mapping_lr_scale": Option(Number, "The mapping net's rate, as a multiple of --lr.", TRAINING),
    "set_size": Option(Whole, "Images of one task that share a core.", TRAINING),
    "factor_loss_weight": Option(Number, "Weight of naming the suite's factors, where --factors says so.", TRAINING),
    "teacher_forcing_ratio": Option(Number, "Share of the sets that get the core of their true factors.", TRAINING),
    "identity_core_prob": Option(
        Number, "Share of single images that get the neutral core, for a free code.", TRAINING
    ),
    "identity_core_prob_sets": Option(Number, "Share of sets that get the neutral core, for a free code.", TRAINING),
    "max_grad_norm": Option(Number, "Largest norm of the gradient.", TRAINING),
    "validate_every": Option(Whole, "Steps between validations; 0: at the end only.", TRAINING),
    "precision": Option(Text, "float32 or bfloat16.", TRAINING),
    "device": Option(Text, "auto, cuda, mps or cpu.", TRAINING),
    "compile": Option(Flag, "Compile the network; where that fails, say so and go on.", TRAINING, names=("--compile",)),
    "seed": Option(Whole, "Decides splits, initial values and order of images.", TRAINING),
}
COMPUTING_OPTIONS = {
    name: Option(Whole if name == "batch_size" else Text, text, PROTOCOL)
    for name, text in (
        ("batch_size", "Images at a time."),
        ("device", "auto, cuda, mps or cpu."),
        ("precision", "float32 or bfloat16."),
    )
}
OUTPUT = {"json": Option(Path | None, "Also write what is printed as JSON to this file.")}


def only(options: Mapping[str, Option], *names: str) -> dict[str, Option]:
    """Some of `options`."""
    return {name: options[name] for name in names}


def without(options: Mapping[str, Option], *names: str) -> dict[str, Option]:
    """All but some of `options`."""
    return {name: option for name, option in options.items() if name not in names}


def verb(app: typer.Typer, name: str, function: Callable[..., None], *groups: Mapping[str, Option]) -> None:
    """Add `function` to `app`, with the options of `groups` after its own arguments.

    What is given of them reaches it as keyword arguments; its errors are told in one sentence.
    """
    signature = inspect.signature(function, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    shared = [option.parameter(key) for key, option in functools.reduce(lambda a, b: {**a, **b}, groups, {}).items()]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared)]
    shared_names = {p.name for p in shared}

    @functools.wraps(function)
    def run(**values: Any) -> None:
        given = {key: value for key, value in values.items() if key not in shared_names or value not in (None, [])}
        with exit_on_error():
            _check_json(given.get("json"))
            function(**given)

    run.__signature__ = signature.replace(parameters=parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name)(run)


def _check_json(file: Path | None) -> None:
    """See that --json can be written before the work is done that it is to tell of."""
    if file is None:
        return
    from metalora.util.files import check_writable

    if file.is_dir():
        raise InputError(f"--json {file} is a folder: name a file.")
    check_writable(file.parent)


def settings(kind: type[Settings], given: Mapping[str, Any], base: Settings | None = None, **fixed: Any) -> Settings:
    """An instance of the dataclass `kind` from the options that were given; everything else as in `base`."""
    known = {field.name for field in fields(kind)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if name in known}
    if "rank_pattern" in values:
        values["rank_pattern"] = dict(_pair(text) for text in values["rank_pattern"])
    return replace(base or kind(), **{**values, **fixed})


def suite_settings(given: Mapping[str, Any]) -> Any:
    """The `SuiteConfig` of the options that were given."""
    from metalora.suites.config import SuiteConfig

    return settings(SuiteConfig, {**given, "name": given["suite"]} if "suite" in given else given)


def _pair(text: str) -> tuple[str, int]:
    pattern, equals, rank = text.rpartition("=")
    if not equals or not pattern or not rank.strip().lstrip("-").isdigit():
        raise InputError(f"--rank-pattern {text!r} is not REGEX=RANK: write it as in layer1=2.")
    return pattern, int(rank)
