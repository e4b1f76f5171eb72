"""The tables of docs/explanation/scaling.md, from the rows of scaling.py: slopes, and what they come to at scale."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from metalora.experiments.results import FOLDER

FILE = FOLDER / "scaling.json"
NONE_YET = "none yet"
IMAGES, WORKERS = 100_000_000, 1_000
PER_HOST, HOST_BYTES = 8, 10**12  # processes that share a host, one for each of its GPUs, and its memory
DAY, HEADER_BYTES = 86_400.0, 100_000_000  # seconds; what safetensors reads of a header at most
QUERIES, LARGE_SIDE = 1_500, 224  # as many as a suite has at most; pixels of common backbones
BUSY = 0.9  # of the time
Table = list[list[str]]


def content() -> dict[str, Any]:
    """Return what scaling.py wrote; no rows where there is nothing yet."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"rows": []}


def rows_of(part: str, what: str | None = None) -> pd.DataFrame:
    """Return the rows of a part, by size."""
    rows = [row for row in content()["rows"] if row["part"] == part and row.get("what") == what]
    return pd.DataFrame(rows).sort_values("size", ignore_index=True) if rows else pd.DataFrame()


@dataclass(frozen=True)
class Growth:
    """How a quantity grows: through its largest size, as the power of the size that the last two sizes say."""

    size: float
    value: float
    power: float

    def at(self, size: float) -> float:
        """Return the quantity at a size."""
        return self.value * (size / self.size) ** self.power

    def times(self, factor: float) -> "Growth":
        """Return a multiple of the quantity."""
        return replace(self, value=factor * self.value)

    def reaches(self, value: float) -> float:
        """Return the size at which the quantity is so large; infinite where it does not grow."""
        return math.inf if self.power <= 0 else self.size * (value / self.value) ** (1 / self.power)


def growth(rows: pd.DataFrame, column: str) -> Growth:
    """Return how a column grows with the size."""
    (small, before), (large, after) = rows[["size", column]].iloc[-2:].itertuples(index=False)
    return Growth(large, after, math.log(after / before) / math.log(large / small))


def per_unit(rows: pd.DataFrame, column: str) -> float:
    """Return what one more costs: the slope between the smallest and the largest size."""
    first, last = rows.iloc[0], rows.iloc[-1]
    return (last[column] - first[column]) / (last["size"] - first["size"])


SLOPES = (  # title, what is counted, part, what, column
    ("training, images a second", "images of a batch", "training", None, "images_per_second"),
    ("a training step that is shared", "processes", "processes", None, "seconds"),
    ("embedding, images a second", "images of a batch", "embedding", None, "images_per_second"),
    ("exact search", "gallery images", "search", "exact", "seconds"),
    ("faiss, building its lists", "gallery images", "search", "faiss", "build_seconds"),
    ("faiss, searching them", "gallery images", "search", "faiss", "seconds"),
    ("faiss, recall@5", "gallery images", "search", "faiss", "recall"),
    ("map by UMAP", "points", "maps", None, "seconds"),
    ("reading JPEG of 256 pixels", "images", "reading", None, "seconds"),
    ("a suite in memory, 32 pixels", "images", "reading", None, "bytes"),
    ("a table of cores", "users", "files", "core table", "bytes"),
    ("calls on a cluster that do nothing", "calls", "jobs", "calls", "seconds"),
    ("short trainings on one worker", "trainings", "jobs", "jobs", "seconds"),
    ("the same in one process", "trainings", "jobs", "jobs", "seconds_in_one_process"),
)


def slopes() -> Table:
    """Return what was measured at each size, and the power of the size with which it grows."""
    table = [["what", "sizes", "measured", "grows as"]]
    for title, counted, part, what, column in SLOPES:
        rows = rows_of(part, what)
        if len(rows) > 1:
            sizes = " / ".join(f"{size:,}" for size in rows["size"])
            values = " / ".join(quantity(value, column) for value in rows[column])
            table.append([title, f"{sizes} {counted}", values, f"n^{growth(rows, column).power:.2f}"])
    return table if len(table) > 1 else [*table, [NONE_YET, *["–"] * 3]]


def quantity(value: float, column: str) -> str:
    """Format a value of a column."""
    if column.startswith(("seconds", "build_seconds")):
        return duration(value)
    return short(value, "B" if column == "bytes" else "")


def short(value: float, unit: str = "") -> str:
    """Format a quantity with two or three digits that count."""
    if unit == "B":
        power = min(max(0, int(math.log(max(value, 1), 1000))), 5)
        return f"{value / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".strip()


