"""What verbs print: messages instead of tracebacks, progress with time left, results as JSON."""

import contextlib
import json
import re
import signal
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from metalora.cli.signals import handled, interrupt
from metalora.runs.failures import disk_is_full, out_of_memory
from metalora.suites.names import printable
from metalora.util.distributed import OtherProcessFailed
from metalora.util.errors import InputError

SECONDS_BETWEEN_LINES = 10  # where progress goes to a file
MAX_NAMED = 5
SHORT = 30  # characters of a cell that is never wrapped
BORDERS = 3  # characters around a cell
NUMBER = re.compile(r"-?[\d.,]+( [kMGT%])?")
NO_MEMORY = (
    "Memory ran out: lower --batch-size, --image-size or --jobs, choose a smaller backbone, or another --device."
)
KILLED = (
    "The process of a training was killed, by the system for lack of memory or by a person: the same command resumes; "
    "if it ends again, lower --jobs or --batch-size."
)
FULL_DISK = "The disk is full: free some space, then run the same command again."


@contextlib.contextmanager
def show_errors() -> Iterator[None]:
    """Turn errors that a user can cause, and SIGTERM, into one sentence and an exit code, and warnings into notes."""
    with warnings.catch_warnings(), handled(signal.SIGTERM, by=interrupt):
        # joblib takes the features that a process keeps for a leak and starts a new process: nothing is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        warnings.showwarning = lambda message, *_: typer.echo(f"Note: {message}", err=True)
        try:
            yield
        except InputError as error:
            raise leave(str(error), 2) from error
        except KeyboardInterrupt as error:
            raise leave("Stopped.", 1) from error
        except (OtherProcessFailed, BrokenExecutor) as error:
            raise leave(KILLED if isinstance(error, BrokenExecutor) else str(error), 1) from error
        except (MemoryError, OSError, RuntimeError) as error:
            if not out_of_memory(error) and not disk_is_full(error):
                raise
            raise leave(NO_MEMORY if out_of_memory(error) else FULL_DISK, 1) from error


def leave(message: str, code: int) -> typer.Exit:
    """Print why the verb ends, and return what to raise."""
    failed = code == 2 or message in (NO_MEMORY, FULL_DISK, KILLED)
    typer.echo(printable(f"Error: {message}" if failed else message), err=True)
    return typer.Exit(code)


class Bar:
    """Progress on stderr: a live bar in a terminal, a line every few seconds in a file."""

    def __init__(self, title: str):
        self.title, self.console, self.last_line = title, Console(stderr=True), 0.0
        self.live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.live.add_task(title, total=None, text="")

    def __enter__(self) -> "Bar":
        self.live.start()
        return self

    def __exit__(self, *_) -> None:
        self.live.stop()

    def update(self, done: int, total: int | None, text: str = "", *, line: bool = False) -> None:
        """Show progress; `line` prints a line of its own where there is no terminal."""
        self.live.update(self.task, completed=done, total=total, text=text)
        now = time.monotonic()
        if self.live.disable and (line or now - self.last_line > SECONDS_BETWEEN_LINES or done == total):
            self.last_line = now
            typer.echo(f"{self.title} {done}{f'/{total}' if total else ''}  {text}".rstrip(), err=True)

    def reading(self, done: int, total: int | None) -> None:
        """Show how many images are read."""
        self.update(done, total, "images read")


def time_left(seconds: float) -> str:
    """Format a duration as in "1:05 left"."""
    from metalora.training.loop import clock

    return f"{clock(seconds)} left"


def print_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    """Count and name the images that could not be used, on stderr."""
    if skipped:
        typer.echo(f"Note: {skipped_note(skipped)}", err=True)


def skipped_note(skipped: Sequence[tuple[str, str]]) -> str:
    """Describe images that could not be used in one sentence."""
    named = "; ".join(f"{name} ({reason.rstrip('.')})" for name, reason in skipped[:MAX_NAMED])
    more = f" and {len(skipped) - MAX_NAMED} more" if len(skipped) > MAX_NAMED else ""
    return f"{len(skipped)} images could not be used: {named}{more}."


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table, with numbers aligned to the right.

    Where the columns do not fit side by side, they come in several tables below each other, each with the first column.
    """
    cells = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    columns = [list(column) for column in zip(header, *cells, strict=True)]
    console = Console()
    console.print(Text(title, style="bold"))
    widths = [min(SHORT, _width(column)) for column in columns]
    for group in _side_by_side(widths, console.width):
        table = Table(box=SIMPLE_HEAD, show_header=any(header))
        for heading, *column in (columns[i] for i in group):
            numbers = bool(column) and all(NUMBER.fullmatch(cell) for cell in column)
            table.add_column(
                Text(heading),
                justify="right" if numbers else "left",
                overflow="fold",
                no_wrap=_width(column) <= SHORT,
            )
        for row in cells:
            table.add_row(*(Text(row[i]) for i in group))
        console.print(table)


def fits(texts: Sequence[str]) -> bool:
    """Return whether columns of these texts fit side by side."""
    return len(_side_by_side([_width([text]) for text in texts], Console().width)) == 1


def _width(texts: Iterable[str]) -> int:
    """Return the width of a column that is not folded."""
    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)


def _side_by_side(widths: Sequence[int], room: int) -> list[list[int]]:
    """Divide columns into groups that fit into the room, each beginning with the first column."""
    groups: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        group = [*groups[-1], column]
        if len(group) > 2 and sum(widths[i] + BORDERS for i in group) + 1 > room:
            groups.append([0, column])
        else:
            groups[-1] = group
    return groups


def write_json(path: Path | None, data: Any) -> None:
    """Write `data` to the file of --json, if there is one."""
    if path is not None:
        from metalora.util.files import write_text

        write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
