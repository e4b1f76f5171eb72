"""Is a gain over seeds significant? Summaries, paired comparisons with the best static row, power.

Input everywhere is a tidy frame of one suite, a row per result: method, backbone, suite, task_split
("seen", "unseen"), gallery ("pooled", "within", or "linear head" at k 0), k, seed, accuracy (0 to 1), validation
(validation k-NN accuracy, repeated on all rows of a method, backbone and seed), generated (a generated method, no
control), static (may be the row that generated methods are compared with). More columns are carried along.
"""

from typing import Any

import numpy as np
import pandas as pd

from metalora.util.errors import InputError

SEEDS_FOR_A_STAR = 6
SIGNIFICANT = 0.05  # p value
RESAMPLES = 9999
NODES, WEIGHTS = np.polynomial.legendre.leggauss(128)  # of an integral over [-1, 1]
SEEDS_ONLY = "interval over seeds only: no accuracies of single tasks given"
PLACE = ["method", "backbone", "suite", "task_split", "gallery", "k"]


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds: a row per method, backbone, suite, task split, gallery and k, in order of appearance.

    Returns:
        Those columns, then mean, std (over seeds, ddof 1; NaN for one seed), n_seeds, validation (mean
        over seeds), and the first value of every other column; seed and correct are dropped.

    Raises:
        InputError: a column is missing, or a seed appears twice in one place.
    """
    _need(rows, [*PLACE, "seed", "accuracy"])
    _once(rows, [*PLACE, "seed"])
    places = rows.groupby(PLACE, sort=False, dropna=False)
    # A NaN accuracy makes the mean NaN: a failed seed must not vanish from a mean.
    measured = places["accuracy"].agg(
        mean=lambda a: a.mean(skipna=False), std=lambda a: a.std(ddof=1, skipna=False), n_seeds="size"
    )
    if "validation" in rows:
        measured["validation"] = places["validation"].mean()
    rest = [name for name in rows.columns if name not in {*PLACE, "seed", "accuracy", "correct", "validation"}]
    return measured.join(places[rest].first()).reset_index() if rest else measured.reset_index()


def best_static(rows: pd.DataFrame) -> dict[str, str]:
    """Return the static method with the best mean validation accuracy for each backbone; of equal ones the first.

    Raises:
        InputError: a backbone has no static row with a validation accuracy, or one seed has two of them.
    """
    _need(rows, ["method", "backbone", "seed", "validation", "static"])
    _one_suite(rows)
    runs = rows[rows["static"].eq(True)].groupby(["backbone", "method", "seed"], sort=False)["validation"]
    if (runs.nunique() > 1).any():
        backbone, method, seed = runs.nunique().idxmax()
        raise InputError(f"{method} on {backbone}, seed {seed}, has several validation accuracies: keep one run.")
    means = runs.first().groupby(["backbone", "method"], sort=False).mean().dropna()
    found = {backbone: group.idxmax()[1] for backbone, group in means.groupby("backbone", sort=False)}
    for backbone in rows["backbone"].unique():
        if backbone not in found:
            raise InputError(f"{backbone} has no static row with a validation accuracy: run lora on it too.")
    return found


def paired_gains(
    rows: pd.DataFrame,
    method: str,
    against: str,
    *,
    backbone: str,
    task_split: str,
    k: int = 5,
    gallery: str = "pooled",
) -> pd.Series:
    """Return accuracy of `method` minus that of `against`, per seed (the index), ascending.

    Raises:
        InputError: a seed was run for only one of the two, or appears twice.
    """
    place = {"backbone": backbone, "task_split": task_split, "k": k, "gallery": gallery}
    here = rows[np.logical_and.reduce([rows[name] == value for name, value in place.items()])]
    _once(here, [*PLACE, "seed"])
    a, b = (here[here["method"] == name].set_index("seed")["accuracy"].sort_index() for name in (method, against))
    if list(a.index) != list(b.index):
        seeds = f"{method} has seeds {list(a.index)} and {against} has {list(b.index)}"
        raise InputError(f"{seeds} ({backbone}, {task_split}, K={k}, {gallery} gallery): run the same seeds for both.")
    # Rounded far below one query, so that equal gains are equal: 0.55 - 0.50 is not 0.35 - 0.30 in floats.
    return (a - b).round(12)


def compare_to_static(
    rows: pd.DataFrame,
    *,
    k: int = 5,
    gallery: str = "pooled",
    against: str | None = None,
    tasks: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every generated method with the static row, per backbone and task split.

    Args:
        rows: as in this module's description.
        k: of k-NN.
        gallery: "pooled" or "within".
        against: the method to compare with; None: `best_static` of each backbone.
        tasks: accuracies of single tasks of the unseen split at this k and gallery (method, backbone,
            seed, task, accuracy); with it the interval of unseen tasks resamples tasks as well as seeds,
            and is that of the mean over tasks.
        seed: of resampling.

    Returns:
        Columns backbone, method, task_split, k, gallery, against, n_seeds, gain (mean, 0 to 1), p (two-sided
        paired t-test), low and high (95 % bootstrap interval of the mean gain), effect (Cohen's d_z),
        p_holm (over all rows of this frame), detectable (the smallest gain that these seeds could have starred,
        see `smallest_detectable_gain`), star ("*", "n too small" below six seeds, or ""), note (why a number is NaN or
        an interval is narrow).

    Raises:
        InputError: seeds or tasks are not paired, nothing is there at this k and gallery, several suites.
    """
    _need(rows, [*PLACE, "seed", "accuracy", "generated"])
    _one_suite(rows)
    rows = rows[(rows["k"] == k) & (rows["gallery"] == gallery)]
    if rows.empty:
        raise InputError(f"There is no result at K={k} on the {gallery} gallery: choose a K and a gallery that ran.")
    static = dict.fromkeys(rows["backbone"], against) if against else best_static(rows)
    found = []
    generated = rows.loc[rows["generated"].eq(True), ["backbone", "method", "task_split"]].drop_duplicates()
    for backbone, method, task_split in generated.itertuples(index=False):
        place = {"backbone": backbone, "method": method, "task_split": task_split, "k": k, "gallery": gallery}
        other = static[backbone]
        gains = paired_gains(rows, **place, against=other)
        by_task = _task_gains(tasks, gains, method, other, backbone) if task_split == "unseen" else None
        found.append({**place, "against": other, **_measure(gains.to_numpy(float), by_task, task_split, seed)})
    names = [
        "backbone",
        "method",
        "task_split",
        "k",
        "gallery",
        "against",
        "n_seeds",
        "gain",
        "p",
        "low",
        "high",
        "effect",
    ]
    frame = pd.DataFrame(found, columns=[*names, "std", "note"])
    frame.insert(len(names), "p_holm", np.nan)
    spreads = zip(frame.pop("std"), frame["n_seeds"], strict=True)
    frame.insert(len(names) + 1, "detectable", [_starrable(std, n, len(frame)) for std, n in spreads])
    frame.insert(len(names) + 2, "star", "")
    return corrected(frame)


