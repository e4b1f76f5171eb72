"""Settings of a comparison: its rows and jobs, and which settings make up the identity of which job."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import METHODS
from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.suites.config import SuiteConfig
from metalora.suites.task_lists import COMPOSITIONS
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError

CONFIG = ComparisonConfig(backbones=("resnet20",), methods=("original", "lora", "metalora-tr"))
LATENT, LATENT_SETS, FACTORS = "metalora-tr", "metalora-cp@8", "metalora-tr-factors@8"
ALL = {"original", "lora", "lora@8-inverted", "lora-factors", "lora-equal-budget", "metalora-tr-constant"}
ALL |= {"multi-lora", LATENT, LATENT_SETS, FACTORS}
MAPPED = {LATENT, LATENT_SETS, FACTORS}
TRAINED = ALL - {"original"}


def jobs_by_row(config):
    """Each row in a comparison of its own, so that no row has to share its training."""
    alone = [replace(config, methods=(row, FACTORS) if row == "lora-equal-budget" else (row,)) for row in sorted(ALL)]
    return {str(job.variants[0]): job for one in alone for job in one.jobs(0, one.training.lr)[:1]}


def rows_with_another_identity(**settings):
    """Rows whose job changes its identity with these settings of the comparison, its suite or its training."""
    config = ComparisonConfig(suite=SuiteConfig("cifar10-compositions"), backbones=("resnet20",))
    parts = {name: settings.pop(name) for name in [f.name for f in fields(TrainingConfig)] if name in settings}
    suite = replace(config.suite, **settings.pop("suite", {}))
    other = replace(config, **settings, suite=suite, training=replace(config.training, **parts))
    before, after = jobs_by_row(config), jobs_by_row(other)
    assert before.keys() == after.keys() == ALL
    return {row for row in ALL if before[row].key != after[row].key}


def test_shuffled_rows_share_a_training_and_constant_rows_do_not():
    config = replace(CONFIG, methods=("metalora-tr", "metalora-tr-shuffled", "metalora-tr-constant"))
    assert [list(map(str, job.variants)) for job in config.jobs(0, 3e-3)] == [
        ["metalora-tr", "metalora-tr-shuffled"],
        ["metalora-tr-constant"],
    ]


def test_unknown_methods_and_no_seeds_are_refused_at_once():
    with pytest.raises(InputError, match="Unknown method 'lorra'"):
        replace(CONFIG, methods=("lorra",))
    with pytest.raises(InputError, match="seeds is 0"):
        replace(CONFIG, seeds=0)


def test_rows_with_factors_need_a_suite_with_factors():
    with pytest.raises(InputError, match=r"metalora-tr-factors@8 needs .* cifar10 has none"):
        replace(CONFIG, suite=SuiteConfig("cifar10"), methods=(FACTORS,))


def test_settings_come_back_from_json():
    config = replace(CONFIG, suite=SuiteConfig(hold_out=("rotate-0+plain+red",)), targets=("conv",))
    assert ComparisonConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    job = config.jobs(1, 0.01)[-1]
    assert JobConfig.from_dict(json.loads(json.dumps(job.to_dict()))) == job
    for wrong in ({}, {"suite": 3}, {**config.to_dict(), "what": 1}, {**config.to_dict(), "training": {"x": 1}}):
        with pytest.raises(InputError):
            ComparisonConfig.from_dict(wrong)


def test_rows_have_the_defaults_of_an_adapter():
    rows, adapter = ComparisonConfig(), AdapterConfig()
    names = ("hidden", "extractor", "head_init_std", "code_norm_limit")
    assert [getattr(rows, name) for name in names] == [getattr(adapter, name) for name in names]


def test_old_spellings_of_rows_are_the_same_rows():
    old = replace(CONFIG, methods=("metalora-tr-named@8", "lora@8-undone", "lora@all-renormalised"))
    assert old.methods == ("metalora-tr-factors@8", "lora@8-inverted", "lora@all-bn-adapted")


def test_first_weights_that_are_given_are_those_of_latent_codes():
    jobs = jobs_by_row(ComparisonConfig(backbones=("resnet20",), head_init_std=0.2))
    assert {row for row, job in jobs.items() if job.adapter.head_init_std == 0.2} == {LATENT, LATENT_SETS}


@pytest.mark.parametrize(
    "settings",
    [
        {"device": "cpu"},
        {"compile": True},
        {"validate_every": 7},
        {"download": True},
        {"suite": {"data": "./data"}},
        {"suite": {"data": "/else/where", "download": True}},
        {"suite": {"image_size": 32}},  # the suite's own
        {"suite": {"hold_out": COMPOSITIONS.unseen}},  # the suite's own
        {"head_init_std": AdapterConfig(factors=()).initial_head_std},  # what it is by default
        {"rank_pattern": {}},
        {"code_norm_limit": 4},  # 4.0 by default
    ],
    ids=str,
)
def test_settings_that_decide_nothing_leave_every_job_as_it_is(settings):
    assert rows_with_another_identity(**settings) == set()


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"suite": {"max_queries": 100}}, ALL),
        ({"suite": {"development": True}}, ALL),
        ({"ks": (1,)}, ALL),
        ({"precision": "bfloat16"}, ALL),
        ({"steps": 9}, TRAINED),
        ({"lr": 0.01}, TRAINED),
        ({"rank": 2}, TRAINED),
        ({"targets": ("conv",)}, TRAINED),
        ({"hidden": 16}, MAPPED | {"lora@8-inverted", "lora-equal-budget"}),
        ({"extractor": "stem"}, MAPPED | {"lora@8-inverted", "lora-equal-budget"}),
        ({"mapping_lr_scale": 0.5}, MAPPED | {"lora@8-inverted"}),
        ({"rank_pattern": {"conv": 2}}, {LATENT, FACTORS, "metalora-tr-constant", "lora-equal-budget"}),
        ({"head_init_std": 0.2}, {LATENT, LATENT_SETS}),
        ({"code_norm_limit": 3.0}, {LATENT, LATENT_SETS}),
        ({"identity_core_prob": 0.3}, {LATENT}),
        ({"identity_core_prob_sets": 0.3}, {LATENT_SETS}),
        ({"fit_gate": True}, MAPPED),
        ({"teacher_forcing_ratio": 0.3}, {FACTORS}),
        ({"factor_loss_weight": 0.3}, {FACTORS, "lora-factors"}),
    ],
    ids=lambda value: "rows" if isinstance(value, set) else str(value),
)
def test_a_setting_counts_for_the_jobs_that_it_has_an_effect_on(settings, rows):
    assert rows_with_another_identity(**settings) == rows


def test_every_setting_of_a_training_either_counts_or_is_known_to_decide_nothing():
    seeds = {job.key for seed in (0, 1) for job in CONFIG.jobs(seed, 1e-3)}
    assert len(seeds) == 2 * len(CONFIG.jobs(0, 1e-3))
    counted = {name for job in jobs_by_row(ComparisonConfig()).values() for name in job.identity}
    idle = {"device", "compile", "validate_every", "set_size"}
    where_they_are_set = {"keep_best", "kl_weight", "fit_gate"}
    assert {f.name for f in fields(TrainingConfig)} - counted == idle | where_they_are_set
    of_the_row = {"method", "core"}
    not_offered = {"adapter_dtype", "modules_to_save", "condition", "core_distribution"}
    assert {f.name for f in fields(AdapterConfig)} - counted == of_the_row | not_offered


def test_gaussian_cores_and_the_weight_of_their_divergence_count_where_there_are_any():
    job = jobs_by_row(ComparisonConfig(backbones=("resnet20",)))[LATENT]
    gaussian = replace(job, adapter=replace(job.adapter, core_distribution="gaussian"))
    weighted = replace(gaussian, training=replace(gaussian.training, kl_weight=0.5))
    assert len({one.key for one in (job, gaussian, weighted)}) == 3
    assert replace(job, training=weighted.training).key == job.key


def test_several_sizes_of_sets_are_those_of_rows_that_are_trained_with_sets():
    rows = ("lora@8", "metalora-tr", "metalora-tr@1", "arm-bn@8")
    jobs, sizes = {}, (0, 1, 8)
    for size in (1, 4, sizes):
        config = replace(CONFIG, methods=rows, training=replace(CONFIG.training, set_size=size))
        jobs[size] = {str(job.variants[0]): job for job in config.jobs(0, 1e-3)}
    assert {row: job.training.set_size for row, job in jobs[sizes].items()} == dict(
        zip(rows, (1, 1, sizes, sizes), strict=True)
    )
    changed = {row for row, job in jobs[sizes].items() if job.key != jobs[1][row].key}
    assert changed == {"metalora-tr@1", "arm-bn@8"}
    assert all(job.key == jobs[4][row].key for row, job in jobs[1].items())  # the row says its size
    other = replace(
        CONFIG, methods=rows, training=replace(CONFIG.training, set_size=sizes, identity_core_prob_sets=0.9)
    )
    assert [job.key for job in other.jobs(0, 1e-3)] == [job.key for job in jobs[sizes].values()]


def test_keeping_the_best_state_and_trials_count_where_they_are_set():
    kept = replace(CONFIG, training=replace(CONFIG.training, keep_best=True))
    tried = replace(CONFIG, trial_steps=8)
    for trained, *others in zip(*(config.jobs(0, 1e-3) for config in (CONFIG, kept, tried)), strict=True):
        assert (len({trained.key, *(job.key for job in others)}) == 3) == trained.trained.is_trained
    assert [job.key for job in tried.jobs(0, 1e-3)] == [job.key for job in tried.jobs(0, 6e-3)]


def test_images_of_ones_own_count_by_the_name_of_their_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("folder:mine", "folder:./mine", f"folder:{tmp_path}/mine", "folder:/else/where/mine")
    keys = {replace(CONFIG, suite=SuiteConfig(name)).jobs(0, 1e-3)[0].key for name in (*names, "folder:yours")}
    assert len(keys) == 2


def test_the_order_of_tasks_that_are_held_out_does_not_count():
    pair = ("rotate-0+plain+red", "rotate-90+plain+red")
    one, other = (replace(CONFIG, suite=SuiteConfig(hold_out=tasks)) for tasks in (pair, pair[::-1]))
    assert [job.key for job in one.jobs(0, 1e-3)] == [job.key for job in other.jobs(0, 1e-3)]


def test_a_backbone_that_is_named_twice_is_trained_once():
    config = ComparisonConfig(backbones=("resnet20", "mixer_nano", "resnet20"))
    assert config == replace(config, backbones=("resnet20", "mixer_nano"))
    assert len(config.jobs(0, 0.01)) == 2 * len(replace(config, backbones=("resnet20",)).jobs(0, 0.01))


def test_settings_need_no_torch():
    code = "import sys, metalora.experiments.config; sys.exit(bool({'torch', 'timm', 'pandas'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_all_methods_are_rows_each_with_a_job_of_its_own():
    config = ComparisonConfig(methods=("all", "lora@8"), backbones=("resnet20",))
    fitting = [name for name, entry in METHODS.items() if not entry.needs]  # others do not suit every backbone
    assert config.methods == (*fitting, "lora@8")
    assert {"vpt-deep", "llama-adapter", "arm-bn"} == METHODS.keys() - set(fitting)
    assert len(config.jobs(0, 1e-3)) == len(fitting)
