"""A run: one configuration trained on a suite, in a folder of its own.

run.json                 settings, versions, status ("running", "stopped", "failed", "finished")
events.jsonl             a line for every step: losses, rates, images per second, time left
checkpoint.safetensors   until the run is finished
adapter/                 what `metalora.load` reads
result.json              k-NN accuracies, budget

Nothing is written before the suite is read and the model stands; the same settings go on where the
folder's run was stopped.
"""

import contextlib
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import timm
import torch

from metalora.backbones import image_size_for, load_backbone
from metalora.config import AdapterConfig
from metalora.device import pick_device
from metalora.errors import InputError
from metalora.evaluation.cells import SuiteConfig
from metalora.evaluation.embedding import Protocol
from metalora.evaluation.scoring import accuracy, check_galleries, measure
from metalora.loop import Progress
from metalora.model import AdaptedModel, adapt
from metalora.states import write_text
from metalora.storage import check_folder
from metalora.suites.base import Suite
from metalora.training import TrainingConfig, fit, validate
from metalora.version import __version__

SETTINGS, EVENTS, CHECKPOINT, ADAPTER, RESULT = (
    "run.json",
    "events.jsonl",
    "checkpoint.safetensors",
    "adapter",
    "result.json",
)
FORMAT_VERSION = 1


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run."""

    backbone: str = "resnet20"
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    ks: tuple[int, ...] = (5, 10)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return json.loads(json.dumps({**asdict(self), "adapter": self.adapter.to_dict()}))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """The settings that `to_dict` wrote."""
        suite = {**values["suite"], "hold_out": tuple(values["suite"]["hold_out"])}
        return cls(
            values["backbone"],
            SuiteConfig(**suite),
            AdapterConfig.from_dict(values["adapter"]),
            TrainingConfig(**values["training"]),
            tuple(values["ks"]),
        )

    @property
    def protocol(self) -> Protocol:
        """How its model is evaluated: as it was trained."""
        training = self.training
        return Protocol(
            set_size=training.set_size if self.adapter.generates else 1,
            seed=training.seed,
            batch=4 * training.batch,
            device=training.device,
            precision=training.precision,
        )


def default_folder(config: RunConfig, parent: Path = Path("runs")) -> Path:
    """A new folder's path, from time, method and backbone."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{config.adapter.method}-{config.backbone}"
    return parent / name.replace("/", "_")


def holds_run(folder: Path) -> bool:
    """Whether there is a run in `folder`."""
    return (folder / SETTINGS).is_file()


def create_run(folder: Path, config: RunConfig) -> "Run":
    """The run of these settings in `folder`: a new one, or the one that is there. Writes nothing yet.

    A failed run may be replaced by one of other settings.

    Raises:
        InputError: the folder holds something else, or a run of other settings.
    """
    check_folder(folder, owned=(SETTINGS,))
    if not holds_run(folder):
        return Run(folder, config)
    found = open_run(folder)
    different = _differences(found.config, config)
    if different and found.status != "failed":
        raise InputError(f"{folder} holds a run of other settings ({', '.join(different)}): choose another folder.")
    return Run(folder, config, replaces=True) if different else found