def duration(seconds: float) -> str:
    """Format a time by the largest unit that it fills."""
    for unit, length in (("years", 365 * DAY), ("days", DAY), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= length:
            return f"{short(seconds / length)} {unit}"
    return f"{short(1000 * seconds)} ms"


@dataclass(frozen=True)
class Limit:
    """A part that gives way at a number of images.

    Attributes:
        title: What it is.
        need: What it needs for `IMAGES`.
        bound: What it may need.
        images: How many that is enough for.
        then: What to do about it.
    """

    title: str
    need: str
    bound: str
    images: float
    then: str


READ = "give each process its share of the images, read from shards when their batch comes"
DECODE = "decode in parallel, or keep what is decoded on a disk that all share"
SEARCH = "search by faiss, or on a GPU"
LISTS = "keep the lists in a file, train them on a sample, divide them among hosts"
MAP = "draw a sample, and place the others beside their neighbours"
NAMES = "several tables, by the first letters of a user's name"


def limits() -> list[Limit]:
    """Return all parts with a limit, that which gives way first at the top."""
    read, exact, lists = rows_of("reading"), rows_of("search", "exact"), rows_of("search", "faiss")
    larger, queries = LARGE_SIDE / read["image_size"].iloc[-1], QUERIES / exact["queries"].iloc[-1]
    names = per_unit(rows_of("files", "core table"), "header_bytes")
    header = Limit(
        "names in the header of a table of cores",
        short(names * IMAGES, "B"),
        short(HEADER_BYTES, "B"),
        HEADER_BYTES / names,
        NAMES,
    )
    found = [
        memory("images in memory, 32 pixels", per_unit(read, "bytes")),
        memory(f"images in memory, {LARGE_SIDE} pixels", larger**2 * per_unit(read, "bytes")),
        by_itself("reading images, in every process", growth(read, "seconds"), DECODE),
        by_itself(f"exact search of {QUERIES:,} images", growth(exact, "seconds").times(queries), SEARCH),
        by_itself("faiss, building its lists", growth(lists, "build_seconds"), LISTS),
        by_itself("map by UMAP", growth(rows_of("maps"), "seconds"), MAP),
        header,
    ]
    return sorted(found, key=lambda limit: limit.images)


def memory(title: str, each: float) -> Limit:
    """Return the limit of images, of so many bytes each, that every process of a host has in its memory."""
    need = f"{short(each * IMAGES, 'B')} a process, {short(PER_HOST * each * IMAGES, 'B')} a host"
    return Limit(title, need, f"{short(HOST_BYTES, 'B')} a host", HOST_BYTES / PER_HOST / each, READ)


def by_itself(title: str, seconds: Growth, then: str) -> Limit:
    """Return the limit of what one process does by itself within a day."""
    return Limit(title, duration(seconds.at(IMAGES)), "a day of one core", seconds.reaches(DAY), then)


def limit_table() -> Table:
    """Return what 100 million images need, and at how many images each part gives way."""
    table = [["part", f"at {IMAGES:,} images or users", "may take", "holds up to", "then"]]
    if not content()["rows"]:
        return [*table, [NONE_YET, *["–"] * 4]]
    return [*table, *([x.title, x.need, x.bound, short_count(x.images), x.then] for x in limits())]


def short_count(count: float) -> str:
    """Format a large number in words."""
    if math.isinf(count):
        return "any number"
    for word, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if count >= size:
            return f"{short(count / size)} {word}"
    return short(count)


def workers() -> Table:
    """Return what 1,000 workers or GPUs would do, and need."""
    table = [["what", "measured", f"with {WORKERS:,} of them"]]
    if not content()["rows"]:
        return [*table, [NONE_YET, *["–"] * 2]]
    for title, part in (("one pass of training", "training"), ("one pass of embedding", "embedding")):
        rate = rows_of(part)["images_per_second"].max()
        each = f"{short(rate)} images/s a core: {duration(IMAGES / rate)} for {short_count(IMAGES)} images"
        table.append([title, each, duration(IMAGES / rate / WORKERS)])
    return [*table, _shared_step(), *_jobs()]


def _shared_step() -> list[str]:
    """Return what several processes do not share of a step, and how large a batch makes up for it."""
    rows = rows_of("processes")
    first, last = rows.iloc[0], rows.iloc[-1]
    fixed = max(0.0, last["seconds"] - first["seconds"] * first["size"] / last["size"])
    images = BUSY / (1 - BUSY) * fixed * first["batch"] / first["seconds"]
    need = f"each needs {short(images)} images of a batch to compute {100 * BUSY:.0f} % of the time"
    return [f"what {last['size']:.0f} processes do not share of a step", duration(fixed), need]


def _jobs() -> Table:
    """Return what the trainings of a comparison cost on a cluster beside themselves."""
    call, rows = per_unit(rows_of("jobs", "calls"), "seconds"), rows_of("jobs", "jobs")
    over = f"{1000 * (per_unit(rows, 'seconds') - per_unit(rows, 'seconds_in_one_process')):+.0f} ms"
    lasts = f"all are kept busy where a training takes over {duration(WORKERS * call)}"
    return [
        ["a call on a cluster that does nothing, sent and answered", duration(call), lasts],
        ["a training on a cluster, over one in this process", over.replace("-", "−"), "the same for each"],
    ]


def per_user() -> Table:
    """Return the bytes that a user of a model takes, by what they have of their own."""
    table = [["of each user", "bytes", f"for {IMAGES:,} users"]]
    if not content()["rows"]:
        return [*table, [NONE_YET, *["–"] * 2]]
    values = {"a whole network": "network", "a checkpoint of a training": "checkpoint", "an adapter": "adapter"}
    each = {title: rows_of("files", what)["bytes"].iloc[0] for title, what in values.items()}
    each["a core in a table"] = per_unit(rows_of("files", "core table"), "bytes")
    return [*table, *([title, short(count, "B"), short(count * IMAGES, "B")] for title, count in each.items())]


def machine() -> Table:
    """Return where and with what the rows were measured."""
    said = content()
    if not said["rows"]:
        return [["measured", "with"], [NONE_YET, "–"]]
    machine, versions = said["machine"], said["versions"]
    table = [
        ["measured", "with"],
        ["machine", f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"],
    ]
    table.append(["threads of each process", str(machine["threads"])])
    table.append(["versions", ", ".join(f"{name} {number}" for name, number in versions.items())])
    return [*table, ["command", f"`{said['command']}`, {said['seconds']} s"]]


TABLES: dict[str, Callable[[], Table]] = {
    "scaling-machine": machine,
    "scaling-slopes": slopes,
    "scaling-limits": limit_table,
    "scaling-workers": workers,
    "scaling-users": per_user,
}
