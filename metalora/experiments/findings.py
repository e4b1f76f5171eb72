"""What a comparison found, in sentences computed from its rows."""

import math
from typing import Any

import pandas as pd

from metalora.experiments.comparison import RESULTS, Comparison
from metalora.experiments.first_look import QUESTION, STUDY, Question
from metalora.experiments.results import FOLDER, load_comparison
from metalora.experiments.statistics import SEEDS_FOR_A_STAR, SIGNIFICANT, compare_to_static, corrected
from metalora.experiments.studies import TABLE
from metalora.training.plan import LATE

ORIGINAL = "original"


def answer(comparison: Comparison, question: Question) -> list[str]:
    """Answer a question in two sentences: what was found, and how sure it is.

    A gain counts by the table's rule for stars, see `compare_to_static`, with p values corrected for all others.

    Args:
        comparison: whole, on one backbone; the primary gallery and the first K are read.
        question: on rows that it has.
    """
    gains = gains_of(comparison, question)
    holds = gains.iloc[0]["star"] == "*"
    claim = question.claim if holds else f"These rows do not show that {_lower(question.claim)}"
    found = f"{claim}: accuracy on {question.task_split} tasks is {_percents(comparison, question)}."
    seeds = int(gains["n_seeds"].min())
    if seeds < 2:
        return [found, f"One seed does not show what is chance: use --seeds {SEEDS_FOR_A_STAR}."]
    parts = [_gain(row, words) for row, words in zip(gains.itertuples(), question.others.values(), strict=True)]
    return [found, f"Over {seeds} seeds, {question.words} are {' and '.join(parts)}."]


def accuracies_of(comparison: Comparison, question: Question) -> dict[str, float]:
    """Return the mean accuracy of each row of a question by what it is, the row in question first."""
    place = {"task_split": question.task_split, "gallery": comparison.primary, "k": comparison.config.ks[0]}
    rows = comparison.summary
    means = rows[(rows[list(place)] == pd.Series(place)).all(axis=1)].set_index("method")["mean"]
    return {words: means[name] for name, words in {question.method: question.words, **question.others}.items()}


def _percents(comparison: Comparison, question: Question) -> str:
    means = accuracies_of(comparison, question)
    return ", ".join(f"{100 * mean:.1f} % with {words}" for words, mean in means.items())


def gains_of(comparison: Comparison, question: Question) -> pd.DataFrame:
    """Return the gains of the row in question over each of the others, see `compare_to_static`."""
    rows, k = comparison.rows, comparison.config.ks[0]
    rows = rows[rows["task_split"] == question.task_split]
    pairs = {other: rows[rows["method"].isin((question.method, other))] for other in question.others}
    frames = [compare_to_static(pair, k=k, gallery=comparison.primary, against=other) for other, pair in pairs.items()]
    return corrected(pd.concat(frames, ignore_index=True))


def _gain(row: Any, words: str) -> str:
    """Say how large a gain is, and whether it may be chance."""
    size = f"{abs(100 * row.gain):.1f} points {'worse' if row.gain < 0 else 'better'} than {words}"
    test = "" if math.isnan(row.p_holm) else ", p < 0.0001" if row.p_holm < 1e-4 else f", p = {row.p_holm:.2g}"
    interval = f"95 % interval {100 * row.low:.1f} to {100 * row.high:.1f}{test}"
    if row.n_seeds < SEEDS_FOR_A_STAR:
        return f"{size} ({interval}: too few seeds to be sure)"
    is_clear = row.star == "*" or (row.gain < 0 and row.p_holm < SIGNIFICANT and row.high < 0)
    return f"{size} ({interval}: {'unlikely to be' if is_clear else 'may be'} chance)"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def on_study() -> str:
    """Say what the study behind the first look found, by its rows, and how to repeat it."""
    study, part = STUDY
    folder = FOLDER / study / part
    comparison = load_comparison(folder / RESULTS)
    return (
        f"The study behind this is {study}/{part}, on {comparison.config.suite.name} with {comparison.config.seeds} "
        f"seeds: {_percents(comparison, QUESTION)}. Its table is {folder / TABLE}. To repeat it: "
        f"python -m metalora study {study} --part {part} --final"
    )


def findings(comparison: Comparison) -> list[str]:
    """Say which rows beat the original network, where generation did not pay, and whether more steps would help.

    Args:
        comparison: its rows on the primary gallery, at the first K, are compared.
    """
    place = {"gallery": comparison.primary, "k": comparison.config.ks[0]}
    rows = comparison.summary
    rows = rows[(rows[list(place)] == pd.Series(place)).all(axis=1)]
    sentences = []
    for (backbone, task_split), group in rows.groupby(["backbone", "task_split"], sort=False):
        means = group.set_index("method")["mean"]
        if ORIGINAL in means and len(means) > 1:
            where = f"{task_split} tasks with {backbone}, K = {place['k']}"
            sentences.append(_against_original(means.drop(ORIGINAL), means[ORIGINAL], where))
    return [*sentences, *_shut_gates(comparison), *_more_steps(comparison)]


def _against_original(means: pd.Series, original: float, where: str) -> str:
    """Say which rows are above the original network and which are not."""
    shown = (100 * means).round(1)
    better = shown[shown > round(100 * original, 1)]
    base = f"the original network ({100 * original:.1f} %) on {where}"
    if better.empty:
        return f"No row beats {base}."
    best = f"best is {better.idxmax()} with {better.max():.1f} %"
    if len(better) == len(shown):
        return f"All {len(shown)} rows beat {base}: {best}."
    others = ", ".join(shown.index.difference(better.index, sort=False))
    return f"{len(better)} of {len(shown)} rows beat {base}: {best}; not {others}."


def _shut_gates(comparison: Comparison) -> list[str]:
    """Say which trainings gave all images the identity core."""
    if "gate" not in comparison.rows:
        return []
    shut = comparison.rows[comparison.rows["gate"] == 0]
    names = ", ".join((shut["method"] + " on " + shut["backbone"]).unique())
    return [f"By validation, cores of their own do not pay, so all images get one: {names}."] if names else []


def _more_steps(comparison: Comparison) -> list[str]:
    """Say which trainings ended with validation still rising, and which did not rise above where they began."""
    if "best_step" not in comparison.rows:
        return []
    trained = comparison.rows.dropna(subset=["best_step"]).drop_duplicates(["method", "backbone", "seed"])
    rising = trained[trained["best_step"] >= LATE * trained["steps"]]
    never = trained[trained["best_step"] == 0]
    sentences = []
    if len(rising):
        steps = int(trained["steps"].max())
        names = ", ".join(rising["method"].unique())
        sentences.append(f"Validation was still rising at the end for {names}: try --steps {2 * steps}.")
    if len(never):
        names = ", ".join(f"{row.method} on {row.backbone}" for row in never.itertuples())
        sentences.append(
            "Validation did not rise above its start by more than its standard error, so the adapter changes nothing: "
            f"{names}."
        )
    return sentences
