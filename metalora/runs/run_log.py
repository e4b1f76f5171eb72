"""The log of a run: a line per step, read as a data frame, and the output of its worker."""

import functools
import json
import math
import os
import threading
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from metalora.runs.run_folder import EVENTS, LOG
from metalora.training.loop import Progress
from metalora.util.errors import InputError
from metalora.util.files import parse_json, write_text

COLUMNS = ("step", "loss", "accuracy", "validation", "original", "images_per_second", "seconds_left")
MAX_OPEN = 32  # runs whose steps are kept in memory
TAIL = 16_384  # bytes: more than a step's line or a screen of log


def logged(events: Iterator[Progress], folder: Path) -> Generator[Progress, None, None]:
    """Pass events on, each written to the run's log; steps done again after a crash are not logged twice.

    Raises:
        InputError: the disk refuses.
    """
    file = folder / EVENTS
    first = next(events, None)
    if first is None:
        return
    write_text(file, "".join(line for line in _lines(file) if _step(line) < first.step))
    event: Progress | None = first
    while event is not None:
        _append(file, json.dumps(asdict(event)))
        yield event
        event = next(events, None)


def _lines(file: Path) -> list[str]:
    """Return the whole lines of a log; a crash may have torn the last one."""
    if not file.exists():
        return []
    return [line for line in file.read_text("utf-8", "replace").splitlines(keepends=True) if line.endswith("}\n")]


def _append(file: Path, line: str) -> None:
    try:
        with file.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
    except OSError as error:
        raise InputError(f"Cannot write {file}: {error}; free some space and run it again.") from error


def read_events(folder: Path) -> pd.DataFrame:
    """Return a row per step; no row before the first step.

    Columns are "step", "loss", "accuracy", "validation" and "original" (NaN where not measured), a "lr_…" for each
    parameter group, "images_per_second" and "seconds_left". Only lines appended since the last call are read, so that
    a page may poll.
    """
    return _log(Path(folder).absolute()).read()


@functools.lru_cache(MAX_OPEN)
def _log(folder: Path) -> "EventLog":
    return EventLog(folder / EVENTS)


class EventLog:
    """Reads a growing log of steps, and a rewritten one (of a resumed run) from the start."""

    def __init__(self, file: Path):
        self.file, self.lock = file, threading.Lock()
        self._forget(None)

    def _forget(self, inode: int | None) -> None:
        self.inode, self.offset = inode, 0
        self.frame = NO_EVENTS

    def read(self) -> pd.DataFrame:
        """Return all steps so far, see `read_events`."""
        with self.lock:
            try:
                with self.file.open("rb") as log:
                    self._read_new(log)
            except FileNotFoundError:
                self._forget(None)
            return self.frame.copy()

    def _read_new(self, log: Any) -> None:
        inode = os.fstat(log.fileno()).st_ino
        if inode != self.inode or log.seek(0, 2) < self.offset:
            self._forget(inode)
        log.seek(self.offset)
        whole = log.read().rpartition(b"\n")[0]
        if whole:
            self.offset += len(whole) + 1
            new = _frame([json.loads(line) for line in whole.splitlines()])
            self.frame = pd.concat([self.frame, new], ignore_index=True) if len(self.frame) else new


def _step(line: str) -> float:
    """Return the step that a line is of; infinity where it is damaged."""
    try:
        return float(parse_json(line)["step"])
    except (ValueError, TypeError, LookupError):
        return math.inf


def _frame(events: list[dict[str, Any]]) -> pd.DataFrame:
    rows = [
        {
            "step": event["step"],
            **event["metrics"],
            **{f"lr_{name}": lr for name, lr in _renamed(event)["lrs"].items()},
            "images_per_second": event["images_per_second"],
            "seconds_left": event["seconds_left"],
        }
        for event in events
    ]
    frame = pd.DataFrame(rows, dtype=float)
    names = [*COLUMNS[:5], *(name for name in frame.columns if name not in COLUMNS), *COLUMNS[5:]]
    return frame.reindex(columns=names).astype({"step": int})


def _renamed(event: dict[str, Any]) -> dict[str, Any]:
    """Rename a key that version 1 wrote."""
    return {"lrs" if name == "rates" else name: value for name, value in event.items()}


NO_EVENTS = _frame([])  # of a run without steps


def last_event(folder: Path) -> dict[str, Any] | None:
    """Return the last step's line of the log, fields of `loop.Progress`; None before the first step."""
    lines = _tail(folder / EVENTS).splitlines(keepends=True)
    whole = [line for line in lines if line.startswith("{") and line.endswith("}\n")]
    return _renamed(json.loads(whole[-1])) if whole else None


def read_log(folder: Path, lines: int = 40) -> str:
    """Return the last lines of the worker's output; "" where there is no log."""
    return "\n".join(_tail(folder / LOG).splitlines()[-lines:])


def _tail(file: Path) -> str:
    try:
        with file.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - TAIL))
            return log.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
