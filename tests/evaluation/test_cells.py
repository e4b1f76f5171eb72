"""Cells: what is trained for their rows."""

from dataclasses import replace

import pytest

from metalora.evaluation.cells import SuiteConfig, run_cell
from metalora.evaluation.comparison import ComparisonConfig
from metalora.training import TrainingConfig


@pytest.mark.parametrize("extractor", ["self", "stem"])
def test_all_rows_that_undo_shifts_have_the_same_reader(extractor):
    config = ComparisonConfig(
        suite=SuiteConfig(max_queries=60, image_size=8),
        backbones=("resnet20",),
        methods=("original@8-undone", "lora-equal-budget@8-undone"),
        training=TrainingConfig(steps=1, batch=8, device="cpu"),
        ks=(1,),
        extractor=extractor,
        hidden=8,
        rank=1,
    )
    rows = [row for cell in config.cells(0, 0.01) for row in run_cell(cell)["rows"]]
    readers = {row["method"]: row["generator_parameters"] for row in rows}
    features = {"self": 16 + 32 + 64, "stem": 16}[extractor]
    assert features < readers["original@8-undone"] / 8
    assert len(set(readers.values())) == 1 and len(readers) == 2


def test_a_backbone_that_is_named_twice_is_trained_once():
    config = ComparisonConfig(backbones=("resnet20", "mixer_nano", "resnet20"))
    assert config == replace(config, backbones=("resnet20", "mixer_nano"))
    assert len(config.cells(0, 0.01)) == 2 * len(replace(config, backbones=("resnet20",)).cells(0, 0.01))
