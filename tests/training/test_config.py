"""Settings of a training: which of them a checkpoint belongs to."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.training.config import TrainingConfig, identity_of
from metalora.util.config import from_plain, to_plain
from metalora.util.errors import InputError

FACTORS = (2, 2, 3)


def identity(training=None, adapter=None, *, predicts=False):
    return identity_of(TrainingConfig(**training or {}), AdapterConfig(**adapter or {}), predicts=predicts)


@pytest.mark.parametrize(
    ("training", "adapter"),
    [
        ({"device": "cpu"}, {}),
        ({"compile": True}, {}),
        ({"validate_every": 7}, {}),
        ({"identity_core_prob_sets": 0.9}, {}),
        ({"teacher_forcing_ratio": 0.9}, {}),
        ({"factor_loss_weight": 9.0}, {}),
        ({"kl_weight": 9.0}, {}),
        ({}, {"core_distribution": "point"}),
        ({"lr": TrainingConfig().lr}, {"alpha": 4.0}),
        ({}, {"head_init_std": 0.03}),
    ],
)
def test_settings_without_effect_are_not_part_of_the_identity(training, adapter):
    assert identity(training, adapter) == identity()


@pytest.mark.parametrize(
    ("training", "adapter"),
    [
        ({"lr": 0.01}, {}),
        ({"seed": 1}, {}),
        ({"precision": "bfloat16"}, {}),
        ({"identity_core_prob": 0.9}, {}),
        ({"mapping_lr_scale": 2.0}, {}),
        ({"set_size": 4}, {}),
        ({"set_size": (1, 8)}, {}),
        ({}, {"alpha": 8.0}),
        ({}, {"alpha": 4.0, "rank_pattern": {"layer1": 2}}),
        ({}, {"head_init_std": 0.1}),
        ({}, {"core": "constant"}),
        ({}, {"code": 8}),
        ({}, {"core_distribution": "gaussian"}),
    ],
)
def test_settings_with_an_effect_are(training, adapter):
    assert identity(training, adapter) != identity()


@pytest.mark.parametrize("name", ["mapping_lr_scale", "teacher_forcing_ratio", "identity_core_prob"])
def test_a_static_method_does_not_depend_on_the_generator(name):
    lora = {"method": "lora"}
    assert identity({name: 0.25}, lora) == identity({}, {**lora, "hidden": 8, "core": "constant", "extractor": "stem"})


def test_factor_codes_depend_on_factor_prediction_where_the_suite_has_the_factors():
    code = {"factors": FACTORS}
    for name in ("teacher_forcing_ratio", "factor_loss_weight"):
        assert identity({name: 0.25}, code, predicts=True) != identity({}, code, predicts=True)
        assert identity({name: 0.25}, code) == identity({}, code)
    assert identity({"identity_core_prob": 0.9}, code, predicts=True) == identity({}, code, predicts=True)


def test_gaussian_cores_depend_on_the_weight_of_their_divergence():
    gaussian = {"core_distribution": "gaussian"}
    assert identity({"kl_weight": 0.5}, gaussian) != identity({}, gaussian)
    assert "kl_weight" not in identity()["training"] and "core_distribution" not in identity()["adapter"]


def test_fitting_a_gate_counts_where_cores_are_generated_from_images():
    assert "fit_gate" not in identity()["training"] and identity({"fit_gate": True})["training"]["fit_gate"]
    for adapter in ({"method": "lora"}, {"core": "constant"}, {"method": "moelora", "condition": 3}):
        assert identity({"fit_gate": True}, adapter) == identity({}, adapter)


def test_with_several_sizes_of_sets_the_sizes_say_how_often_cores_are_the_identity():
    several = {"set_size": (0, 1, 8)}
    for name in ("identity_core_prob", "identity_core_prob_sets"):
        assert identity({name: 0.9} | several) == identity(several)
    assert identity(several) != identity({"set_size": (0, 1, 4)})


@pytest.mark.parametrize(
    ("size", "sizes", "embedded"), [(8, (8,), 8), ([4], (4,), 4), ([1, 8], (1, 8), 1), ((0, 8, 8, 4), (0, 8, 8, 4), 4)]
)
def test_sizes_of_sets_are_one_number_or_several(size, sizes, embedded):
    config = TrainingConfig(set_size=size)
    assert config.set_sizes == sizes and config.set_size == (sizes if len(sizes) > 1 else sizes[0])
    assert config.embed_config.set_size == embedded
    assert from_plain(TrainingConfig, json.loads(json.dumps(to_plain(config)))) == config


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((), "set_size is empty: name one or more sizes"),
        ((0,), "set_size is 0: use a whole number from 1"),
        ((0, 0), "set_size has 0 only"),
        ((1, -8), "set_size is -8: use a whole number from 0"),
        ((1, 2.0), r"set_size is 2\.0"),
        ("18", "set_size is '18'"),
        ((1, 7), "A batch of 64 does not divide into sets of 7"),
    ],
)
def test_sizes_with_which_nothing_is_trained_are_refused(size, said):
    with pytest.raises(InputError, match=said):
        TrainingConfig(set_size=size)


def test_a_trained_model_is_embedded_as_it_was_trained():
    config = TrainingConfig(set_size=8, seed=3, batch_size=16, device="cpu", precision="bfloat16").embed_config
    assert (config.set_size, config.seed, config.batch_size) == (8, 3, 32)
    assert (config.device, config.precision) == ("cpu", "bfloat16")
    assert replace(config, set_size=1).shuffled is False


def test_settings_do_not_import_torch():
    modules = "evaluation.config", "training.config", "runs.run_config"
    code = f"import sys, {', '.join(f'metalora.{name}' for name in modules)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
