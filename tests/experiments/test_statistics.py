"""Statistics against scipy called directly, by hand, and in seeded simulations of a known truth."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from metalora.experiments.statistics import (
    SEEDS_ONLY,
    _power,
    best_static,
    bootstrap_interval,
    compare_to_static,
    holm,
    paired_gains,
    smallest_detectable_gain,
    summarise,
    two_way_interval,
)
from metalora.util.errors import InputError

TR = [0.60, 0.62, 0.61, 0.65, 0.63, 0.64]
LORA = [0.55, 0.58, 0.54, 0.59, 0.60, 0.57]


def results(method, accuracies, *, validation=0.5, **more):
    generated = method.startswith("metalora")
    base = {"method": method, "backbone": "net", "suite": "shifts", "task_split": "seen", "gallery": "pooled", "k": 5}
    flags = {"validation": validation, "generated": generated, "static": not generated}
    return pd.DataFrame([{**base, "seed": i, "accuracy": a, **flags, **more} for i, a in enumerate(accuracies)])


def rows(*frames):
    return pd.concat(frames, ignore_index=True)


def test_summary_by_hand():
    frame = rows(
        results("lora", [0.5, 0.7], static_parameters=900, correct=3), results("lora", [0.4], k=10), results("b", [1])
    )
    summary = summarise(frame)
    assert summary["mean"].tolist() == [0.6, 0.4, 1.0]
    assert summary["std"].tolist()[0] == pytest.approx(math.sqrt(0.02))
    assert summary["std"].isna().tolist() == [False, True, True]
    assert summary["n_seeds"].tolist() == [2, 1, 1]
    assert summary["static_parameters"].tolist()[0] == 900
    assert not {"correct", "seed", "accuracy"} & set(summary.columns)


def test_a_failed_seed_does_not_vanish_from_the_mean():
    assert math.isnan(summarise(results("lora", [0.5, math.nan]))["mean"][0])


def test_a_seed_given_twice_is_refused():
    with pytest.raises(InputError, match=r"two results for method lora.*seed 0"):
        summarise(rows(results("lora", [0.5]), results("lora", [0.6])))


def test_best_static_is_chosen_on_validation_among_static_rows():
    frame = rows(
        results("lora", [0.9, 0.9], validation=0.50),
        results("lora-equal-budget", [0.1, 0.1], validation=0.60),
        results("metalora-tr", [0.9, 0.9], validation=0.99),
        results("metalora-tr-shuffled", [0.9, 0.9], validation=0.98, generated=False, static=False),
        results("lora", [0.9, 0.9], validation=0.7, backbone="mixer"),
    )
    assert best_static(frame) == {"net": "lora-equal-budget", "mixer": "lora"}
    with pytest.raises(InputError, match="net has no static row"):
        best_static(results("metalora-tr", [0.5]))
    with pytest.raises(InputError, match="several validation accuracies"):
        best_static(rows(results("lora", [0.5], validation=0.1), results("lora", [0.5], validation=0.2, k=10)))


def test_one_comparison_is_what_scipy_says():
    (row,) = compare_to_static(rows(results("metalora-tr", TR), results("lora", LORA))).itertuples()
    gains = np.array(TR) - np.array(LORA)
    assert (row.method, row.against, row.task_split, row.k, row.n_seeds) == ("metalora-tr", "lora", "seen", 5, 6)
    assert row.gain == pytest.approx(0.32 / 6)
    assert row.p == pytest.approx(stats.ttest_rel(TR, LORA).pvalue, rel=1e-9)
    assert row.p_holm == row.p
    assert row.effect == pytest.approx(gains.mean() / gains.std(ddof=1))
    expected = stats.bootstrap((gains,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert (row.low, row.high) == pytest.approx(tuple(expected), abs=1e-9)
    assert (row.star, row.note) == ("*", "")
    assert row.detectable == pytest.approx(smallest_detectable_gain(gains.std(ddof=1), 6))


def test_seeds_are_paired_by_name_and_not_by_order():
    frame = rows(results("metalora-tr", TR), results("lora", LORA).iloc[::-1])
    gains = paired_gains(frame, "metalora-tr", "lora", backbone="net", task_split="seen")
    assert gains.to_dict() == pytest.approx({i: a - b for i, (a, b) in enumerate(zip(TR, LORA, strict=True))})
    with pytest.raises(InputError, match="run the same seeds for both"):
        compare_to_static(rows(results("metalora-tr", TR), results("lora", LORA[:5])))


def test_five_seeds_never_earn_a_star():
    frame = rows(results("metalora-tr", [0.9, 0.91, 0.92, 0.93, 0.95]), results("lora", [0.1] * 5))
    (row,) = compare_to_static(frame).itertuples()
    assert row.p_holm < 1e-6
    assert row.star == "n too small" and math.isnan(row.detectable)


def test_a_significant_loss_earns_no_star():
    (row,) = compare_to_static(rows(results("metalora-tr", LORA), results("lora", TR))).itertuples()
    assert row.p_holm < 0.05
    assert row.high < 0
    assert row.star == ""


def test_holm_by_hand():
    # Sorted .01, .02, .04 times 3, 2, 1: .03, .04, .04 (never below the one before).
    assert holm(np.array([0.04, 0.01, 0.02])) == pytest.approx([0.04, 0.03, 0.04])
    # An undefined p counts in the family: .03 times 2.
    assert holm(np.array([math.nan, 0.03])) == pytest.approx([math.nan, 0.06], nan_ok=True)


def test_the_family_is_the_whole_table():
    frame = rows(
        results("metalora-tr", TR), results("lora", LORA), results("metalora-cp", [0.6, 0.5, 0.6, 0.5, 0.6, 0.5])
    )
    other = frame.assign(task_split="unseen")
    compared = compare_to_static(rows(frame, other, frame.assign(k=10), frame.assign(gallery="within")))
    assert len(compared) == 4
    smallest = compared["p"].min()
    assert compared["p_holm"].min() == pytest.approx(4 * smallest)
    spread = (np.array(TR) - np.array(LORA)).std(ddof=1)
    assert compared["detectable"].iloc[0] == pytest.approx(smallest_detectable_gain(spread, 6, alpha=0.05 / 4))
    assert set(compared.loc[compared["task_split"] == "unseen", "note"]) == {SEEDS_ONLY}


def test_a_named_row_can_be_held_against():
    frame = rows(results("metalora-tr", TR), results("lora", LORA, validation=0.9), results("lora@8", TR))
    (row,) = compare_to_static(frame, against="lora@8").itertuples()
    assert (row.against, row.gain) == ("lora@8", 0)


@pytest.mark.parametrize(
    ("mine", "theirs", "gain", "note"),
    [
        ([0.55, 0.35] * 3, [0.50, 0.30] * 3, 0.05, "all differences"),
        ([0.5] * 6, [0.5] * 6, 0, "all differences"),
        ([0.6], [0.5], 0.1, "one seed"),
        ([0.6, math.nan, 0.6, 0.6, 0.6, 0.6], [0.5] * 6, math.nan, "an accuracy is NaN"),
    ],
)
def test_degenerate_cases_give_words_and_no_warning(mine, theirs, gain, note):
    (row,) = compare_to_static(rows(results("metalora-tr", mine), results("lora", theirs))).itertuples()
    assert row.gain == pytest.approx(gain, nan_ok=True)
    assert math.isnan(row.p)
    assert math.isnan(row.p_holm)
    assert math.isnan(row.effect)
    assert row.note.startswith(note)
    assert row.star == ("" if len(mine) >= 6 else "n too small")
    if note == "all differences":
        assert (row.low, row.high) == pytest.approx((gain, gain))


def test_no_generated_method_gives_an_empty_frame_with_all_columns():
    compared = compare_to_static(results("lora", LORA))
    assert len(compared) == 0
    assert {"star", "p_holm", "note"} <= set(compared.columns)


def test_what_does_not_fit_is_said():
    frame = rows(results("metalora-tr", TR), results("lora", LORA))
    with pytest.raises(InputError, match="K=7"):
        compare_to_static(frame, k=7)
    with pytest.raises(InputError, match="one suite at a time"):
        compare_to_static(rows(frame, frame.assign(suite="digits")))
    with pytest.raises(InputError, match="lack the columns generated"):
        compare_to_static(frame.drop(columns="generated"))


def by_task(method, gains):
    return pd.DataFrame(
        [
            {"method": method, "backbone": "net", "seed": i, "task": f"t{j}", "accuracy": 0.5 + gain}
            for i, row in enumerate(gains)
            for j, gain in enumerate(row)
        ]
    )


def test_unseen_intervals_resample_tasks():
    rng = np.random.default_rng(2)
    gains = 0.02 + rng.normal(0, 0.05, 8) + rng.normal(0, 0.002, (6, 8))  # tasks differ much, seeds hardly
    unseen = {"task_split": "unseen"}
    frame = rows(results("metalora-tr", 0.5 + gains.mean(1), **unseen), results("lora", [0.5] * 6, **unseen))
    tasks = rows(by_task("metalora-tr", gains), by_task("lora", np.zeros((6, 8))))
    (narrow,) = compare_to_static(frame).itertuples()
    (wide,) = compare_to_static(frame, tasks=tasks).itertuples()
    assert (wide.low, wide.high) == pytest.approx(two_way_interval(gains), abs=1e-9)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    assert (narrow.star, wide.star) == ("*", "")
    assert (wide.p, wide.note) == (narrow.p, "")
    with pytest.raises(InputError, match="every task of every seed"):
        compare_to_static(frame, tasks=tasks[tasks["seed"] > 0])


def test_tasks_that_differ_by_seed_are_resampled_within_it():
    rng = np.random.default_rng(3)
    gains = rng.normal(0.03, 0.01, (6, 4))
    apart = np.full((6, 24), np.nan)  # the same numbers, as those of 24 tasks
    for seed in range(6):
        apart[seed, 4 * seed : 4 * seed + 4] = gains[seed]
    low, high = two_way_interval(apart)
    assert low < gains.mean() < high
    # The spread of a mean of six seeds' means, each of which is a mean of four.
    spread = np.sqrt((gains.mean(axis=1).var() + gains.var(axis=1).mean() / 4) / 6)
    assert (high - low) / (2 * 1.96) == pytest.approx(spread, rel=0.1)


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(1)
    covered = np.array(
        [low < 0.03 < high for low, high in (bootstrap_interval(rng.normal(0.03, 0.01, 10)) for _ in range(150))]
    )
    assert 0.84 < covered.mean() < 0.99  # 95 % asymptotically, some points less with ten seeds
    both, seeds_only = [], []
    for _ in range(150):
        gains = 0.03 + rng.normal(0, 0.01, (8, 1)) + rng.normal(0, 0.02, (1, 10)) + rng.normal(0, 0.01, (8, 10))
        low, high = two_way_interval(gains)
        both.append(low < 0.03 < high)
        low, high = bootstrap_interval(gains.mean(axis=1))
        seeds_only.append(low < 0.03 < high)
    assert 0.88 < np.mean(both) <= 1
    assert np.mean(seeds_only) < 0.8  # why tasks are resampled


@pytest.mark.parametrize(("gain", "fewest", "most"), [(0.0, 0.0, 0.05), (0.02, 0.9, 1.0)])
def test_rate_of_stars(gain, fewest, most, monkeypatch):
    monkeypatch.setattr("metalora.experiments.statistics.RESAMPLES", 999)
    rng = np.random.default_rng(2)
    stars = 0
    for _ in range(120):
        mine, theirs = 0.5 + gain + rng.normal(0, 0.007, 6), 0.5 + rng.normal(0, 0.007, 6)
        stars += compare_to_static(rows(results("metalora-tr", mine), results("lora", theirs)))["star"][0] == "*"
    assert fewest <= stars / 120 <= most


def test_the_smallest_detectable_gain_is_found_four_times_in_five():
    gain = smallest_detectable_gain(0.01, 6)
    rng = np.random.default_rng(3)
    found = stats.ttest_1samp(rng.normal(gain, 0.01, (4000, 6)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.025)
    assert smallest_detectable_gain(0.02, 6) == pytest.approx(2 * gain)
    assert smallest_detectable_gain(0.01, 12) < gain
    assert smallest_detectable_gain(0.0, 6) == 0
    # Two seeds and a small alpha: the t distribution is Cauchy's, so the bound is far out, but there is one.
    assert 500 < smallest_detectable_gain(1.0, 2, 0.001) < 1000
    for std, n, alpha in [(0.01, 1, 0.05), (math.nan, 6, 0.05)]:
        assert math.isnan(smallest_detectable_gain(std, n, alpha))


@pytest.mark.parametrize("n", [2, 3, 6, 30, 200])
@pytest.mark.parametrize("alpha", [0.05, 0.0025, 1e-5])
def test_the_power_without_an_effect_is_alpha(n, alpha):
    assert _power(0.0, n, alpha) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize(("n", "alpha", "effect"), [(3, 0.05, 1.0), (6, 0.05, 0.5), (6, 0.0025, 2.0), (30, 0.01, 0.6)])
def test_the_power_is_that_of_the_noncentral_t_distribution(n, alpha, effect):
    critical, away = stats.t.isf(alpha / 2, n - 1), effect * np.sqrt(n)
    wanted = stats.nct.sf(critical, n - 1, away) + stats.nct.cdf(-critical, n - 1, away)
    assert _power(effect, n, alpha) == pytest.approx(wanted, abs=1e-9)
