"""Jobs: what is trained for their rows, with how many parameters, and that stored accuracies come out again."""

from dataclasses import replace

import pytest
import torch

from metalora.adapters.config import AdapterConfig
from metalora.experiments import job as jobs
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.equal_budget import equal_budget
from metalora.experiments.job import run_job
from metalora.experiments.results import load_bundled
from metalora.models.adapt import adapt
from metalora.models.backbones import load_backbone
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig


@pytest.mark.parametrize("extractor", ["self", "stem"])
def test_all_rows_with_inverted_transforms_have_the_same_reader(extractor):
    config = ComparisonConfig(
        suite=SuiteConfig(max_queries=30, image_size=8),
        backbones=("resnet20",),
        methods=("original@8-inverted", "lora-equal-budget@8-inverted"),
        training=TrainingConfig(steps=1, batch_size=32, device="cpu"),
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
def test_equal_budget_means_the_total_of_the_generated_method(backbone):
    net = load_backbone(backbone, pretrained=False)
    reference = AdapterConfig("metalora-tr", rank=3)
    budget = adapt(net, equal_budget(net, reference)).budget().loc["total"]
    assert budget["generator_parameters"] == 0
    wanted = adapt(net, reference).budget().loc["total"]
    goal = wanted["adapter_parameters"] + wanted["generator_parameters"]
    assert goal <= budget["adapter_parameters"] < 1.15 * goal


def test_the_original_backbone_has_the_accuracies_in_the_bundled_results():
    # Trained rows depend on the machine: the order of sums differs.
    stored = load_bundled("digits-default")
    config = replace(stored.config, backbones=("resnet20",), methods=("original",))
    (job,) = config.jobs(0, config.training.lr)
    rows = stored.rows[(stored.rows["method"] == "original") & (stored.rows["backbone"] == "resnet20")]
    assert [row["accuracy"] for row in run_job(job)["rows"]] == pytest.approx(list(rows["accuracy"]), abs=1e-9)


def test_augbn_has_the_share_that_is_best_on_validation(monkeypatch):
    config = ComparisonConfig(
        suite=SuiteConfig(max_queries=10, image_size=8), backbones=("resnet20",), methods=("original@1-augbn",), ks=(1,)
    )
    validations = {0.1: 0.3, 0.2: 0.5, 0.4: 0.5}
    monkeypatch.setattr(jobs, "SHARES", tuple(validations))
    monkeypatch.setattr(
        jobs, "validation_accuracy", lambda suite, features, embed_config: validations[embed_config.augbn_share]
    )
    embedded = []
    monkeypatch.setattr(
        jobs, "embed_splits", lambda model, suite, embed_config, *_: embedded.append(embed_config) or features_of(suite)
    )
    rows = run_job(config.jobs(0, 0.01)[0])["rows"]
    assert embedded[-1].augbn_share == 0.2 and embedded[-1].set_use == "augbn"
    assert all(row["method"] == "original@1-augbn" and row["static"] and not row["generated"] for row in rows)


def features_of(suite):
    """Stand in for the embeddings of a suite's splits."""
    return lambda split: torch.nn.functional.one_hot(suite.splits[split].labels, 10).float()
