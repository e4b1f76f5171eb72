"""Options made of settings: one for every field of a dataclass, with its name, default and documentation.

An option that is not given stays None, and the setting keeps its default.
"""

import functools
import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from metalora.adapters.config import AdapterConfig
from metalora.cli.messages import show_errors
from metalora.evaluation.config import EmbedConfig, SearchConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.cluster import SCHEDULER
from metalora.util.config import Config, field_help
from metalora.util.distributed import joined_processes, launched
from metalora.util.errors import InputError
from metalora.util.paths import expand
from metalora.util.renamed import upgrade_options

LogTo = Annotated[
    str | None, typer.Option(help="Also log to a tracker that is installed: tensorboard, trackio or wandb.")
]
Json = Annotated[Path | None, typer.Option(help="Also write what is printed as JSON to this file.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        envvar=SCHEDULER,
        help="Dask cluster to train on: tcp://HOST:PORT or the scheduler's file. Left out: this machine.",
    ),
]


@dataclass(frozen=True)
class Options(Generic[Config]):
    """The options that fill one settings dataclass.

    Attributes:
        kind: The dataclass; fields that are settings themselves never get one.
        panel: Heading of these options in the help.
        names: Fields that get an option; None: all.
        renamed: Fields whose option has a name of its own.
    """

    kind: type[Config]
    panel: str = "Options"
    names: tuple[str, ...] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_option(self) -> dict[str, Field]:
        """Return the field behind each option."""
        return {
            self.renamed.get(entry.name, entry.name): entry
            for entry in fields(self.kind)
            if not is_dataclass(self._hints[entry.name]) and (self.names is None or entry.name in self.names)
        }

    def only(self, *names: str) -> "Options[Config]":
        """Return these options for some of the fields."""
        return replace(self, names=names)

    def without(self, *names: str) -> "Options[Config]":
        """Return these options for all but some of the fields."""
        return replace(self, names=tuple(entry.name for entry in self.by_option.values() if entry.name not in names))

    def parameters(self) -> dict[str, inspect.Parameter]:
        """Return the options as keyword arguments of a verb."""
        words = field_help(self.kind)
        return {
            option: _parameter(option, self._hints[entry.name], words.get(entry.name, ""), entry, self.panel)
            for option, entry in self.by_option.items()
        }

    def read(self, given: Mapping[str, Any], base: Config | None = None, **fixed: Any) -> Config:
        """Build the settings from the options that were given; everything else stays as in `base`."""
        values = {entry.name: _value(entry.name, given[o]) for o, entry in self.by_option.items() if o in given}
        return replace(base if base is not None else self.kind(), **{**values, **fixed})

    def write(self, config: Config) -> list[str]:
        """Return the words of a command line that `read` turns into `config`: what is not at its default."""
        words = []
        for option, entry in self.by_option.items():
            value, flag = getattr(config, entry.name), f"--{option.replace('_', '-')}"
            if value == _default(entry):
                continue
            if isinstance(value, Mapping):
                value = [f"{pattern}={rank}" for pattern, rank in value.items()]
            several = value if isinstance(value, tuple | list) else [value]
            words += [flag] if value is True else [word for item in several for word in (flag, str(item))]
        return words

    @property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.kind)


ADAPTER = Options(AdapterConfig, "Adapter")
SUITE = Options(SuiteConfig, "Suite", renamed={"name": "suite"})
TRAINING = Options(TrainingConfig, "Training")
EMBEDDING = Options(EmbedConfig, "Computing", ("batch_size", "device", "precision"))
SEARCH = Options(SearchConfig, "Gallery")


def _option_type(hint: Any) -> Any:
    """Return what typer reads for a field: a list for tuples and mappings; None where nothing is given."""
    for kind in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if get_origin(kind) is tuple:
            return {str: list[str] | None, int: list[int] | None}[get_args(kind)[0]]
        if get_origin(kind) is Mapping:
            return list[str] | None
        if kind in (bool, int, float, str):
            return kind | None
    raise TypeError(f"There is no option for a field of type {hint}.")


def _parameter(option: str, hint: Any, words: str, entry: Field, panel: str) -> inspect.Parameter:
    kind, default = _option_type(hint), _default(entry)
    words = re.sub(r"(\. )?None(:| is)", lambda found: ". Left out:" if found[1] else "left out:", words)
    if kind in (list[str] | None, list[int] | None):
        words += " Repeatable."
    info = typer.Option(
        *([f"--{option.replace('_', '-')}"] if kind == bool | None else []),  # and no --no-…
        help=" ".join([words, *_default_words(default)]),
        metavar="REGEX=RANK" if isinstance(default, Mapping) else None,
        rich_help_panel=panel,
    )
    return inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def _default(entry: Field) -> Any:
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def _default_words(default: Any) -> list[str]:
    if default is None or default is False or default in ("", (), {}):
        return []
    return [f"Default: {', '.join(map(str, default)) if isinstance(default, tuple) else default}."]


def _value(name: str, value: Any) -> Any:
    if name == "rank_pattern":
        return dict(_rank_of_pattern(text) for text in value)
    return tuple(value) if isinstance(value, list) else value


def _rank_of_pattern(text: str) -> tuple[str, int]:
    pattern, equals, rank = text.rpartition("=")
    if not equals or not pattern or not rank.strip().removeprefix("-").isdecimal():
        raise InputError(f"--rank-pattern {text!r} is not REGEX=RANK: write it as in layer1=2.")
    return pattern, int(rank)


class _Command(TyperCommand):
    """A verb that still takes the options of before by their old names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        new, notes = upgrade_options(args, {name for parameter in self.params for name in parameter.opts})
        for note in notes:
            typer.echo(f"Note: {note}", err=True)
        return super().parse_args(ctx, new)


def verb(
    app: typer.Typer, name: str, function: Callable[..., None], *groups: Options[Any], several: bool = False
) -> None:
    """Add `function` to `app`, with the options of `groups` after its own arguments.

    Those that are given reach it as keyword arguments; where two groups share an option, the later one documents it.

    Args:
        app: gets the verb.
        name: of the verb.
        function: called by it.
        groups: of options.
        several: whether processes that were launched together compute it together; else they are refused.
    """
    signature = inspect.signature(function, eval_str=True)
    shared: dict[str, inspect.Parameter] = {}
    for option, parameter in (pair for group in groups for pair in group.parameters().items()):
        shared.pop(option, None)  # so that it stands with the later group
        shared[option] = parameter
    own = {p.name: p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in {**own, **shared}.values()]

    @functools.wraps(function)
    def run(**values: Any) -> None:
        given = {key: value for key, value in values.items() if key not in shared or value not in (None, [])}
        with show_errors():
            given = {key: _expanded(value) for key, value in given.items()}
            count = launched().count
            if count > 1 and not several:
                raise InputError(f"{count} processes were launched, but `{name}` is for one: leave the launcher out.")
            with joined_processes(given.get("device", "auto")) as processes:
                processes.from_first(lambda: _check_json(given.get("json")))
                function(**given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, cls=_Command)(run)


def _expanded(value: Any) -> Any:
    """Expand ~ in paths; a shell does not after "=", nor does a program that gives arguments."""
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    return expand(value) if isinstance(value, Path) else value


def _check_json(file: Path | None) -> None:
    """Check that --json can be written, before the work is done whose result it is to hold."""
    if file is None:
        return
    from metalora.util.files import check_writable

    if file.is_dir():
        raise InputError(f"--json {file} is a folder: name a file.")
    check_writable(file.parent)
