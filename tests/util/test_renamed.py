"""Old names of settings, rows and modules still work; those of modules and of the public face say so."""

import sys
import warnings
from importlib import import_module
from importlib.util import find_spec

import pytest

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.runs.run_config import RunConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.util.renamed import MODULES, upgrade_name, upgrade_row, upgrade_settings


def test_keys_of_nested_settings_are_renamed():
    old = {"training": {"rate": 0.1, "batch": 8}, "rows": [{"spread": 1}], "steps": 2}
    assert upgrade_settings(old) == {
        "training": {"lr": 0.1, "batch_size": 8},
        "rows": [{"head_init_std": 1}],
        "steps": 2,
    }


def test_settings_that_are_gone_are_left_out_where_they_changed_nothing():
    gone = {"code_batchnorm": False, "extractor_rank": 0}
    assert AdapterConfig.from_dict({"rank": 3} | gone) == AdapterConfig(rank=3)
    old = {"adapter": gone, "training": {"steps": 5, "distillation_weight": 0.0}}
    assert RunConfig.from_dict(old) == RunConfig(training=TrainingConfig(steps=5))
    with pytest.raises(InputError, match="Unknown setting 'extractor_rank'"):
        AdapterConfig.from_dict({"rank": 3} | gone | {"extractor_rank": 2})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("metalora-tr-named@8", "metalora-tr-factors@8"),
        ("metalora-tr-named-shuffled@8", "metalora-tr-factors-shuffled@8"),
        ("original@8-undone", "original@8-inverted"),
        ("lora@all-renormalised", "lora@all-bn-adapted"),
        ("metalora-tr@8", "metalora-tr@8"),
    ],
)
def test_rows_are_renamed(old, new):
    assert upgrade_name(old) == new
    assert upgrade_row({"method": old, "split": "seen"}) == {"method": new, "task_split": "seen"}


@pytest.mark.parametrize("old", MODULES)
def test_modules_are_found_by_their_old_names(old):
    with pytest.warns(DeprecationWarning, match=f"metalora.{old} is called metalora.{MODULES[old]} now"):
        found = import_module(f"metalora.{old}")
    assert found is sys.modules[f"metalora.{MODULES[old]}"]
    assert found.__name__ == found.__spec__.name == f"metalora.{MODULES[old]}"
    del sys.modules[f"metalora.{old}"]


def test_no_other_module_is_found():
    assert find_spec("metalora.nothing") is None
    with warnings.catch_warnings(), pytest.raises(ModuleNotFoundError):
        import_module("metalora.evaluation.nothing")


def test_the_old_name_of_embed_config_is_deprecated():
    with pytest.warns(DeprecationWarning, match="Protocol is called EmbedConfig now"):
        assert metalora.Protocol is metalora.EmbedConfig


@pytest.mark.parametrize("name", [*metalora.__all__])
def test_every_public_name_can_be_imported(name):
    assert getattr(metalora, name) is not None and name in dir(metalora)


def test_other_names_are_unknown():
    with pytest.raises(AttributeError, match="no attribute 'adopt'"):
        _ = metalora.adopt


def test_patterns_of_ranks_are_no_settings():
    settings = {"rate": 0.1, "adapter": {"radius": 1.0, "rank_pattern": {"rate": 2}}}
    assert upgrade_settings(settings) == {"lr": 0.1, "adapter": {"code_norm_limit": 1.0, "rank_pattern": {"rate": 2}}}
