"""A run: one configuration trained on a suite, in a folder of its own.

run.json                 settings, versions, status ("queued", "running", "stopped", "failed", "finished"), worker
events.jsonl             a line for every step: losses, rates, images per second, time left
log.txt                  what a worker printed
checkpoint.safetensors   until the run is finished
adapter/                 what `metalora.load` reads, of a stopped run too
result.json              k-NN accuracies, budget
stop                     asks whoever trains the run to stop after the step at hand

A run that was not queued writes nothing before the suite is read and the model stands; the same settings go on where
the folder's run was stopped. Whoever looks from outside is told the truth: a run whose worker is gone does not run.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from metalora.config import AdapterConfig
from metalora.errors import InputError
from metalora.evaluation.cells import SuiteConfig
from metalora.evaluation.embedding import Protocol
from metalora.evaluation.scoring import check_ks
from metalora.execution import FORMAT_VERSION, SETTINGS, Run
from metalora.failures import SILENT
from metalora.processes import is_alive
from metalora.storage import check_folder
from metalora.training import TrainingConfig


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run.

    Attributes:
        start: saved adapter to go on from, a folder or a bundled name; None: updates begin at zero.
    """

    backbone: str = "resnet20"
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    ks: tuple[int, ...] = (5, 10)
    start: str | None = None

    def __post_init__(self) -> None:
        check_ks(self.ks)
        if self.start is None:  # what has learnt to name factors may go on without naming
            self.adapter.must_fit(self.suite.name, self.suite.factors)

    def naming(self) -> "RunConfig":
        """The same with codes that name the factors of the suite's tasks.

        Raises:
            InputError: they have none.
        """
        if not self.suite.factors:
            raise InputError("This suite's tasks combine no named factors: choose another suite, or a free code.")
        return replace(self, adapter=replace(self.adapter, factors=self.suite.factors))

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
            values.get("start"),
        )

    @property
    def protocol(self) -> Protocol:
        """How its model is evaluated: as it was trained."""
        training = self.training
        return Protocol(
            set_size=training.set_size if self.adapter.generates else 1,
            seed=training.seed,
            batch=2 * training.batch,
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


def create_run(folder: Path, config: RunConfig) -> Run:
    """The run of these settings in `folder`: a new one, or the one that is there. Writes nothing yet.

    A run that failed by itself may be replaced by one of other settings.

    Raises:
        InputError: the folder holds something else, or a run of other settings.
    """
    check_folder(folder, owned=(SETTINGS,))
    if not holds_run(folder):
        return Run(folder, config)
    found = open_run(folder)
    different = _differences(found.config, config)
    if different and (found.status != "failed" or found.died):
        raise InputError(f"{folder} holds a run of other settings ({', '.join(different)}): choose another folder.")
    return Run(folder, config, replaces=True) if different else found


def open_run(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        InputError: there is none, or its run.json is damaged or of another version.
    """
    file = folder / SETTINGS
    name = folder.absolute().name  # where a server keeps it is nobody's business
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version = found.get("format_version")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{name} holds no run: there is no {SETTINGS} in it.") from error
    except (OSError, ValueError, AttributeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{name}/{SETTINGS} cannot be read ({why}): delete the run or choose another.") from error
    if version != FORMAT_VERSION:
        raise InputError(f"{name} has format version {version}, this metalora reads {FORMAT_VERSION}: train it anew.")
    try:
        run = Run(folder, RunConfig.from_dict(found["settings"]), found["status"], reason=found.get("reason"))
    except (KeyError, TypeError) as error:
        raise InputError(f"{name}/{SETTINGS} lacks settings ({error}): delete the run or choose another.") from error
    run.died = run.status == "running" and not is_alive(found.get("worker"))
    if run.died:
        run.status, run.reason = ("stopped", None) if run.stop_asked else ("failed", SILENT)
    return run


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
