"""What an adapter costs, against counts by hand."""

import pytest
import torch
from torch import nn

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.models.budget import COLUMNS, FLOPS
from metalora.util.errors import InputError


class Two(nn.Module):
    """A convolution 3 → 8 (3×3, on 6×6) and a linear layer 8 → 10."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


def budget(method, **settings):
    config = AdapterConfig(method=method, rank=2, branches=2, code=4, hidden=5, **settings)
    model = metalora.adapt(Two(), config, example=torch.rand(2, 3, 6, 6))
    return model, model.budget()


@pytest.mark.parametrize(
    ("method", "conv", "fc", "core"),
    [
        ("lora", 27 * 2 + 2 * 8, 8 * 2 + 2 * 10, 0),
        ("multi-lora", 2 * (27 * 2 + 2 * 8 + 8), 2 * (8 * 2 + 2 * 10 + 10), 0),
        ("metalora-cp", 27 * 2 + 2 * 8, 8 * 2 + 2 * 10, 2),
        ("metalora-tr", 4 * (27 + 8), 4 * (8 + 10), 4),
    ],
)
def test_parameters_are_split_by_kind(method, conv, fc, core):
    model, frame = budget(method)
    assert frame.loc[["conv", "fc"], "adapter_parameters"].tolist() == [conv, fc]
    assert frame.loc[["conv", "fc"], "generator_parameters"].tolist() == [4 * core, 4 * core]
    assert frame.loc[["conv", "fc"], "frozen_parameters"].tolist() == [216, 90]
    if core:
        assert frame.loc["(mapping)", "generator_parameters"] == (8 * 5 + 5) + (5 * 4 + 4)  # of what the head reads
    trained = sum(p.numel() for p in model.trained.parameters())
    assert frame.loc["total", ["adapter_parameters", "generator_parameters"]].sum() == trained
    assert all(p.requires_grad for p in model.trained.parameters())
    assert frame.loc["total", "frozen_parameters"] == sum(p.numel() for p in Two().parameters())


@pytest.mark.parametrize("training", [False, True])
def test_variances_of_gaussian_cores_are_counted_as_parameters_and_are_not_computed_in_use(training):
    _, point = budget("metalora-tr")
    model, frame = budget("metalora-tr", core_distribution="gaussian")
    frame = model.train(training).budget()
    of_layers, of_all = frame.loc[["conv", "fc"], "generator_parameters"], frame.loc["total", COLUMNS[:2]].sum()
    assert of_layers.tolist() == [4 * 4 + (4 + 1) * 4] * 2  # means; variances, with a bias
    assert of_all == sum(p.numel() for p in model.trained.parameters())
    assert frame[FLOPS].equals(point[FLOPS])


def test_flops_of_lora_by_hand():
    _, frame = budget("lora")
    # A multiply-add is two operations; 36 positions.
    assert frame.loc["conv", ["frozen_flops", "adapter_flops"]].tolist() == [2 * 36 * 27 * 8, 2 * 36 * (27 * 2 + 2 * 8)]
    assert frame.loc["fc", ["frozen_flops", "adapter_flops"]].tolist() == [2 * 8 * 10, 2 * (8 * 2 + 2 * 10)]
    assert frame.loc["(rest of the backbone)", "frozen_flops"] == 0


def test_copies_of_folded_convolutions_are_said():
    model = metalora.adapt("resnet20", AdapterConfig("lora", rank=2), example=torch.rand(2, 3, 32, 32))
    weights = sum(m.weight.numel() for m in model.backbone.net.modules() if isinstance(m, nn.Conv2d))
    assert model.budget().loc["(rest of the backbone)", "note"].startswith(f"{weights:,} more numbers in memory")
    assert not budget("lora")[1].loc["(rest of the backbone)", "note"]


def test_flops_of_tr_by_hand():
    _, frame = budget("metalora-tr")
    # The convolution has more positions than outputs: core into B (R³·O), then 36 positions of R²·O.
    assert frame.loc["conv", "adapter_flops"] == 2 * (36 * 27 * 4 + 8 * 8 + 36 * 4 * 8)
    # The linear layer has one position: the core mixes it (R³).
    assert frame.loc["fc", "adapter_flops"] == 2 * (8 * 4 + 8 + 4 * 10)
    assert frame.loc[["conv", "fc"], "generator_flops"].tolist() == [2 * 4 * 4] * 2
    assert frame.loc["(mapping)", "generator_flops"] == 2 * (8 * 5 + 5 * 4)
    assert frame.loc["(extractor)", "generator_flops"] == 2 * (36 * 27 * 8 + 8 * 10)


def test_the_total_is_the_sum_of_the_rows():
    _, frame = budget("metalora-tr")
    columns = [*COLUMNS, *FLOPS]
    assert frame.loc["total", columns].tolist() == frame.drop(index="total")[columns].sum().tolist()


def test_a_constant_core_is_an_adapter_parameter():
    model, frame = budget("metalora-tr", core="constant")
    assert frame.loc["conv", "adapter_parameters"] == 4 * (27 + 8) + 4
    assert frame.loc["total", "adapter_parameters"] == sum(p.numel() for p in model.trained.parameters())
    assert frame.loc["total", "generator_parameters"] == 0
    assert "(mapping)" not in frame.index


def test_a_layer_that_is_left_out_is_listed_with_its_reason():
    config = AdapterConfig(method="lora", rank=9)
    with pytest.warns(UserWarning, match="rank 9"):
        model = metalora.adapt(nn.Sequential(nn.Linear(4, 20), nn.Linear(20, 20)), config, example=torch.rand(1, 4))
    frame = model.budget()
    assert frame.loc["0", "note"] == model.left_out["0"] == "rank 9 exceeds its largest, 4"
    assert frame.loc["0", ["adapter_parameters", "frozen_parameters"]].tolist() == [0, 100]
    assert frame.loc["(rest of the backbone)", "frozen_flops"] == 2 * 4 * 20


def test_the_stem_makes_generation_cheaper():
    costs = {}
    for which in ("self", "stem"):
        frame = metalora.adapt(
            metalora.load_backbone("resnet20", pretrained=False), AdapterConfig(extractor=which)
        ).budget()
        costs[which] = frame.loc["total", "generator_flops"]
    assert costs["stem"] < costs["self"] / 100


def test_a_separate_extractor_counts_as_frozen():
    extractor = nn.Sequential(nn.Flatten(), nn.Linear(108, 7))
    extractor.num_features = 7
    _, frame = budget("metalora-cp", extractor=extractor)
    row = frame.loc["(extractor)", ["frozen_parameters", "generator_parameters", "generator_flops"]]
    assert row.tolist() == [108 * 7 + 7, 0, 2 * 108 * 7]


def test_the_original_costs_what_the_backbone_costs():
    _, frame = budget("original")
    assert frame.loc["total", "frozen_parameters"] == 306
    assert frame.loc["total", ["adapter_parameters", "generator_parameters"]].sum() == 0
    assert frame.loc["total", "frozen_flops"] == 2 * (36 * 27 * 8 + 8 * 10)


def test_a_budget_follows_the_precision_and_needs_a_first_batch():
    model = metalora.adapt(Two(), AdapterConfig(rank=2))
    with pytest.raises(InputError, match="Sizes are known after a first batch: call the model once"):
        model.budget()
    model(torch.rand(2, 3, 6, 6))
    before = model.budget()
    assert model.double().budget().equals(before)


def test_a_layer_in_two_places_is_counted_as_often_as_it_is_called():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = nn.Linear(8, 8)

        def forward(self, x):
            return self.second(self.first(x))

    model = metalora.adapt(Twice(), AdapterConfig("lora", rank=2), example=torch.rand(2, 8))
    row = model.budget().loc["first"]
    assert row[["frozen_flops", "adapter_flops"]].tolist() == [2 * 2 * 8 * 8, 2 * 2 * (8 * 2 + 2 * 8)]
