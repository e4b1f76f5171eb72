"""The sentence of a comparison follows from its rows, in whatever direction they point."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from metalora.experiments.comparison import Comparison
from metalora.experiments.conclusion import NOTHING_RAN, conclude, format_gain, readable
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.results import load_bundled
from metalora.experiments.short_table import GROUPS, matches, short_rows

EMPTY = pd.DataFrame()


def compared(seen, unseen=None, *, n_seeds=8, against="lora-equal-budget"):
    """A comparison of one generated row; a split is (gain, low, high, star)."""
    splits = {"seen": seen} if unseen is None else {"seen": seen, "unseen": unseen}
    names = ("lora-equal-budget", "metalora-tr@8")
    place = {"backbone": "resnet20", "suite": "digits", "gallery": "pooled", "k": 5, "validation": 0.5}
    rows = [
        {**place, "method": name, "task_split": split, "seed": 0, "accuracy": 0.5, "static": True, "generated": False}
        for name in names
        for split in splits
    ]
    gains = [
        {**place, "method": names[1], "task_split": split, "against": against, "n_seeds": n_seeds}
        | dict(zip(("gain", "low", "high", "star"), values, strict=True))
        for split, values in splits.items()
    ]
    config = ComparisonConfig(methods=names, controls=False)
    stored = {"gains": pd.DataFrame(gains), "set_gains": None}
    return Comparison(config, pd.DataFrame(rows), EMPTY, EMPTY, EMPTY, "pooled", stored=stored)


STAR, LOSS, FLAT = (0.058, 0.053, 0.064, "*"), (-0.03, -0.04, -0.02, ""), (0.002, -0.01, 0.014, "")
FEW, FEW_LOSS = (0.058, 0.053, 0.064, "n too small"), (-0.03, -0.04, -0.02, "n too small")


@pytest.mark.parametrize(
    ("seen", "unseen", "n_seeds", "said"),
    [
        (STAR, STAR, 8, "significantly beats LoRA (equal budget) on seen and unseen tasks: +5.8 points on seen tasks"),
        (STAR, FLAT, 8, "on seen tasks, but does not significantly beat it on unseen tasks"),
        (FLAT, FLAT, 8, "does not significantly beat LoRA (equal budget) on seen and unseen tasks: +0.2 points"),
        (LOSS, LOSS, 8, "is worse than LoRA (equal budget) on seen and unseen tasks: −3.0 points"),
        (FEW, FEW, 3, "may beat LoRA (equal budget) on seen and unseen tasks"),
        (FEW, FEW_LOSS, 3, "on seen tasks, but may be worse than it on unseen tasks"),
    ],
)
def test_the_sentence_says_what_the_rows_show_and_how_sure_that_is(seen, unseen, n_seeds, said):
    sentence = conclude(compared(seen, unseen, n_seeds=n_seeds), "resnet20")[0]
    assert sentence.startswith("Meta-LoRA TR (sets of 8) ") and said in sentence
    assert sentence.endswith("3 seeds are too few to be sure, 6 are needed." if n_seeds < 6 else "over 8 seeds.")
    assert f"(95 % interval {format_gain(seen[1])} to {format_gain(seen[2])})" in sentence


def test_one_seed_tells_nothing():
    (sentence,) = conclude(compared((0.05, math.nan, math.nan, "n too small"), n_seeds=1), "resnet20")
    assert sentence.startswith("One seed cannot tell whether") and "interval" not in sentence


def test_what_is_not_compared_is_not_judged():
    whole = compared(STAR, STAR)
    assert conclude(replace(whole, rows=whole.rows[:0]), "resnet20") == [NOTHING_RAN]
    partial = replace(whole, stored={}, missing=3)
    assert conclude(partial, "resnet20")[0].startswith("Not tested: 3 of the trainings are missing")
    assert "No generated row is compared" in conclude(load_bundled("primary/full"), "resnet20")[0]


def test_the_main_study_is_described_by_its_own_numbers():
    main = load_bundled("primary/main")
    gains = main.gains.set_index(["method", "task_split"])
    validation = main.rows.groupby("method")["validation"].mean()
    best = validation[[name for name in validation.index if name in set(main.gains["method"])]].idxmax()
    sentence = conclude(main, "resnet20")[0]
    assert sentence.startswith(readable(best))
    for split in ("seen", "unseen"):
        assert format_gain(gains.loc[(best, split), "gain"]) in sentence


def test_the_row_of_the_sentence_is_chosen_among_those_asked_about():
    main = load_bundled("primary/main")
    assert conclude(main, "resnet20", ["metalora-tr-factors@1"])[0].startswith("Meta-LoRA TR (factor code, single")


def test_gains_are_printed_with_a_sign_and_no_negative_zero():
    assert [format_gain(gain) for gain in (0.0584, -0.0204, -0.0001, math.nan)] == [
        "+5.8",
        "−2.0",
        "0.0",
        "not applicable",
    ]


def test_the_short_table_has_every_row_with_its_stars_and_what_is_not_tested():
    main = load_bundled("primary/main")
    rows = {row.name: row for row in short_rows(main, "resnet20")}
    assert set(rows) == set(map(str, main.config.variants))
    assert [row.group for row in rows.values()] == sorted((row.group for row in rows.values()), key=GROUPS.index)
    eight = rows["metalora-tr-factors@8"]
    assert (eight.accuracies["seen"].text, eight.gains["seen"].text) == ("66.8*", "+5.8")
    assert eight.gains["unseen"].remark == "(+1.1 to +3.2)"
    assert rows["lora-equal-budget"].gains["seen"].text == "reference"
    assert rows["metalora-tr-factors-shuffled@8"].gains["seen"].remark == "not tested"
    assert not rows["metalora-tr-factors-oracle"].accuracies["unseen"].bold
    partial = load_bundled("primary/steps-4800")
    texts = [entry.text for row in short_rows(partial, "resnet20") for entry in row.accuracies.values()]
    assert "not run" in texts


def test_rows_are_found_by_words_of_their_name_or_title():
    assert matches("metalora-tr-factors@8", "TR sets") and matches("lora@8-routed", "@8 lora")
    assert not matches("lora", "meta") and matches("lora", "")
