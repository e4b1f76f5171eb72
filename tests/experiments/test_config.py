"""What the settings of a comparison amount to: rows, cells, and which settings concern which training."""

import json
from dataclasses import replace

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.experiments.config import ComparisonConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError

CONFIG = ComparisonConfig(backbones=("resnet20",), methods=("original", "lora", "metalora-tr"))


def test_shuffled_rows_share_the_training_and_constant_rows_do_not():
    config = replace(CONFIG, methods=("metalora-tr", "metalora-tr-shuffled", "metalora-tr-constant"))
    assert [job.variants for job in config.jobs(0, 3e-3)] == [
        ("metalora-tr", "metalora-tr-shuffled"),
        ("metalora-tr-constant",),
    ]


def test_unknown_methods_and_no_seeds_are_refused_at_once():
    with pytest.raises(InputError, match="Unknown method 'lorra'"):
        replace(CONFIG, methods=("lorra",))
    with pytest.raises(InputError, match="seeds is 0"):
        replace(CONFIG, seeds=0)


def test_cells_are_the_same_whether_or_not_something_may_be_downloaded():
    allowed = replace(CONFIG, download=True, suite=replace(CONFIG.suite, download=True))
    assert [job.key for job in allowed.jobs(0, 1e-3)] == [job.key for job in CONFIG.jobs(0, 1e-3)]
    assert [job.key for job in CONFIG.jobs(1, 1e-3)] != [job.key for job in CONFIG.jobs(0, 1e-3)]


def test_settings_come_back_from_json():
    config = replace(CONFIG, suite=SuiteConfig(hold_out=("rotate-0+plain+red",)), targets=("conv",))
    assert ComparisonConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for wrong in ({}, {"suite": 3}, {**config.to_dict(), "what": 1}, {**config.to_dict(), "training": {"x": 1}}):
        with pytest.raises(InputError, match="no settings of a comparison"):
            ComparisonConfig.from_dict(wrong)


def test_rows_have_the_defaults_of_an_adapter():
    rows, adapter = ComparisonConfig(), AdapterConfig()
    assert (rows.hidden, rows.head_init_std, rows.code_norm_limit) == (
        adapter.hidden,
        adapter.head_init_std,
        adapter.code_norm_limit,
    )


def test_what_concerns_one_training_leaves_the_others_as_they_are():
    free, named = ("metalora-tr", "metalora-cp@8"), ("metalora-tr-factors@8",)
    rows = ("lora-equal-budget", "metalora-tr-constant", *free, *named, "lora-equal-budget@8-inverted", "multi-lora")
    training = TrainingConfig(identity_core_prob=0.3, identity_core_prob_sets=0.2, mapping_lr_scale=0.5)
    config = ComparisonConfig(
        suite=SuiteConfig("cifar10-compositions"),
        backbones=("resnet20",),
        methods=rows,
        head_init_std=0.2,
        code_norm_limit=3.0,
        training=training,
    )
    jobs = {job.variants[0]: job for job in config.jobs(0, 0.01)}

    def concerned(name, value):
        return {row for row, job in jobs.items() if getattr(job.training, name) != value}

    assert {row for row, job in jobs.items() if job.adapter.head_init_std} == set(free)
    assert {row for row, job in jobs.items() if job.adapter.code_norm_limit == 3.0} == set(free)
    assert {jobs[row].adapter.code_norm_limit for row in jobs.keys() - free} == {0.0}
    assert concerned("identity_core_prob", 0.0) == {"metalora-tr"} and concerned("identity_core_prob_sets", 0.0) == {
        "metalora-cp@8"
    }
    # The shift of one LoRA row is undone as a mapping net reads it.
    assert concerned("mapping_lr_scale", 1.0) == {*free, *named, "lora-equal-budget"}


def test_settings_of_mapping_net_and_naming_leave_the_trainings_without_them_as_they_are():
    rows = ("original", "lora", "lora@8-inverted", "lora-factors", "lora-equal-budget", "metalora-tr-constant")
    rows += ("multi-lora", "multi-lora@8-inverted", "metalora-tr", "metalora-tr-factors@8")
    config = ComparisonConfig(suite=SuiteConfig("cifar10-compositions"), backbones=("resnet20",), methods=rows)

    def concerned(**settings):
        trained = {
            name: settings.pop(name) for name in ("teacher_forcing_ratio", "factor_loss_weight") if name in settings
        }
        other = replace(config, **settings, training=replace(config.training, **trained))
        jobs = zip(config.jobs(0, 0.01), other.jobs(0, 0.01), strict=True)
        return {one.variants[0] for one, two in jobs if one.key != two.key}

    mapped = {"lora", "lora-equal-budget", "multi-lora", "metalora-tr", "metalora-tr-factors@8"}
    assert concerned(hidden=16) == concerned(extractor="stem") == mapped
    assert concerned(teacher_forcing_ratio=0.3) == {"metalora-tr-factors@8"}
    assert concerned(factor_loss_weight=0.3) == {"metalora-tr-factors@8", "lora-factors"}
    config = replace(config, methods=("lora", "multi-lora"))  # nothing is undone
    assert not concerned(hidden=16)


def test_a_backbone_that_is_named_twice_is_trained_once():
    config = ComparisonConfig(backbones=("resnet20", "mixer_nano", "resnet20"))
    assert config == replace(config, backbones=("resnet20", "mixer_nano"))
    assert len(config.jobs(0, 0.01)) == 2 * len(replace(config, backbones=("resnet20",)).jobs(0, 0.01))
