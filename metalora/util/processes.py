"""Processes: started, and known by number and start time, since a system gives the number of a dead one to another."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def launch(command: Sequence[str], log: Path, **defaults: str) -> subprocess.Popen:
    """Start a process that finds this package, prints to `log` and outlives this one, in a session of its own.

    Args:
        defaults: environment variables, where they are not set.

    Raises:
        OSError: the system refuses.
    """
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**defaults, **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )


def process(pid: int | None = None) -> dict[str, Any]:
    """What `is_alive` needs to know a process again, by default this one: "pid" and "started"; ready for JSON."""
    pid = pid or os.getpid()
    return {"pid": pid, "started": _started(pid)}


def is_alive(known: Mapping[str, Any] | None) -> bool:
    """Whether the process that `process` described is still running."""
    return known is not None and known["started"] == _started(known["pid"])


def _started(pid: int) -> str:
    """When a process started, in whatever words the system has for it; "" for none, and for one that has ended."""
    if Path("/proc/self/stat").exists():
        return _from_proc(pid)
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


def _from_proc(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, ticks = fields[0], fields[19]  # fields 3 and 22 of proc(5): the name before them may hold blanks
    return "" if state in "ZX" else ticks