def open_run(folder: Path) -> "Run":
    """The run in `folder`.

    Raises:
        InputError: there is none, or its run.json is damaged or of another version.
    """
    file = folder / SETTINGS
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version = found.get("format_version")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} holds no run: there is no {SETTINGS} in it.") from error
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file} cannot be read ({error}): choose another folder.") from error
    if version != FORMAT_VERSION:
        raise InputError(f"{folder} has format version {version}, this metalora reads {FORMAT_VERSION}: train it anew.")
    try:
        return Run(folder, RunConfig.from_dict(found["settings"]), found["status"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} lacks settings ({error}): choose another folder.") from error


def _differences(one: RunConfig, other: RunConfig) -> list[str]:
    """Names of settings that differ, with both values; whether something may be downloaded does not count."""

    def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        found = {}
        for name, value in values.items():
            key = f"{prefix}{name}"
            found |= flat(value, f"{key}.") if isinstance(value, dict) and not prefix else {key: value}
        return found

    a, b = flat(one.to_dict()), flat(other.to_dict())
    return [f"{key} {a[key]!r}, now {b[key]!r}" for key in a if a[key] != b[key] and key != "suite.download"]


class Run:
    """A run in its folder; made by `create_run` and `open_run`.

    Attributes:
        status: "new", "running" (or killed), "stopped", "failed" or "finished".
        replaces: the folder holds a failed run of other settings, which is deleted when this one starts.
        skipped: (name, reason) of pictures that could not be used, known once the suite is read.
    """

    def __init__(self, folder: Path, config: RunConfig, status: str = "new", *, replaces: bool = False):
        self.folder, self.config, self.status, self.replaces = folder, config, status, replaces
        self.skipped: tuple[tuple[str, str], ...] = ()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status == "finished" and (self.folder / RESULT).is_file()

    @property
    def result(self) -> dict[str, Any]:
        """What a finished run found: "validation", "rows" of k-NN accuracies, parameters, notes."""
        return json.loads((self.folder / RESULT).read_text(encoding="utf-8"))

    def execute(self, pictures: Callable[[int, int | None], None] | None = None) -> Iterator[Progress]:
        """Train from wherever the folder stands to the end, yielding progress after every step.

        Leaving early (closing the generator, Ctrl-C) saves a checkpoint.

        Args:
            pictures: called while the suite is read, see `load_suite`.

        Raises:
            InputError: the suite, backbone or settings do not serve, or the loss is not finite any more.
        """
        if self.finished:
            return
        suite, model, notes = self._build(pictures)
        if self.replaces:
            self._clear()
        self._write("running")
        torch.manual_seed(self.config.training.seed)  # of dropout; a checkpoint overrides it
        try:
            with contextlib.closing(
                fit(model, suite, self.config.training, checkpoint=self.folder / CHECKPOINT)
            ) as events:
                yield from self._logged(events)
            self._finish(model, suite, notes)
        except (KeyboardInterrupt, GeneratorExit):
            self._write("stopped")
            raise
        except Exception as error:
            self._write("failed", str(error))
            raise

    def _build(self, pictures: Callable | None) -> tuple[Suite, AdaptedModel, list[str]]:
        config = self.config
        pick_device(config.training.device)
        size = None if config.suite.image_size is None else image_size_for(config.backbone, config.suite.image_size)
        load_backbone(config.backbone, image_size=size, download=config.suite.download)  # a wrong name is told at once
        suite = config.suite.load(config.training.seed, pictures)
        notes = [*check_galleries(suite, config.ks), *suite.notes]
        size = image_size_for(config.backbone, suite.image_size)
        backbone = load_backbone(config.backbone, image_size=size, download=config.suite.download)
        model = adapt(backbone, config.adapter, download=config.suite.download)
        if not model.layers:
            raise InputError("The original backbone has nothing to train: choose another method.")
        self.skipped = suite.skipped
        return suite, model, notes

    def _clear(self) -> None:
        for name in (EVENTS, CHECKPOINT, RESULT):
            (self.folder / name).unlink(missing_ok=True)

    def _write(self, status: str, reason: str | None = None) -> None:
        self.status = status
        versions = {
            "metalora": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        }
        content = {
            "format_version": FORMAT_VERSION,
            "status": status,
            **({"reason": reason} if reason else {}),
            "seed": self.config.training.seed,
            "versions": versions,
            "settings": self.config.to_dict(),
        }
        write_text(self.folder / SETTINGS, json.dumps(content, indent=1) + "\n")

    def _logged(self, events: Iterator[Progress]) -> Iterator[Progress]:
        """Pass events on, each written to the log; steps done again after a crash are not logged twice."""
        file = self.folder / EVENTS
        first = next(events, None)
        if first is None:
            return
        write_text(file, "".join(line for line in _lines(file) if json.loads(line)["step"] < first.step))
        with _open_log(file) as log:
            event: Progress | None = first
            while event is not None:
                _append(log, json.dumps(asdict(event)), file)
                yield event
                event = next(events, None)

    def _finish(self, model: AdaptedModel, suite: Suite, notes: list[str]) -> None:
        shutil.rmtree(self.folder / ADAPTER, ignore_errors=True)
        model.save(self.folder / ADAPTER)
        result = {**evaluate(model, suite, self.config.protocol, self.config.ks), "notes": notes}
        write_text(self.folder / RESULT, json.dumps(result, indent=1) + "\n")
        self._write("finished")
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


def _lines(file: Path) -> list[str]:
    """Whole lines of a log; the last one may have been torn by a crash."""
    if not file.exists():
        return []
    return [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]


def _open_log(file: Path) -> Any:
    try:
        return file.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write {file}: {error}; choose another folder.") from error


def _append(log: Any, line: str, file: Path) -> None:
    try:
        log.write(line + "\n")
        log.flush()
    except OSError as error:
        raise InputError(f"Cannot write {file}: {error}; free some space and run it again.") from error


def evaluate(model: AdaptedModel, suite: Suite, protocol: Protocol, ks: tuple[int, ...]) -> dict[str, Any]:
    """Validation and k-NN accuracies on seen and unseen tasks, both galleries, and the budget; plain values."""
    rows = [
        {**place, "accuracy": accuracy(predicted, queries)}
        for place, queries, predicted in measure(model, suite, protocol, ks)
    ]
    total = model.budget().loc["total"]
    return {
        "suite": suite.name,
        "backbone": model.backbone.name,
        "method": model.config.method,
        "set_size": protocol.set_size,
        "primary": suite.primary,
        "validation": validate(model, suite, protocol),
        "rows": rows,
        "static_parameters": int(total["adapter_parameters"]),
        "generator_parameters": int(total["generator_parameters"]),
    }
