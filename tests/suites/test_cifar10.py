"""CIFAR-10, in two forms on disk, under its four lists of tasks."""

import pickle
from itertools import product

import numpy as np
import pytest
import torch
from suite_checks import assert_disjoint, write_images
from torch.nn.functional import interpolate
from torchvision.datasets import CIFAR10

from metalora.suites import cifar10
from metalora.suites.load import load_suite
from metalora.suites.task_lists import CORRUPTIONS, FIFTEEN, TEN_TRANSFORMS
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "HELD_OUT_PER_CLASS", 3)
    monkeypatch.setattr(cifar10, "GALLERY_PER_CLASS", 4)
    for label, name in enumerate(("cat", "dog")):
        write_images(tmp_path / "cifar10" / "train" / name, 12, label)
        write_images(tmp_path / "cifar10" / "test" / name, 6, 10 + label)
    return tmp_path


def test_cifar_sides(tiny_cifar):
    suite = load_suite("cifar10", data=tiny_cifar)
    assert_disjoint(suite)
    names = {split: {suite.names[i] for i in examples.index.tolist()} for split, examples in suite.splits.items()}
    assert names["validation"] == {f"train/{c}/{n:03d}.png" for c in ("cat", "dog") for n in (9, 10, 11)}
    assert {name.split("/")[0] for name in names["seen query"]} == {"test"}
    assert len(names["seen gallery"]) == 8 and len(names["train"]) == 10
    assert suite.tasks == TEN_TRANSFORMS.names and len(suite.unseen) == 2
    other = load_suite("cifar10", data=tiny_cifar, seed=5)
    assert suite.splits["validation"].index.tolist() == other.splits["validation"].index.tolist()
    assert suite.splits["seen gallery"].index.tolist() != other.splits["seen gallery"].index.tolist()


def test_cifar_compositions(tiny_cifar):
    suite = load_suite("cifar10-compositions", data=tiny_cifar / "cifar10")
    assert len(suite.seen) == 32 and len(suite.unseen) == 16
    assert_disjoint(suite)


def test_cifar_under_the_fifteen_corruptions(tiny_cifar):
    suite = load_suite("cifar10-c-rendered", data=tiny_cifar)
    assert_disjoint(suite)
    assert suite.tasks == FIFTEEN.names and (len(suite.seen), len(suite.unseen)) == (55, 20)
    assert not set(suite.splits["train"].tasks.tolist()) & set(suite.unseen)
    query = suite.splits["unseen query"]
    images = query.images()
    source = suite.source_images[query.index[3]][None].float() / 255
    assert torch.allclose(images[3], FIFTEEN.transforms[query.tasks[3]](source)[0], atol=1e-6)


def test_corruptions_grow_with_their_severity():
    images = interpolate(torch.rand(4, 3, 5, 5, generator=seeded_generator(0)), size=(32, 32), mode="bilinear")
    by_kind = {}
    for transform in CORRUPTIONS.transforms:
        by_kind.setdefault(transform.factors[0], []).append((transform(images) - images).square().mean().item())
    assert all(len(errors) == 4 and errors == sorted(errors) for errors in by_kind.values())
    assert [len(values) for values in CORRUPTIONS.factors] == [4, 4]


def test_label_rules_differ_by_task_and_pixels_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "HELD_OUT_PER_CLASS", 3)
    monkeypatch.setattr(cifar10, "GALLERY_PER_CLASS", 4)
    for label, name in enumerate(("automobile", "bird", "cat", "dog", "truck")):
        write_images(tmp_path / "train" / name, 20, label)
        write_images(tmp_path / "test" / name, 8, 10 + label)
    suite = load_suite("cifar10-rules", data=tmp_path)
    assert suite.primary == "within"
    assert suite.factor_indices is None and suite.factors == ()
    exchanged = {"automobile": "truck", "truck": "automobile", "cat": "dog", "dog": "cat"}
    for split in suite.splits.values():
        rendered = split.images()
        for row in range(0, len(split), 7):
            true = suite.names[split.index[row]].split("/")[1]
            swapped = suite.tasks[split.tasks[row]].startswith("swapped")
            assert suite.classes[split.labels[row]] == (exchanged.get(true, true) if swapped else true)
            assert torch.equal(rendered[row], suite.source_images[split.index[row]].float() / 255)
    with pytest.raises(InputError, match="no class 'cat'"):
        load_suite("cifar10-rules", data=renamed(tmp_path, "cat", "cow"))


def renamed(folder, before, after):
    for split in ("train", "test"):
        (folder / split / before).rename(folder / split / after)
    return folder


def test_cifar_of_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "HELD_OUT_PER_CLASS", 1)
    monkeypatch.setattr(cifar10, "GALLERY_PER_CLASS", 1)
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    root = tmp_path / CIFAR10.base_folder
    root.mkdir()
    rng = np.random.default_rng(0)
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        pixels = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
        (root / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    names = [f"class{i}" for i in range(10)]
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: setattr(self, "classes", names))
    suite = load_suite("cifar10", data=tmp_path, image_size=16)
    assert suite.source_images.shape == (60, 3, 16, 16) and suite.notes
    assert_disjoint(suite)


def test_cifar_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"There is no CIFAR-10 in .*--download"):
        load_suite("cifar10", data=tmp_path)
    for split, name in product(("train", "test"), "ab"):
        write_images(tmp_path / split / name, 2)
    with pytest.raises(InputError, match="2 training images only"):
        load_suite("cifar10", data=tmp_path)
