"""What a comparison says about generated adapters, and how sure that is, in sentences computed from its rows."""

import math
from collections.abc import Container, Iterable
from dataclasses import dataclass

import pandas as pd

from metalora.experiments.comparison import Comparison
from metalora.experiments.statistics import SEEDS_FOR_A_STAR
from metalora.experiments.table import NOT_APPLICABLE, SPLITS, format_percent
from metalora.experiments.variants import parse_variant

NOTHING_RAN = "Nothing has run yet."


@dataclass(frozen=True)
class Gain:
    """A gain of a generated row over the static one that is best on validation.

    Attributes:
        task_split: "seen" or "unseen".
        gain: Mean over seeds, 0 to 1.
        low: Lower end of the 95 % interval; NaN for one seed.
        high: Its upper end.
        n_seeds: Number of seeds.
        is_starred: Whether it earned a star, see `statistics.compare_to_static`.
        against: The static row.
    """

    task_split: str
    gain: float
    low: float
    high: float
    n_seeds: int
    is_starred: bool
    against: str

    @property
    def verb(self) -> str:
        """What the row does to the other one, as far as the seeds tell; a gain is claimed for starred rows only."""
        if self.is_starred:
            return "significantly beats"
        if self.n_seeds >= SEEDS_FOR_A_STAR:
            return "is worse than" if self.high < 0 else "does not significantly beat"
        if self.low > 0:
            return "may beat"
        return "may be worse than" if self.high < 0 else "does not clearly beat"

    @property
    def interval(self) -> str:
        """The interval in points, such as "+5.3 to +6.4"; there is none for one seed."""
        return f"{format_gain(self.low)} to {format_gain(self.high)}"


def format_gain(gain: float) -> str:
    """Return a difference of accuracies in points, with its sign: "+5.8", "0.0", "not applicable" for NaN."""
    if math.isnan(gain):
        return NOT_APPLICABLE
    text = f"{100 * gain:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def gains_of(gains: pd.DataFrame | None, backbone: str) -> dict[str, list[Gain]]:
    """Return the gains on a backbone by row, seen tasks first; nothing where they were not compared."""
    if gains is None:
        return {}
    found: dict[str, list[Gain]] = {}
    here = gains[gains["backbone"] == backbone].astype({"gain": float, "low": float, "high": float})  # None: NaN
    for row in here.sort_values("task_split", key=lambda names: names.map(SPLITS.index), kind="stable").itertuples():
        found.setdefault(row.method, []).append(
            Gain(row.task_split, row.gain, row.low, row.high, row.n_seeds, row.star == "*", row.against)
        )
    return found


def conclude(comparison: Comparison, backbone: str, names: Container[str] | None = None) -> list[str]:
    """Say what the rows on a backbone show, and how sure that is: one sentence, and what is to be known with it.

    The first sentence is about the generated row with the best mean validation accuracy, a choice that has not seen the
    numbers that it names. Another compares it with the best static row that is given the same sets.

    Args:
        comparison: the rows.
        backbone: one of them.
        names: generated rows to choose among; None, or where there are none of them: all.
    """
    if comparison.rows.empty:
        return [NOTHING_RAN]
    gains = gains_of(comparison.gains, backbone)
    if not gains:
        return [_without_gains(comparison, backbone)]
    asked = [name for name in gains if names is None or name in names] or list(gains)
    best = best_on_validation(comparison, backbone, asked)
    sentences = [_judge(readable(best), readable(gains[best][0].against), gains[best])]
    if len(asked) > 1:
        sentences.append(f"Of {len(asked)} generated rows, this one is the best on validation.")
    if with_sets := gains_of(comparison.set_gains, backbone).get(best):
        other = f"{readable(with_sets[0].against)}, the best static row that is given the same images,"
        sentences.append(_judge("It", other, with_sets))
    return sentences


def readable(name: str) -> str:
    """Return a row in words, such as "Meta-LoRA TR (factor code, sets of 8)"."""
    method, _, details = parse_variant(name).title.partition(", ")
    return f"{method} ({details})" if details else method


def best_on_validation(comparison: Comparison, backbone: str, names: Iterable[str]) -> str:
    """Return the row with the best mean validation accuracy on a backbone; of equal ones the first."""
    here = comparison.summary[comparison.summary["backbone"] == backbone]
    means = here.drop_duplicates("method").set_index("method")["validation"].reindex(list(names))
    return str(means.idxmax()) if means.notna().any() else str(means.index[0])


def _judge(name: str, other: str, gains: list[Gain]) -> str:
    """Compare two rows in a sentence, with the gains, their intervals and the number of seeds."""
    n = gains[0].n_seeds
    numbers = ", ".join(_in_words(gain, i == 0) for i, gain in enumerate(gains))
    if n == 1:
        return f"One seed cannot tell whether {'it' if name == 'It' else name} beats {other}: {numbers}."
    verbs = [gain.verb for gain in gains]
    where = [f"{gain.task_split} tasks" for gain in gains]
    if len(set(verbs)) == 1:
        said = f"{name} {verbs[0]} {other} on {' and '.join(gain.task_split for gain in gains)} tasks"
    else:
        said = f"{name} {verbs[0]} {other} on {where[0]}, but {verbs[1]} it on {where[1]}"
    few = f"; {n} seeds are too few to be sure, {SEEDS_FOR_A_STAR} are needed" if n < SEEDS_FOR_A_STAR else ""
    return f"{said}: {numbers}{few or f', over {n} seeds'}."


def _in_words(gain: Gain, is_first: bool) -> str:
    said = f"{format_gain(gain.gain)}{' points' if is_first else ''} on {gain.task_split} tasks"
    if math.isnan(gain.low):
        return said
    return f"{said} ({'95 % interval ' if is_first else ''}{gain.interval})"


def _without_gains(comparison: Comparison, backbone: str) -> str:
    """Say why nothing is compared, and which row is best on validation."""
    names = [str(variant) for variant in comparison.config.variants if variant.control != "oracle"]
    here = comparison.summary[
        (comparison.summary["backbone"] == backbone)
        & (comparison.summary["gallery"] == comparison.primary)
        & (comparison.summary["k"] == comparison.config.ks[0])
    ]
    reason = "No generated row is compared with a static one here"
    if comparison.missing:
        reason = f"Not tested: {comparison.missing} of the trainings are missing, and the opponent is chosen among all"
    if here.empty:
        return f"{reason}; nothing ran on {backbone} yet."
    best = best_on_validation(comparison, backbone, [name for name in names if name in set(here["method"])])
    means = here[here["method"] == best].set_index("task_split")["mean"]
    words = " and ".join(f"{format_percent(means[split])} % on {split} tasks" for split in SPLITS if split in means)
    return f"{reason}; best on validation is {readable(best)} with {words}."
