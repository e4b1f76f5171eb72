"""Cells: what is trained for their rows, and with how many parameters."""

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job import equal_budget, run_job
from metalora.models.adapt import adapt
from metalora.models.backbones import load_backbone
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig


@pytest.mark.parametrize("extractor", ["self", "stem"])
def test_all_rows_that_undo_shifts_have_the_same_reader(extractor):
    config = ComparisonConfig(
        suite=SuiteConfig(max_queries=60, image_size=8),
        backbones=("resnet20",),
        methods=("original@8-inverted", "lora-equal-budget@8-inverted"),
        training=TrainingConfig(steps=1, batch_size=8, device="cpu"),
        ks=(1,),
        extractor=extractor,
        hidden=8,
        rank=1,
    )
    rows = [row for job in config.jobs(0, 0.01) for row in run_job(job)["rows"]]
    readers = {row["method"]: row["generator_parameters"] for row in rows}
    features = {"self": 16 + 32 + 64, "stem": 16}[extractor]
    assert features < readers["original@8-inverted"] / 8
    assert len(set(readers.values())) == 1 and len(readers) == 2


@pytest.mark.parametrize("backbone", ["resnet20", "mixer_nano"])
def test_equal_budget_means_the_generated_method_s_total(backbone):
    net = load_backbone(backbone, pretrained=False)
    reference = AdapterConfig("metalora-tr", rank=3)
    budget = adapt(net, equal_budget(net, reference)).budget().loc["total"]
    assert budget["generator_parameters"] == 0
    wanted = adapt(net, reference).budget().loc["total"]
    goal = wanted["adapter_parameters"] + wanted["generator_parameters"]
    assert goal <= budget["adapter_parameters"] < 1.15 * goal
