"""The table of docs/explanation/dependability.md, from the figures that tests recorded (tests/figures.py)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metalora.experiments.results import FOLDER

FILE = FOLDER / "dependability.json"
NOT_YET = "not measured yet"
SLOW = "bash tests/run.sh -m slow -n 0"
Row = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure: what it says, what is asked for, the command that measures it, and its text from the rows.

    Attributes:
        title: what it is.
        asked: what it should be.
        command: that measures it.
        begins: of the names of its rows.
        text: makes its text of them.
    """

    title: str
    asked: str
    command: str
    begins: str
    text: Callable[[list[Row]], str]


def kills(rows: list[Row]) -> str:
    """Return how many kills were survived, by what was killed."""
    each = ", ".join(f"{row['survived']} of {row['kills']} {row['what'].removeprefix('kills, ')}" for row in rows)
    survived, killed = (sum(row[name] for row in rows) for name in ("survived", "kills"))
    return f"{survived} of {killed} ({each}); {max(max(row['steps_lost']) for row in rows)} steps lost at most"


def hostile(rows: list[Row]) -> str:
    """Return how many inputs there were, and what they came to."""
    (row,) = rows
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(row["verdicts"].items()))
    return f"{row['inputs']}: {verdicts}; memory {row['growth_mb']:+.0f} MB at most"


def visitors(kind: str) -> Callable[[list[Row]], str]:
    """Return what says how long visitors waited for a kind of answer."""

    def text(rows: list[Row]) -> str:
        (found,) = (row for row in rows[0]["rows"] if row["what"] == kind)
        return f"{found['p50_s']:.2f} s, {found['p95_s']:.2f} s ({found['count']:,})"

    return text


def errors(rows: list[Row]) -> str:
    """Return how many answers failed, of all."""
    counted = [row for row in rows[0]["rows"] if "errors" in row]
    return f"{sum(row['errors'] for row in counted)} of {sum(row['count'] for row in counted):,}"


def memory(rows: list[Row]) -> str:
    """Return how much the memory of the app grew after the first third."""
    (found,) = (row for row in rows[0]["rows"] if row["what"].startswith("memory"))
    return f"{found['growth']:+.0f} MB of {found['end']:,} MB, after the first third"


def overhead(rows: list[Row]) -> str:
    """Return what checkpoints took of the time, by the training."""
    return "; ".join(f"{row['what'].removeprefix('checkpoints, ')}: {row['percent']:.2f} %" for row in rows)


def together(rows: list[Row]) -> str:
    """Return how far the results of two processes are from those of one."""
    return f"differ by {rows[0]['largest']:.0e} at most, in {rows[0]['tensors']} tensors"


def cluster(rows: list[Row]) -> str:
    """Return how many rows of a cluster differ from those of one process."""
    return f"{rows[0]['different']} of {rows[0]['rows']} rows differ"


def bandit(rows: list[Row]) -> str:
    """Return the findings in the code."""
    return f"{rows[0]['findings']} in {rows[0]['lines']:,} lines; {rows[0]['answered']} answered where they are"


def audit(rows: list[Row]) -> str:
    """Return the packages with known vulnerabilities."""
    return f"{rows[0]['findings']} of {rows[0]['packages']} packages"


VISITORS = "visitors, 50 for 10 minutes"
LOAD = "python tests/load.py --visitors 50 --minutes 10"
TOGETHER = "bash tests/run.sh -n 0 tests/training/test_several_processes.py"
CLUSTER = "bash tests/run.sh -n 0 tests/experiments/test_cluster_jobs.py"
ATTACK = f"{SLOW} tests/attack"
FIGURES = (
    Figure("kills survived", "20 of 20", f"{SLOW} tests/resilience/test_kills.py", "kills, ", kills),
    Figure("hostile inputs to the app, answered", "all of 300", ATTACK, "hostile, app", hostile),
    Figure("hostile inputs to the command line", "all of 300", ATTACK, "hostile, command line", hostile),
    Figure("50 visitors: status, p50 and p95", "p95 below 0.3 s", LOAD, VISITORS, visitors("status")),
    Figure("50 visitors: inspect, p50 and p95", "p95 below 3 s", LOAD, VISITORS, visitors("inspect")),
    Figure("50 visitors: errors", "none", LOAD, VISITORS, errors),
    Figure("50 visitors: memory", "flat", LOAD, VISITORS, memory),
    Figure("checkpoints, of the time", "2 %", f"{SLOW} tests/resilience/test_overhead.py", "checkpoints, ", overhead),
    Figure("two processes, to one", "float tolerance", TOGETHER, "two processes", together),
    Figure("a Dask cluster, to one process", "none differ", CLUSTER, "cluster", cluster),
    Figure("findings of bandit", "none, or answered", "python tests/scans.py", "bandit", bandit),
    Figure("findings of pip-audit", "none, or answered", "python tests/scans.py", "pip-audit", audit),
)


def figures() -> list[list[str]]:
    """Return every figure with what is asked for and the command that measures it."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))["rows"] if FILE.exists() else []
    table = [["figure", "measured", "asked for", "command"]]
    for figure in FIGURES:
        own = [row for row in rows if row["what"].startswith(figure.begins)]
        table.append([figure.title, figure.text(own) if own else NOT_YET, figure.asked, f"`{figure.command}`"])
    return table
