"""The short table of a comparison: accuracies on seen and unseen tasks, and what a row gains over the static one."""

import math
from dataclasses import dataclass, field

from metalora.experiments.comparison import Comparison
from metalora.experiments.conclusion import Gain, format_gain, gains_of, readable
from metalora.experiments.table import NOT_RUN, SPLITS, Cell
from metalora.experiments.variants import Variant

NOT_TESTED, REFERENCE = "not tested", "reference"
GROUPS = ("Generated for the images", "One adapter for all images", "Controls")


@dataclass(frozen=True)
class Entry:
    """An entry of the short table.

    Attributes:
        text: What is printed.
        remark: What follows it: the spread, the interval, or why there is none.
        bold: Whether it is the best of its column.
        value: To sort by; NaN where there is no number.
    """

    text: str
    remark: str = ""
    bold: bool = False
    value: float = math.nan


@dataclass(frozen=True)
class ShortRow:
    """A row of the short table.

    Attributes:
        name: As commands and files have it.
        title: The same in words.
        group: What it is one of, in words.
        accuracies: In %, by task split.
        gains: In points, by task split.
    """

    name: str
    title: str
    group: str
    accuracies: dict[str, Entry] = field(default_factory=dict)
    gains: dict[str, Entry] = field(default_factory=dict)


def short_rows(comparison: Comparison, backbone: str) -> list[ShortRow]:
    """Return the rows on a backbone, by group, at the place that is tested: the primary gallery and the first K.

    Gains of generated rows have their 95 % interval, since those are tested; those of other rows are means only.
    """
    table, means = comparison.table(), _means(comparison, backbone)
    gains = gains_of(comparison.gains, backbone)
    reference = reference_of(comparison, backbone)
    k = comparison.config.ks[0]
    columns = {split: (backbone, f"{split} K={k}") for split in SPLITS}
    places = {split: table.columns.index(column) for split, column in columns.items() if column in table.columns}
    rows = []
    for variant, cells in zip(comparison.config.variants, table.rows, strict=True):
        name = str(variant)
        tested = {gain.task_split: gain for gain in gains.get(name, [])}
        rows.append(
            ShortRow(
                name,
                readable(name),
                _group(variant),
                {split: _accuracy(cells[i], means.get((name, split), math.nan)) for split, i in places.items()},
                {split: _gain(means, name, reference, split, tested.get(split)) for split in places},
            )
        )
    return sorted(rows, key=lambda row: GROUPS.index(row.group))


def reference_of(comparison: Comparison, backbone: str) -> str | None:
    """Return the static row that generated ones are compared with on a backbone; None: they are not compared."""
    return next((gains[0].against for gains in gains_of(comparison.gains, backbone).values()), None)


def _means(comparison: Comparison, backbone: str) -> dict[tuple[str, str], float]:
    rows = comparison.summary
    here = rows[
        (rows["backbone"] == backbone)
        & (rows["gallery"] == comparison.primary)
        & (rows["k"] == comparison.config.ks[0])
    ]
    return {(row.method, row.task_split): row.mean for row in here.itertuples()}


def _group(variant: Variant) -> str:
    if variant.control in ("constant", "shuffled", "oracle"):
        return GROUPS[2]
    return GROUPS[0] if variant.generated else GROUPS[1]


def _accuracy(cell: Cell, mean: float) -> Entry:
    text, _, spread = cell.text.partition(" ± ")
    if spread.endswith("*"):  # which belongs to the mean
        text, spread = f"{text}*", spread.removesuffix("*")
    return Entry(text, f"± {spread}" if spread else "", cell.bold, mean)


def _gain(
    means: dict[tuple[str, str], float], name: str, reference: str | None, split: str, tested: Gain | None
) -> Entry:
    if tested is not None:
        interval = "" if math.isnan(tested.low) else f"({tested.interval})"
        return Entry(format_gain(tested.gain), interval or "one seed", value=tested.gain)
    if (name, split) not in means:
        return Entry(NOT_RUN)
    if reference is None or (reference, split) not in means:
        return Entry(NOT_TESTED)
    if name == reference:
        return Entry(REFERENCE, value=0.0)
    gain = means[name, split] - means[reference, split]
    return Entry(format_gain(gain), NOT_TESTED, value=gain)


def matches(name: str, words: str) -> bool:
    """Whether a row, by its name or in words, has every word of a filter, in any case."""
    text = f"{name} {readable(name)}".lower()
    return all(word in text for word in words.lower().split())
