"""A run's folder: its files, its state, and how it is created and opened.

run.json                 settings, versions, revision, machine, command, state, and the process that trains it
events.jsonl             a line for every step: losses, learning rates, images per second, time left
log.txt                  output of a worker process
plan.json                steps and learning rate, where they were not given
checkpoint.safetensors   until the run is finished; beside it checkpoint.….safetensors of trials and embeddings
adapter/                 what `metalora.load` reads; a stopped run has one too
result.json              k-NN accuracies, budget
name.txt                 what its owner calls it, where they named it
stop                     asks the process that trains the run to stop after the current step
.lock                    held by the process that trains the run, or changes its state

A run that was not queued leaves nothing if its suite cannot be read or its model cannot be built.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from metalora.models.saving import check_folder
from metalora.runs.failures import SILENT
from metalora.runs.run_config import RunConfig
from metalora.util.errors import InputError
from metalora.util.files import parse_json, remove_with_parts, write_text
from metalora.util.locks import LOCK, Busy, locked
from metalora.util.paths import expand
from metalora.util.processes import is_alive, kill, process
from metalora.util.provenance import provenance
from metalora.util.renamed import upgrade_row

SETTINGS, EVENTS, LOG, RESULT = "run.json", "events.jsonl", "log.txt", "result.json"
CHECKPOINT, ADAPTER, STOP, NAME, PLAN = "checkpoint.safetensors", "adapter", "stop", "name.txt", "plan.json"
FORMAT_VERSION = 2
MAX_NAME = 60  # characters


class RunState(StrEnum):
    """State of a run.

    "stopping" and "died" (its process is gone and did not record how it ended) are never on disk.
    """

    NEW = "new"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    DIED = "died"
    FINISHED = "finished"

    @property
    def active(self) -> bool:
        """Whether the run waits or is being trained."""
        return self in (RunState.QUEUED, RunState.RUNNING, RunState.STOPPING)


class RunFolder:
    """A run: settings and state, as read from its folder or about to be written there.

    Attributes:
        path: the folder.
        config: settings.
        state: when the folder was opened, or as recorded since.
        reason: why it failed, or was stopped by the app, one sentence.
        skipped: (name, reason) of images that could not be used, known once the suite is read.
        holder: the process that holds the run's lock for this one, see `open_held`; None: this one takes it.
    """

    def __init__(self, path: Path, config: RunConfig, state: RunState = RunState.NEW, reason: str | None = None):
        self.path, self.config, self.state, self.reason = path, config, state, reason
        self.adapter, self.checkpoint = path / ADAPTER, path / CHECKPOINT
        self.skipped: tuple[tuple[str, str], ...] = ()
        self.holder: Mapping[str, Any] | None = None
        self._settings = self._read_settings()

    def _read_settings(self) -> str | None:
        try:
            return (self.path / SETTINGS).read_text(encoding="utf-8")
        except OSError:
            return None

    @property
    def result(self) -> dict[str, Any]:
        """What a finished run measured: "validation", "rows" of k-NN accuracies, parameters, notes."""
        result = parse_json((self.path / RESULT).read_text(encoding="utf-8"))
        return {**result, "rows": [upgrade_row(row) for row in result["rows"]]}

    @property
    def name(self) -> str:
        """What the run's owner calls it; "" without a name."""
        try:
            return (self.path / NAME).read_text(encoding="utf-8")
        except OSError:
            return ""

    def rename(self, name: str) -> None:
        """Give the run a name, whether or not it is being trained; "" takes it away.

        Raises:
            InputError: the name is too long, or the disk refuses.
        """
        name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
        if len(name) > MAX_NAME:
            raise InputError(f"The name has {len(name)} characters: use {MAX_NAME} at most.")
        write_text(self.path / NAME, name)

    @property
    def stop_requested(self) -> bool:
        """Whether the run is to stop after the current step."""
        return (self.path / STOP).exists()

    def request_stop(self) -> None:
        """Ask the process that trains the run, whichever it is, to stop after the current step."""
        (self.path / STOP).touch()

    def kill(self) -> None:
        """End the worker that trains the run at once; what it has done since its last checkpoint is lost."""
        worker = parse_json(self._settings or "{}").get("worker")
        if is_alive(worker):
            kill(worker["pid"])

    def enqueue(self) -> None:
        """Record that the run is to be trained, as `python -m metalora train --run FOLDER` does without options.

        Raises:
            InputError: it is finished or being trained, or the disk refuses.
        """
        if self.state is RunState.FINISHED:
            raise InputError("This run is finished: start a new one.")
        with self.locked():
            self.clear()
            self.record(RunState.QUEUED)

    def clear(self) -> None:
        """Delete a request to stop, the last worker's output and what a failed run of other settings left."""
        for name in (STOP, LOG):
            (self.path / name).unlink(missing_ok=True)
        if self.state is RunState.NEW:
            shutil.rmtree(self.adapter, ignore_errors=True)
            remove_with_parts(self.checkpoint)
            for name in (EVENTS, PLAN, RESULT):
                (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock, without which no process trains it or changes its state.

        Raises:
            Busy: another process trains it, or has trained it since the folder was opened.
            InputError: the disk refuses.
        """
        if self.holder is not None:
            yield
            return
        busy = f"The run {self.path.absolute().name} is being trained already: wait for its end, or stop it."
        if self.state is RunState.RUNNING:
            raise Busy(busy)
        with locked(self.path, busy):
            if self._read_settings() != self._settings:
                raise Busy("Another process has trained this run meanwhile: start it again.")
            yield

    def record(self, state: RunState, reason: str | None = None) -> None:
        """Write the state.

        Raises:
            InputError: the disk refuses.
        """
        content = {
            "format_version": FORMAT_VERSION,
            "status": state,
            **({"reason": reason} if reason else {}),
            **({"worker": self.holder or process()} if state is RunState.RUNNING else {}),
            "seed": self.config.training.seed,
            **provenance(self.config.training.device),
            "settings": self.config.to_dict(),
        }
        self._settings = json.dumps(content, indent=1) + "\n"
        write_text(self.path / SETTINGS, self._settings)
        self.state, self.reason = state, reason
        if state in (RunState.STOPPED, RunState.FAILED, RunState.FINISHED):
            (self.path / STOP).unlink(missing_ok=True)

    def followed(self) -> "FollowedRun":
        """Return the run as processes see it that train it along with this one."""
        return FollowedRun(self.path, self.config, self.state, self.reason)

    def reload(self) -> None:
        """Read again what another process has recorded."""
        now = open_run(self.path)
        self.config, self.state, self.reason, self._settings = now.config, now.state, now.reason, now._settings

    def record_end(self, state: RunState, reason: str | None = None) -> None:
        """Write how a training ended, where it began, nobody has written that meanwhile and the disk allows it.

        A folder that was deleted stays away.
        """
        if self.state is RunState.RUNNING and holds_run(self.path) and self._read_settings() == self._settings:
            with contextlib.suppress(InputError):  # the log of a worker has the message
                self.record(state, reason)


class FollowedRun(RunFolder):
    """A run in another process than the first of several, which alone reads and writes its folder."""

    def _read_settings(self) -> None:
        return None

    def clear(self) -> None:
        """Leave the files to the first process."""

    def record(self, state: RunState, reason: str | None = None) -> None:
        """Note the state, which the first process writes."""
        self.state, self.reason = state, reason


def default_folder(config: RunConfig, parent: Path = Path("runs")) -> Path:
    """Return the path of a new folder, named after time, method and backbone."""
    backbone = config.backbone.partition("@")[0]  # without the file of its weights
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{config.adapter.method}-{backbone}"
    return parent / name.replace("/", "_")


def holds_run(path: Path) -> bool:
    """Return whether a folder holds a run."""
    return (path / SETTINGS).is_file()


def create_run(path: str | Path, config: RunConfig) -> RunFolder:
    """Return the run of these settings in a folder: a new one, or the one that is there. Write nothing yet.

    A run that failed by itself may be replaced by one of other settings.

    Raises:
        InputError: the folder holds something else, or a run of other settings.
    """
    path = expand(path)
    check_folder(path, owned=(SETTINGS, LOCK))
    if not holds_run(path):
        return RunFolder(path, config)
    run = open_run(path)
    old, new = run.config.identity, config.identity
    if old == new:
        planned = run.config.training
        chosen = replace(config.training, steps=planned.steps, lr=planned.lr, keep_best=planned.keep_best)
        return RunFolder(path, replace(config, training=chosen), run.state, run.reason)
    if run.state is RunState.FAILED:
        return RunFolder(path, config)
    changed = [name for name in old if old[name] != new.get(name, old[name])]
    different = ", ".join(f"{name} {old[name]!r}, now {new[name]!r}" for name in changed)
    raise InputError(f"{path} holds a run of other settings ({different}): choose another folder.")


def open_run(path: str | Path) -> RunFolder:
    """Return the run in a folder.

    Raises:
        InputError: there is none, or its run.json is damaged or of another version.
    """
    path = expand(path)
    file = path / SETTINGS
    name = path.absolute().name  # a server's paths are not shown to visitors
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        found = content.get("format_version")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{name} holds no run: there is no {SETTINGS} in it.") from error
    except (OSError, ValueError, AttributeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{name}/{SETTINGS} cannot be read ({why}): delete the run or choose another.") from error
    if found not in (1, FORMAT_VERSION):
        raise InputError(f"{name} has format version {found}, this metalora reads {FORMAT_VERSION}: train it anew.")
    try:
        state, settings = RunState(content["status"]), content["settings"]
    except (KeyError, ValueError) as error:
        raise InputError(f"{name}/{SETTINGS} lacks settings ({error}): delete the run or choose another.") from error
    config = RunConfig.from_dict(settings)
    if state is RunState.RUNNING and not is_alive(content.get("worker")):
        return RunFolder(path, config, RunState.DIED, SILENT)
    if state is RunState.FINISHED and not (path / RESULT).is_file():
        state = RunState.STOPPED
    return RunFolder(path, config, state, content.get("reason"))


def open_held(path: Path, holder: Mapping[str, Any]) -> RunFolder:
    """Return the run in a folder for a process that trains it in place of the one that holds it.

    Args:
        path: the folder.
        holder: that process, as `processes.process` identifies it, possibly of another machine.

    Raises:
        InputError: as `open_run`.
    """
    run = open_run(path)
    run.state, run.holder = RunState.RUNNING, holder
    return run
