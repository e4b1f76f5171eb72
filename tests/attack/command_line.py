"""The command line under attack, in this process: what it answers, and how much memory it takes."""

import contextlib
import resource
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from attack.commands import Make
from typer.testing import CliRunner

from metalora import cli

ADDRESS_SPACE = 4 * 2**30  # bytes beyond what this process has mapped: what asks for more gets a MemoryError
PROGRESS = ("Note: ", "Reading", "Training", "Choosing")


@dataclass
class Outcome:
    """What a command came to.

    Attributes:
        name: of the input.
        verdict: "refused" for one sentence and exit code 2, "ok" for exit code 0, else "bad".
        said: what it printed, where it is bad.
        seconds: that it took.
    """

    name: str
    verdict: str
    said: str
    seconds: float


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Let this process map no more than `ADDRESS_SPACE` beyond what it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + ADDRESS_SPACE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def call_all(commands: Iterable[tuple[str, Make]], folder: Path) -> list[Outcome]:
    """Call commands one by one, each in a new folder below `folder`, which is deleted afterwards."""
    outcomes = []
    for number, (name, make) in enumerate(commands):
        place = folder / f"attack{number}"
        place.mkdir()
        words = make(place)
        begun = time.monotonic()
        with bounded_memory():
            result = CliRunner().invoke(cli.app, words)
        verdict = judge(result.exit_code, result.stderr, result.output)
        said = "" if verdict != "bad" else f"{result.exit_code} {result.exception!r} {result.stderr[-500:]}"
        outcomes.append(Outcome(name, verdict, said, time.monotonic() - begun))
        shutil.rmtree(place)
    return outcomes


def judge(code: int, stderr: str, output: str) -> str:
    """Return the verdict on what a command printed."""
    lines = [line for line in stderr.splitlines() if line and not line.startswith(PROGRESS)]
    one_sentence = len(lines) == 1 and lines[0].startswith("Error: ")
    if "\x1b]" in output or "\x07" in output or "Traceback" in output:
        return "bad"
    if code == 2 and (one_sentence or stderr.startswith("Usage: ")):
        return "refused"
    return "ok" if code == 0 else "bad"
