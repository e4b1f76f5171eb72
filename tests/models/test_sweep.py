"""Small networks of timm and torchvision by the dozen: half an hour on one core."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from sweep import METHODS, outcomes

# The cheapest one or two, by parameters times pixels, of every file of timm that has one of fewer than 12.5 million
# parameters for images of 288 pixels or fewer; and those that once failed.
TIMM = (Path(__file__).parent / "timm_names.txt").read_text().split()
TORCHVISION = (
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
)
GOAL = 0.95


def report(said):
    failed = {name: reason for name, reason in said.items() if reason}
    return f"{len(said) - len(failed)} of {len(said)} do; " + "; ".join(f"{n}: {why}" for n, why in failed.items())


def of_torchvision(name):
    """Return a network of random weights whose BatchNorms know the images, without which nothing reaches its output."""
    net = torchvision.models.get_model(name, **({"init_weights": True} if name == "googlenet" else {}))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()(torch.rand(4, 3, 1, 1) * torch.rand(4, 3, 96, 96))
    return net.eval().double()  # some amplify the rounding of float32 a thousandfold


@pytest.mark.slow
def test_small_networks_of_timm_adapt_train_fold_and_give_each_image_its_own_core():
    said = outcomes(dict.fromkeys(TIMM))
    assert sum(reason == "" for reason in said.values()) >= GOAL * len(said), report(said)


@pytest.mark.slow
def test_small_classifiers_of_torchvision_do_the_same():
    networks = {name: partial(of_torchvision, name) for name in TORCHVISION}
    said = outcomes(networks)
    assert sum(reason == "" for reason in said.values()) >= GOAL * len(said), report(said)


def test_a_network_adapts_trains_folds_and_gives_each_image_its_own_core():
    assert outcomes({"resnet20": None}, METHODS[1:2]) == {"resnet20": ""}
