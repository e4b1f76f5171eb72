"""What is refused, and what is noted, before the first training of a comparison."""

import pytest
from suite_checks import write_images

from metalora.experiments.checks import check_comparison
from metalora.experiments.config import ComparisonConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError


def config(*methods, **settings):
    given = {"suite": SuiteConfig(image_size=8, max_queries=60), "backbones": ("resnet20",), "ks": (1,)} | settings
    return ComparisonConfig(methods=methods, training=TrainingConfig(device="cpu"), **given)


def test_a_budget_out_of_reach_is_noted():
    _, _, notes = check_comparison(config("lora-equal-budget", "metalora-tr"))
    assert not notes
    _, _, notes = check_comparison(config("lora-equal-budget", hidden=1024))
    (said,) = notes
    assert said.startswith("lora-equal-budget on resnet20: the budgets are not equal, LoRA has 304,048 parameters")
    assert said.endswith("largest rank, Meta-LoRA TR 779,139.")


def test_bn_adapted_rows_need_batchnorm():
    rows = ("lora", "lora@8-bn-adapted")
    check_comparison(config(*rows))
    with pytest.raises(InputError, match="lora@8-bn-adapted needs BatchNorm layers, mixer_nano has none"):
        check_comparison(config(*rows, backbones=("resnet20", "mixer_nano")))


def test_inverted_rows_need_named_factors_and_an_extractor(tmp_path):
    rows = ("lora", "lora@8-inverted")
    check_comparison(config(*rows))
    with pytest.raises(InputError, match=r"lora@8-inverted on resnet20: .*'resnet21'"):
        check_comparison(config(*rows, extractor="resnet21"))
    for seed, path in enumerate(("photo/cat", "photo/dog", "toy/cat", "toy/dog")):
        write_images(tmp_path / path, 10, seed)
    with pytest.raises(InputError, match=r"lora@8-inverted on resnet20: .* has no named factors"):
        check_comparison(config(*rows, suite=SuiteConfig(f"folder:{tmp_path}")))


def test_in_a_small_folder_every_task_has_every_class_in_its_gallery(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 6)
    checked, suite, notes = check_comparison(config("original", suite=SuiteConfig(f"folder:{tmp_path}"), ks=(1, 3, 9)))
    for split in ("seen gallery", "unseen gallery"):
        rows = suite.splits[split]
        tasks = suite.seen if split == "seen gallery" else suite.unseen
        assert {(t, c) for t, c in zip(rows.tasks.tolist(), rows.labels.tolist(), strict=True)} == {
            (t, c) for t in tasks for c in range(2)
        }
    largest = min(len(suite.splits["seen gallery"]), len(suite.splits["unseen gallery"]))
    assert checked.ks == tuple(k for k in (1, 3, 9) if k <= largest)
    assert any("is not measured on the within gallery" in note for note in notes)