def corrected(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return what `compare_to_static` returns with p_holm and stars for all rows of this frame together."""
    frame = comparisons.assign(p_holm=holm(comparisons["p"].to_numpy(float)))
    return frame.assign(star=[_star(row) for row in frame.itertuples()])


def holm(p: np.ndarray) -> np.ndarray:
    """Return Holm-corrected p values (m,); an undefined p stays NaN but counts in the family, as a 1 would."""
    known = np.nan_to_num(p, nan=1.0)
    order = known.argsort(kind="stable")
    stepped = np.maximum.accumulate(known[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    corrected = np.empty_like(known)
    corrected[order] = stepped
    return np.where(np.isnan(p), np.nan, corrected)


def bootstrap_interval(gains: np.ndarray, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return a bootstrap interval of the mean of paired gains (n,), n at least 2, resampling seeds."""
    from scipy.stats import bootstrap  # here, as others below: what trains or reads results needs no statistics

    # BCa divides by the spread of the leave-one-out means, zero where all gains are equal; percentiles of
    # the resampled means are then that one gain.
    method = "BCa" if np.ptp(gains) > 0 else "percentile"
    settings = {"n_resamples": RESAMPLES, "confidence_level": level, "rng": np.random.default_rng(seed)}
    interval = bootstrap((gains,), np.mean, method=method, **settings).confidence_interval
    return float(interval.low), float(interval.high)


def two_way_interval(gains: np.ndarray, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return a percentile interval of the mean gain, resampling seeds, and tasks or each seed's own tasks.

    Args:
        gains: of shape (seeds, tasks); NaN where a task is not one of that seed.
        level: of the interval.
        seed: of resampling.
    """
    rng = np.random.default_rng(seed)

    def fractions(n: int, *more: int) -> np.ndarray:  # how often each of n is drawn: (resamples, …, n)
        return rng.multinomial(n, np.full(n, 1 / n), size=(RESAMPLES, *more)) / n

    if np.isnan(gains).any():
        seeds = len(gains)
        drawn = rng.integers(seeds, size=(RESAMPLES, seeds))
        own = [row[~np.isnan(row)] for row in gains]
        # A seed that is drawn twice gets its tasks drawn twice.
        means = sum((drawn == i) * (fractions(len(row), seeds) @ row) for i, row in enumerate(own)).mean(axis=1)
    else:
        means = ((fractions(len(gains)) @ gains) * fractions(gains.shape[1])).sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def smallest_detectable_gain(std_of_differences: float, n_seeds: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the mean gain that a two-sided paired t-test over `n_seeds` finds with probability `power`.

    In the unit of `std_of_differences` (ddof 1, over seeds); NaN for fewer than two seeds or an unknown
    deviation. For a family of m tests give alpha / m: Holm's first step.
    """
    from scipy.optimize import brentq

    if n_seeds < 2 or np.isnan(std_of_differences):
        return float("nan")
    largest = 1.0
    while _power(largest, n_seeds, alpha) < power:
        largest *= 2
    return brentq(lambda d: _power(d, n_seeds, alpha) - power, 0.0, largest) * std_of_differences


def _power(effect: float, n: int, alpha: float) -> float:
    """Return the power of a two-sided one-sample t-test of n values whose mean is `effect` standard deviations.

    The density of the estimated deviation times the probability of a significant mean, integrated in three panels, of
    which the middle one holds the step; scipy's noncentral t is NaN for few values and a small alpha.
    """
    from scipy import special

    df, mean = n - 1, effect * np.sqrt(n)
    scale = np.sqrt(df) / special.stdtrit(df, 1 - alpha / 2)  # a mean of m is significant below a deviation of m scale
    low, high = max(0.0, np.sqrt(df) - 9), np.sqrt(df) + 9
    edges = np.clip([low, scale * (mean - 9), scale * (mean + 9), high], low, high)
    half = np.diff(edges)[:, None] / 2
    x = edges[:-1, None] + half * (1 + NODES)
    log_density = special.xlogy(df - 1, x) - x**2 / 2 - (df / 2 - 1) * np.log(2) - special.gammaln(df / 2)
    tails = special.ndtr(mean - x / scale) + special.ndtr(-mean - x / scale)
    return float((half * WEIGHTS * np.exp(log_density) * tails).sum())


def _measure(gains: np.ndarray, by_task: np.ndarray | None, task_split: str, seed: int) -> dict[str, object]:
    from scipy.stats import ttest_1samp

    n, nan = len(gains), float("nan")
    measured = {"n_seeds": n, "gain": gains.mean(), **dict.fromkeys(("p", "low", "high", "effect", "std"), nan)}
    measured["note"] = ""
    if np.isnan(gains).any() or (by_task is not None and np.isnan(by_task).all()):
        return {**measured, "note": "an accuracy is NaN"}
    if n < 2:
        return {**measured, "note": "one seed"}
    interval = bootstrap_interval(gains, seed=seed) if by_task is None else two_way_interval(by_task, seed=seed)
    measured["low"], measured["high"] = interval
    measured["std"] = gains.std(ddof=1)
    if np.ptp(gains) == 0:
        return {**measured, "note": "all differences equal: no t-test"}
    # The paired t-test is the one-sample test of the differences.
    measured["p"] = float(ttest_1samp(gains, 0.0).pvalue)
    measured["effect"] = gains.mean() / measured["std"]
    if task_split == "unseen" and by_task is None:
        measured["note"] = SEEDS_ONLY
    return measured


def _starrable(std: float, n_seeds: int, family: int) -> float:
    if n_seeds < SEEDS_FOR_A_STAR:
        return float("nan")
    return smallest_detectable_gain(std, n_seeds, alpha=SIGNIFICANT / family)


def _star(row: Any) -> str:
    if row.n_seeds < SEEDS_FOR_A_STAR:
        return "n too small"
    return "*" if row.gain > 0 and row.p_holm < SIGNIFICANT and row.low > 0 else ""


def _task_gains(
    tasks: pd.DataFrame | None, gains: pd.Series, method: str, against: str, backbone: str
) -> np.ndarray | None:
    """Return gains (seeds, tasks), NaN for tasks of other seeds; all NaN where an accuracy is; None without tasks."""
    if tasks is None:
        return None
    _need(tasks, ["method", "backbone", "seed", "task", "accuracy"])
    _once(tasks, ["method", "backbone", "seed", "task"])
    here = tasks[tasks["backbone"] == backbone]
    a, b = (
        here[here["method"] == name].pivot(index="seed", columns="task", values="accuracy")
        for name in (method, against)
    )
    if not (a.index.equals(b.index) and a.columns.equals(b.columns) and list(a.index) == list(gains.index)):
        raise InputError(
            f"{method} and {against} on {backbone} differ in seeds or tasks: give every task of every seed."
        )
    measured = here[here["method"].isin((method, against))]["accuracy"]
    gained = (a - b).to_numpy(float).round(12)
    return gained if measured.notna().all() else np.full_like(gained, np.nan)


def _need(frame: pd.DataFrame, columns: list[str]) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"The results lack the columns {', '.join(missing)}.")


def _once(frame: pd.DataFrame, keys: list[str]) -> None:
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        where = ", ".join(f"{name} {twice.iloc[0][name]}" for name in keys)
        raise InputError(f"There are two results for {where}: keep one.")


def _one_suite(rows: pd.DataFrame) -> None:
    if "suite" in rows and rows["suite"].nunique() > 1:
        raise InputError(f"Compare one suite at a time, not {', '.join(rows['suite'].unique())}.")
