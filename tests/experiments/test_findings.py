"""Sentences on what a comparison found."""

import pandas as pd
import pytest

from metalora.experiments.comparison import RESULTS, Comparison
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.findings import accuracies_of, answer, findings, gains_of, on_study
from metalora.experiments.first_look import FIRST_LOOK, QUESTION, STUDY
from metalora.experiments.results import FOLDER, load_comparison
from metalora.experiments.runner import jobs_of
from metalora.experiments.statistics import SEEDS_FOR_A_STAR, holm

EMPTY = pd.DataFrame()


def comparison(accuracies, best_steps=None, steps=80):
    rows = [
        {
            "method": method,
            "backbone": "resnet20",
            "suite": "digits",
            "seed": 0,
            "task_split": task_split,
            "gallery": gallery,
            "k": k,
            "accuracy": value - (0.3 if (gallery, k) != ("pooled", 5) else 0),
            "generated": False,
            "static": True,
            "steps": steps,
            "static_parameters": 1,
            "generator_parameters": 0,
            "generator_flops": 0,
            "ms_per_step": 1.0,
            **({} if best_steps is None else {"best_step": best_steps.get(method)}),
        }
        for method, values in accuracies.items()
        for task_split, value in values.items()
        for gallery in ("pooled", "within")
        for k in (5, 10)
    ]
    config = ComparisonConfig(methods=tuple(accuracies))
    return Comparison(config, pd.DataFrame(rows), EMPTY, EMPTY, EMPTY, "pooled")


def test_rows_that_beat_the_original_are_named_and_counted():
    said = findings(
        comparison(
            {
                "original": {"seen": 0.534, "unseen": 0.679},
                "lora": {"seen": 0.6, "unseen": 0.6},
                "metalora-tr": {"seen": 0.7, "unseen": 0.62},
            }
        )
    )
    assert said[0] == (
        "All 2 rows beat the original network (53.4 %) on seen tasks with resnet20, K = 5: "
        "best is metalora-tr with 70.0 %."
    )
    assert said[1].startswith("No row beats the original network (67.9 %) on unseen tasks")


def test_a_row_that_prints_the_same_number_does_not_beat_the_original():
    accuracies = {"original": {"seen": 0.5}, "lora": {"seen": 0.5004}, "multi-lora": {"seen": 0.51}}
    (said,) = findings(comparison(accuracies))
    assert said.startswith("1 of 2 rows beat") and said.endswith("best is multi-lora with 51.0 %; not lora.")


def test_methods_whose_cores_do_not_pay_are_named():
    found = comparison({"lora": {"seen": 0.5}, "metalora-cp": {"seen": 0.6}, "metalora-tr": {"seen": 0.6}})
    found.rows["gate"] = found.rows["method"].map({"metalora-cp": 0.0, "metalora-tr": 0.5})
    assert findings(found) == [
        "By validation, cores of their own do not pay, so all images get one: metalora-cp on resnet20."
    ]


def test_validation_that_rises_to_the_end_asks_for_more_steps():
    accuracies = {"original": {"seen": 0.5}, "lora": {"seen": 0.6}, "metalora-cp": {"seen": 0.6}}
    said = findings(comparison(accuracies, {"lora": 80, "metalora-cp": 60}))
    assert said[1] == "Validation was still rising at the end for lora: try --steps 160."
    assert len(said) == 2


def test_a_training_that_only_harmed_is_said_to_change_nothing():
    said = findings(comparison({"original": {"seen": 0.5}, "lora": {"seen": 0.5}}, {"lora": 0}))
    assert said[-1].endswith("changes nothing: lora on resnet20.")


def asked(own, others, static, seeds):
    """A first look whose rows have these accuracies on seen tasks, plus a little that differs from seed to seed."""
    accuracies = {QUESTION.method: own, **dict(zip(QUESTION.others, (others, static), strict=True))}
    rows = [
        {
            "method": method,
            "backbone": "resnet20",
            "suite": "digits",
            "seed": seed,
            "task_split": task_split,
            "gallery": "pooled",
            "k": 5,
            "accuracy": value + 0.001 * ((seed * 7 + len(method)) % 5) if task_split == "seen" else 0.1,
            "validation": value,
            "generated": method == QUESTION.method,
            "static": method == "lora-equal-budget",
        }
        for method, value in accuracies.items()
        for seed in range(seeds)
        for task_split in ("seen", "unseen")
    ]
    return Comparison(FIRST_LOOK, pd.DataFrame(rows), EMPTY, EMPTY, EMPTY, "pooled")


def test_the_answer_says_what_was_found_and_how_sure_it_is():
    found, sure = answer(asked(0.96, 0.89, 0.959, 6), QUESTION)
    assert found.startswith("Generated cores fit the images that they are generated for: ")
    assert "96.2 % with the cores of their own set of eight, 89.2 % with the cores of other images" in found
    own, static = sure.split(" and ")
    assert "7.0 points better than the cores of other images" in own and own.endswith("unlikely to be chance)")
    assert "better than LoRA of as many parameters" in static and static.endswith("may be chance).")
    assert sure.startswith("Over 6 seeds") and "95 % interval" in own and "p < 0.0001" in own


@pytest.mark.parametrize(
    ("own", "others", "verdict"),
    [(0.9, 0.9, "may be chance"), (0.85, 0.9, "unlikely to be chance")],
    ids=["no difference", "a loss"],
)
def test_the_answer_says_when_the_finding_did_not_hold(own, others, verdict):
    found, sure = answer(asked(own, others, 0.5, 6), QUESTION)
    assert found.startswith("These rows do not show that generated cores fit the images")
    assert verdict in sure.split(" and ")[0]
    assert ("worse than the cores of other images" in sure) is (own < others)


def test_few_seeds_are_not_enough_for_the_finding():
    found, sure = answer(asked(0.96, 0.8, 0.5, 5), QUESTION)
    assert found.startswith("These rows do not show") and "too few seeds to be sure" in sure
    assert answer(asked(0.96, 0.8, 0.5, 1), QUESTION)[1].endswith("use --seeds 6.")


def test_p_values_are_corrected_for_both_comparisons():
    gains = gains_of(asked(0.96, 0.89, 0.959, 6), QUESTION)
    assert list(gains["against"]) == list(QUESTION.others)
    assert (gains["p_holm"] == holm(gains["p"].to_numpy())).all() and gains["p_holm"].min() > gains["p"].min()


def test_the_study_behind_the_first_look_asked_the_same_and_it_held_there():
    study = load_comparison(FOLDER / STUDY[0] / STUDY[1] / RESULTS)
    assert answer(study, QUESTION)[0].startswith(QUESTION.claim)
    means = accuracies_of(study, QUESTION)
    assert all(f"{100 * mean:.1f} % with {words}" in on_study() for words, mean in means.items())


def test_the_first_look_has_the_rows_of_its_question_and_seeds_for_a_star():
    assert {QUESTION.method, *QUESTION.others} < set(FIRST_LOOK.methods) and len(FIRST_LOOK.backbones) == 1
    assert FIRST_LOOK.seeds == SEEDS_FOR_A_STAR and FIRST_LOOK.ks == (5,)
    assert len([job for job in jobs_of(FIRST_LOOK) if job.trained.is_trained]) == 2 * FIRST_LOOK.seeds
