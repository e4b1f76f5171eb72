"""One training used with sets of several sizes: rows, table, figure, and what no image gives."""

from dataclasses import replace

import pytest
import torch

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import code_of_nothing, embed
from metalora.experiments.comparison import Comparison
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.contexts import context_rows, context_table, has_contexts
from metalora.experiments.job import run_job
from metalora.experiments.job_files import PARTS
from metalora.plots.context_curves import context_figure
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError

CONFIG = ComparisonConfig(
    suite=SuiteConfig(max_queries=30, image_size=8),
    backbones=("resnet20",),
    methods=("original", "metalora-tr@contexts", "metalora-tr", "icrm-equal-budget@8", "icrm-equal-budget@1"),
    training=TrainingConfig(steps=1, batch_size=16, device="cpu"),
    ks=(1,),
    rank=1,
    hidden=4,
)


@pytest.fixture(scope="module")
def comparison():
    import pandas as pd

    results = [run_job(job) for job in CONFIG.jobs(0, 0.01)]
    assert len(results) == 4
    frames = [pd.DataFrame([row for result in results for row in result[name]]) for name in PARTS]
    return Comparison(CONFIG, *frames, pd.DataFrame(), "pooled")


def test_contexts_are_seven_rows_of_one_training():
    assert [str(variant) for variant in CONFIG.variants[1:8]] == [
        f"metalora-tr@{size}" for size in (0, 1, 2, 4, 8, 25, 50)
    ]
    assert ComparisonConfig.from_dict(CONFIG.to_dict()) == CONFIG


def test_rows_are_by_training_and_size(comparison):
    rows = context_rows(comparison)
    sizes = {name: list(group[group["task_split"] == "seen"]["set_size"]) for name, group in rows.groupby("row")}
    assert sizes == {
        "original": [""],
        "metalora-tr": ["1"],
        "metalora-tr (trained with sets)": ["0", "1", "2", "4", "8", "25", "50"],
        "icrm-equal-budget (trained with sets)": ["8", "1"],
    }
    assert set(comparison.rows.loc[comparison.rows["method"] == "metalora-tr@0", "set_size"]) == {0}
    worst = context_rows(comparison, worst=True)
    assert len(worst) == len(rows) and (worst["mean"] <= rows["mean"] + 1e-12).all()
    assert has_contexts(comparison)
    assert not has_contexts(replace(comparison, config=replace(CONFIG, methods=("lora", "metalora-tr@8"))))


def test_the_table_has_a_column_for_every_size(comparison):
    table = context_table(comparison, "resnet20")
    assert [heading for _, heading in table.columns] == ["training", "0", "1", "2", "4", "8", "25", "50"]
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert texts["original"][1].count("/") == 1 and texts["original"][0] == "not run"
    assert all(" / " in text for text in texts["metalora-tr (trained with sets)"])


def test_the_figure_has_a_line_for_every_training(comparison):
    figure = context_figure(context_rows(comparison))
    lines = {trace.name: trace for trace in figure.data if trace.showlegend}
    assert set(lines) == {
        "Original",
        "Meta-LoRA TR",
        "Meta-LoRA TR, trained with sets",
        "ICRM, equal budget, trained with sets",
    }
    assert list(lines["Meta-LoRA TR, trained with sets"].x) == ["0", "1", "2", "4", "8", "25", "50"]
    assert len(set(lines["Original"].y)) == 1 and lines["Original"].line.dash == "dash"
    assert "several sizes" in context_figure(context_rows(comparison)[:0]).layout.annotations[0].text


def test_a_job_has_the_accuracy_of_its_head(comparison):
    rows = comparison.rows[comparison.rows["gallery"] == "linear head"]
    assert set(rows["method"]) == {str(variant) for variant in CONFIG.variants if variant.has_head}
    assert set(rows["task_split"]) == {"seen", "unseen"} and set(rows["k"]) == {0}
    assert "original" not in set(rows["method"]) and rows["accuracy"].between(0, 1).all()


@pytest.mark.parametrize("factors", [(), (4, 2, 2)])
def test_without_an_image_all_get_the_core_of_no_evidence(factors):
    config = metalora.AdapterConfig("metalora-tr", rank=1, factors=factors)
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), config)
    images = torch.rand(3, 3, 8, 8)
    code = code_of_nothing(model)
    embeddings = embed(model, images, EmbedConfig(set_size=0, device="cpu"))
    torch.testing.assert_close(embeddings, model(images, cores=model.cores(code)))
    if factors:
        assert code.tolist()[0] == [0.25] * 4 + [0.5] * 4
    else:
        identity = metalora.Cores({name: torch.eye(1)[None] for name in model.layers})
        torch.testing.assert_close(embeddings, model(images, cores=identity))
    with pytest.raises(InputError, match="lora generates no cores that could be left out"):
        embed(metalora.adapt("resnet20", metalora.AdapterConfig("lora")), images, EmbedConfig(set_size=0, device="cpu"))
