"""What a person can set, and the error where it cannot be."""

import dataclasses
import json
import subprocess
import sys

import pytest
from torch import nn

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.adapters.cp import CP
from metalora.adapters.formats import make_format
from metalora.adapters.lora import LoRA
from metalora.adapters.multi_lora import MultiLoRA
from metalora.adapters.tr import TR
from metalora.util.config import field_help
from metalora.util.errors import InputError


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "metalora"}, r"Unknown method 'metalora': use .*metalora-tr"),
        ({"rank": 0}, "rank is 0: use a whole number of 1 or more"),
        ({"rank": -2}, "rank is -2"),
        ({"rank": True}, "rank is True"),
        ({"rank": 2.0}, r"rank is 2\.0"),
        ({"rank": "4"}, "rank is '4'"),
        ({"branches": 0}, "branches is 0"),
        ({"hidden": 0}, "hidden is 0"),
        ({"code": None}, "code is empty: use a whole number from 1 to 65,536"),
        ({"alpha": 0}, "alpha is 0: use a positive number"),
        ({"alpha": -1.0}, r"alpha is -1\.0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"alpha": "big"}, "alpha is 'big'"),
        ({"head_init_std": -0.1}, r"head_init_std is -0\.1: use a number of 0 or more"),
        ({"head_init_std": float("nan")}, "head_init_std is nan"),
        ({"head_init_std": "wide"}, "head_init_std is 'wide'"),
        ({"code_norm_limit": -1}, "code_norm_limit is -1: use a length above 0, or 0 for none"),
        ({"code_norm_limit": float("inf")}, "code_norm_limit is inf"),
        ({"code_norm_limit": None}, "code_norm_limit is empty"),
        ({"dropout": 1.0}, r"dropout is 1\.0: use a fraction from 0 to below 1"),
        ({"dropout": None}, "dropout is empty"),
        ({"seed": 0.5}, r"seed is 0\.5: use a whole number from 0 to 4,294,967,295"),
        ({"seed": -1}, "seed is -1"),
        ({"core": "fixed"}, "core is 'fixed': use generated or constant"),
        ({"core_distribution": "normal"}, "core_distribution is 'normal': use point or gaussian"),
        ({"core_distribution": "gaussian", "method": "lora"}, "gaussian, but LoRA generates no core of an image"),
        ({"core_distribution": "gaussian", "core": "constant"}, "Meta-LoRA TR with a constant core generates no core"),
        ({"core_distribution": "gaussian", "method": "moelora", "condition": 3}, "but MOELoRA generates no core"),
        ({"extractor": 5}, "extractor is 5"),
        ({"targets": "(conv"}, r"'\(conv' is not a regular expression"),
        ({"exclude": ["["]}, r"'\[' is not a regular expression"),
        ({"rank_pattern": {"*": 2}}, r"'\*' is not a regular expression"),
        ({"rank_pattern": {"conv": 0}}, r"rank_pattern\['conv'\] is 0"),
        ({"rank_pattern": ["conv"]}, r"rank_pattern is \['conv'\]: use a mapping"),
        ({"targets": 5}, "targets is 5: use a regular expression or a list"),
        ({"targets": [5]}, r"targets is \[5\]"),
    ],
)
def test_a_value_that_no_adapter_can_have_is_refused(setting, message):
    with pytest.raises(InputError, match=message):
        AdapterConfig(**setting)


def test_json_brings_back_an_equal_configuration():
    config = AdapterConfig("metalora-cp", 3, 6.0, ["conv", "fc$"], "conv1", rank_pattern={"fc": 2}, core="constant")
    assert AdapterConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.targets == ("conv", "fc$")
    assert config.exclude == ("conv1",)


def test_an_extractor_module_is_written_as_module():
    assert AdapterConfig(extractor=nn.Identity()).to_dict()["extractor"] == "module"


@pytest.mark.parametrize("values", [[1], {"ranks": 3}])
def test_values_that_are_no_configuration_are_refused(values):
    with pytest.raises(InputError, match=r"AdapterConfig"):
        AdapterConfig.from_dict(values)


def test_earlier_names_of_settings_are_read():
    assert AdapterConfig.from_dict({"spread": 0.2, "radius": 1.0}) == AdapterConfig(
        head_init_std=0.2, code_norm_limit=1.0
    )


def test_every_setting_is_documented():
    assert list(field_help(AdapterConfig)) == [field.name for field in dataclasses.fields(AdapterConfig)]


def test_settings_and_methods_come_without_torch():
    code = "import sys, metalora.adapters.config as c; c.AdapterConfig.from_dict({})"
    code += "; print({'torch', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("method", "format"),
    [("lora", LoRA(5)), ("multi-lora", MultiLoRA(5, 2)), ("metalora-cp", CP(5)), ("metalora-tr", TR(5))],
)
def test_a_method_has_its_format(method, format):
    assert make_format(AdapterConfig(method=method, branches=2), 5, 7) == format


def test_scale_is_alpha_over_the_layers_rank():
    assert AdapterConfig(alpha=8).scale(2) == 4
    assert AdapterConfig().scale(2) == 1


@pytest.mark.parametrize(
    ("method", "core", "generates"),
    [
        ("original", "generated", False),
        ("lora", "generated", False),
        ("metalora-tr", "generated", True),
        ("metalora-tr", "constant", False),
    ],
)
def test_whether_cores_are_generated(method, core, generates):
    assert AdapterConfig(method=method, core=core).generates is generates


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AdapterConfig().rank = 3


@pytest.mark.parametrize(
    ("settings", "deviation"),
    [
        ({}, 0.03),
        ({"factors": (2, 3)}, 0.1),
        ({"head_init_std": 0.05}, 0.05),
        ({"head_init_std": 0, "factors": (2, 3)}, 0.0),
    ],
)
def test_first_cores_lie_as_far_apart_as_the_code_is_short(settings, deviation):
    config = AdapterConfig(rank=3, hidden=4, **settings)
    assert config.initial_head_std == deviation
    weights = metalora.adapt("resnet20", config).mapping.head.weight
    values = sum(config.factors) or config.code  # products of pairs begin at 0
    assert weights[:, :values].std().item() == pytest.approx(deviation, rel=0.1)


def test_equal_configurations_have_equal_hashes():
    one, other = (AdapterConfig(rank_pattern={"conv": 2}, targets=targets) for targets in ("conv", ["conv"]))
    assert hash(one) == hash(other)
    assert len({one, other, AdapterConfig(rank_pattern={"conv": 3}, targets="conv")}) == 2
