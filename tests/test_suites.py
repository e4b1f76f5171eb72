"""Suites: who sees which picture, in which task, and what a person is told."""

import pickle
from itertools import combinations, product

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.datasets import CIFAR10

from metalora.errors import InputError
from metalora.states import generator
from metalora.suites import FIXED_TASKS, cifar, load_suite
from metalora.suites.layout import folder_tasks
from metalora.suites.tasks import CORRUPTIONS, DIGITS, TEN_SHIFTS


@pytest.fixture(scope="module")
def digits():
    return load_suite("digits")


def write_pictures(folder, count, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number:03d}.png")


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "HELD_OUT_PER_CLASS", 3)
    monkeypatch.setattr(cifar, "GALLERY_PER_CLASS", 4)
    for label, name in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "cifar10" / "train" / name, 12, label)
        write_pictures(tmp_path / "cifar10" / "test" / name, 6, 10 + label)
    return tmp_path


@pytest.fixture
def by_task(tmp_path):
    """Two tasks with cats and dogs, one with cats and birds; 10 pictures of each."""
    for seed, path in enumerate(("photo/cat", "photo/dog", "sketch/cat", "sketch/dog", "toy/cat", "toy/bird")):
        write_pictures(tmp_path / path, 10, seed)
    return tmp_path


def assert_disjoint(suite):
    """No source picture serves two purposes, in whatever tasks."""
    together = [("train",), ("validation",), ("seen gallery", "unseen gallery"), ("seen query", "unseen query")]
    rows = {side: set(examples.index.tolist()) for side, examples in suite.sides.items()}
    groups = [set().union(*(rows.get(side, set()) for side in sides)) for sides in together]
    assert all(groups)
    assert all(not a & b for a, b in combinations(groups, 2))


def assert_same(one, other):
    assert one.names == other.names and one.sides.keys() == other.sides.keys()
    for side, examples in one.sides.items():
        for field in ("index", "tasks", "labels"):
            assert torch.equal(getattr(examples, field), getattr(other.sides[side], field))


# Shifted suites


def test_digits_sides(digits):
    assert_disjoint(digits)
    assert digits.pictures.shape == (1797, 3, 16, 16) and digits.primary == "pooled"
    assert len(digits.seen) == 9 and len(digits.unseen) == 3
    train = digits.sides["train"]
    assert len(train) == 9 * len(train.index.unique())  # every training picture in every seen task
    for side, tasks in (("validation", digits.seen), ("seen query", digits.seen), ("unseen query", digits.unseen)):
        examples = digits.sides[side]
        assert set(examples.tasks.tolist()) == set(tasks)
        assert len(examples.index.unique()) == len(examples)  # one task for each picture
    seen, unseen = digits.sides["seen query"], digits.sides["unseen query"]
    assert torch.equal(seen.index, unseen.index)


def test_digits_are_class_balanced(digits):
    frame = digits.describe()
    assert set(frame.classes) == {10}
    assert (frame.largest[frame.side != "train"] - frame.smallest[frame.side != "train"]).max() <= 2
    capped = load_suite("digits", max_queries=50, train_pictures=7)
    for side in ("validation", "seen query", "unseen query"):
        assert capped.sides[side].labels.bincount().tolist() == [5] * 10
    assert capped.sides["train"].labels.bincount().tolist() == [63] * 10


def test_the_seed_decides_the_split(digits):
    assert_same(digits, load_suite("digits"))
    other = load_suite("digits", seed=1)
    assert not torch.equal(digits.sides["seen query"].index, other.sides["seen query"].index)


def test_images_are_the_shifted_pictures(digits):
    query = digits.sides["unseen query"]
    images = query.images()
    assert images.dtype == torch.float32 and images.shape == (len(query), 3, 16, 16)
    for row in (0, 7, len(query) - 1):
        picture = digits.pictures[query.index[row]][None].float() / 255
        assert torch.equal(DIGITS.shifts[query.tasks[row]](picture)[0], images[row])
    assert torch.equal(torch.cat([chunk.images() for chunk in query.chunks(100)]), images)
    assert torch.equal(query[torch.tensor([5, 3])].images(), images[[5, 3]])
    assert query[:4].pictures is digits.pictures


def test_image_size_and_hold_out():
    suite = load_suite("digits", image_size=8, hold_out="rotate-0+plain+red")
    assert suite.image_size == 8 and [suite.tasks[task] for task in suite.unseen] == ["rotate-0+plain+red"]


# Batches


def test_batch_mixes_the_seen_tasks_evenly(digits):
    batch = digits.batch(90, generator(0))
    assert batch.tasks.bincount(minlength=12)[list(digits.seen)].tolist() == [10] * 9
    assert batch.groups.tolist() == list(range(90)) and batch.images.shape == (90, 3, 16, 16)
    counts = sum(digits.batch(16, generator(i)).tasks.bincount(minlength=12) for i in range(200))
    assert counts[list(digits.unseen)].sum() == 0
    assert counts[list(digits.seen)].min() > 300  # 356 on average: the two tasks that come up short change


def test_sets_are_of_one_task(digits):
    batch = digits.batch(44, generator(0), set_size=8)
    assert len(batch.labels) == 40 and batch.groups.bincount().tolist() == [8] * 5
    assert all(len(batch.tasks[batch.groups == group].unique()) == 1 for group in range(5))
    assert len(batch.tasks.unique()) == 5
    assert len(batch.labels[batch.groups == 0].unique()) > 1  # drawn blind to the labels


def test_every_training_row_is_drawn_equally_often():
    suite = load_suite("digits", train_pictures=1)
    shares = (
        torch.stack([suite.batch(900, generator(i)).labels.bincount(minlength=10) for i in range(20)]).sum(0) / 18_000
    )
    assert (shares - 0.1).abs().max() < 0.01  # one training picture a class; the standard deviation is 0.002


def test_batches_come_from_the_generator_and_the_training_rows(digits):
    one, same, other = (digits.batch(32, generator(seed), 4) for seed in (3, 3, 4))
    assert torch.equal(one.images, same.images) and not torch.equal(one.images, other.images)
    alone = load_suite("digits", hold_out=[name for name in digits.tasks if name != "rotate-90+plain+red"])
    batch = alone.batch(32, generator(0))
    training = {tuple(image.flatten().tolist()) for image in alone.sides["train"].images()}
    assert all(tuple(image.flatten().tolist()) in training for image in batch.images)
    assert batch.tasks.unique().tolist() == list(alone.seen)
    with pytest.raises(InputError, match="holds no set of 9"):
        digits.batch(8, generator(0), set_size=9)


# CIFAR-10


def test_cifar_sides(tiny_cifar):
    suite = load_suite("cifar10", data=tiny_cifar)
    assert_disjoint(suite)
    names = {side: {suite.names[i] for i in examples.index.tolist()} for side, examples in suite.sides.items()}
    assert names["validation"] == {f"train/{c}/{n:03d}.png" for c in ("cat", "dog") for n in (9, 10, 11)}
    assert {name.split("/")[0] for name in names["seen query"]} == {"test"}
    assert len(names["seen gallery"]) == 8 and len(names["train"]) == 10
    assert suite.tasks == TEN_SHIFTS.names and len(suite.unseen) == 2
    other = load_suite("cifar10", data=tiny_cifar, seed=5)
    assert suite.sides["validation"].index.tolist() == other.sides["validation"].index.tolist()
    assert suite.sides["seen gallery"].index.tolist() != other.sides["seen gallery"].index.tolist()


def test_cifar_compositions(tiny_cifar):
    suite = load_suite("cifar10-compositions", data=tiny_cifar / "cifar10")
    assert len(suite.seen) == 32 and len(suite.unseen) == 16
    assert_disjoint(suite)


def test_corruptions_grow_with_their_severity():
    images = interpolate(torch.rand(4, 3, 5, 5, generator=generator(0)), size=(32, 32), mode="bilinear")
    by_kind = {}
    for shift in CORRUPTIONS.shifts:
        by_kind.setdefault(shift.factors[0], []).append((shift(images) - images).square().mean().item())
    assert all(len(errors) == 4 and errors == sorted(errors) for errors in by_kind.values())
    assert [len(values) for values in CORRUPTIONS.factors] == [4, 4]


def test_label_rules_differ_by_task_and_pixels_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "HELD_OUT_PER_CLASS", 3)
    monkeypatch.setattr(cifar, "GALLERY_PER_CLASS", 4)
    for label, name in enumerate(("automobile", "bird", "cat", "dog", "truck")):
        write_pictures(tmp_path / "train" / name, 20, label)
        write_pictures(tmp_path / "test" / name, 8, 10 + label)
    suite = load_suite("cifar10-rules", data=tmp_path)
    assert suite.primary == "within"
    assert suite.levels is None and suite.factors == ()
    exchanged = {"automobile": "truck", "truck": "automobile", "cat": "dog", "dog": "cat"}
    for side in suite.sides.values():
        rendered = side.images()
        for row in range(0, len(side), 7):
            true = suite.names[side.index[row]].split("/")[1]
            swapped = suite.tasks[side.tasks[row]].startswith("swapped")
            assert suite.classes[side.labels[row]] == (exchanged.get(true, true) if swapped else true)
            assert torch.equal(rendered[row], suite.pictures[side.index[row]].float() / 255)
    with pytest.raises(InputError, match="no class 'cat'"):
        load_suite("cifar10-rules", data=renamed(tmp_path, "cat", "cow"))


def renamed(folder, before, after):
    for side in ("train", "test"):
        (folder / side / before).rename(folder / side / after)
    return folder


def test_cifar_of_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "HELD_OUT_PER_CLASS", 1)
    monkeypatch.setattr(cifar, "GALLERY_PER_CLASS", 1)
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
    assert suite.pictures.shape == (60, 3, 16, 16) and suite.notes
    assert_disjoint(suite)


def test_cifar_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"There is no CIFAR-10 in .*--download"):
        load_suite("cifar10", data=tmp_path)
    for side, name in product(("train", "test"), "ab"):
        write_pictures(tmp_path / side / name, 2)
    with pytest.raises(InputError, match="2 training pictures only"):
        load_suite("cifar10", data=tmp_path)


# Folders


def test_folder_of_tasks(by_task):
    suite = load_suite(f"folder:{by_task}", hold_out=["toy"])
    assert_disjoint(suite)
    assert suite.tasks == ("photo", "sketch", "toy") and suite.unseen == (2,)
    assert suite.classes == ("bird", "cat", "dog") and suite.primary == "within"
    assert suite.image_size == 32
    frame = suite.describe()
    per_class = dict(zip(frame.side, frame.smallest, strict=True))
    assert per_class == {
        "train": 5, "validation": 1, "seen gallery": 2, "seen query": 2, "unseen gallery": 5, "unseen query": 5
    }  # fmt: skip
    for examples in suite.sides.values():
        for index, task, label in zip(examples.index, examples.tasks, examples.labels, strict=True):
            assert suite.names[index].startswith(f"{suite.tasks[task]}/{suite.classes[label]}/")
    assert_same(suite, load_suite(f"folder:{by_task}", hold_out=["toy"]))


def test_folder_of_equal_tasks_is_pooled(by_task):
    for path in sorted((by_task / "toy" / "bird").iterdir()):
        path.unlink()
    write_pictures(by_task / "toy" / "dog" / "deeper", 10)
    suite = load_suite(f"folder:{by_task}")
    assert suite.primary == "pooled" and suite.classes == ("cat", "dog")
    assert not suite.unseen and "unseen query" not in suite.sides


def test_numbered_classes_belong_to_their_task(tmp_path):
    for task, classes in (("Greek", 3), ("Latin", 2)):
        for number in range(1, classes + 1):
            write_pictures(tmp_path / "top" / task / f"character{number:02d}", 4)
    suite = load_suite(f"folder:{tmp_path}")
    assert suite.classes[0] == "Greek/character01" and len(suite.classes) == 5
    assert suite.primary == "within" and "task/class" in suite.notes[0]


def test_folder_of_classes_gets_the_ten_shifts(tmp_path):
    write_pictures(tmp_path / "cat", 12, 0)
    write_pictures(tmp_path / "dog", 12, 1)
    suite = load_suite(f"folder:{tmp_path}", hold_out=["invert"])
    assert_disjoint(suite)
    assert suite.tasks == TEN_SHIFTS.names and [suite.tasks[i] for i in suite.unseen] == ["invert"]


def test_what_is_left_out_is_named(by_task):
    write_pictures(by_task / "photo" / "fox", 3)
    write_pictures(by_task / "toy" / "fox", 3)
    (by_task / "photo" / "cat" / "bad.png").write_bytes(b"no picture")
    (by_task / "stray.png").write_bytes((by_task / "photo" / "cat" / "000.png").read_bytes())
    suite = load_suite(f"folder:{by_task}", hold_out=["toy"])
    assert [name for name, _ in suite.skipped] == ["photo/cat/bad.png", "stray.png"]
    assert "Class photo/fox is left out: it has 3 of the 4 pictures it needs." in suite.notes
    assert "fox" in suite.classes  # three are enough for an unseen task
    assert not any(name.startswith("photo/fox") for name in suite.names)


def test_task_without_a_large_enough_class_is_named(by_task):
    write_pictures(by_task / "clay" / "cat", 2)
    suite = load_suite(f"folder:{by_task}")
    assert "clay" not in suite.tasks and any(note.startswith("Task clay is left out") for note in suite.notes)


def test_max_queries_of_a_folder(by_task):
    suite = load_suite(f"folder:{by_task}", max_queries=3, train_pictures=2)
    assert len(suite.sides["seen query"]) == len(suite.sides["validation"]) == 3
    assert suite.sides["seen query"].labels.bincount().tolist() == [1, 1, 1]
    assert len(suite.sides["train"]) == 12


# Messages


def test_messages(by_task, tmp_path):
    folder = f"folder:{by_task}"
    with pytest.raises(InputError, match=r"no task 'scetch' to hold out \(did you mean sketch\?\).*photo, sketch, toy"):
        load_suite(folder, hold_out=["scetch"])
    with pytest.raises(InputError, match="All tasks are held out"):
        load_suite(folder, hold_out=["photo", "sketch", "toy"])
    for name in ("digit", "folder:", "folder", "digits:x"):
        with pytest.raises(InputError, match=r"use digits, cifar10, .*cifar10-rules or folder:PATH"):
            load_suite(name)
    for name, value in (("max_queries", 0), ("train_pictures", 0), ("image_size", 2)):
        with pytest.raises(InputError, match=f"{name} is {value}: use"):
            load_suite("digits", **{name: value})


def test_folders_that_give_no_suite(tmp_path):
    with pytest.raises(InputError, match="check the path"):
        load_suite(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(InputError, match="no picture that can be used"):
        load_suite(f"folder:{tmp_path}")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no class folders"):
        load_suite(f"folder:{tmp_path}")
    write_pictures(tmp_path / "cat", 8)
    with pytest.raises(InputError, match="two are needed"):
        load_suite(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("names", "tasks"),
    [
        (["cat/1.png", "dog/1.png"], []),
        (["all/cat/1.png", "all/dog/1.png"], []),
        (["photo/cat/1.png", "toy/cat/1.png", "toy/dog/2.png", "stray.png"], ["photo", "toy"]),
        (["set/toy/cat/1.png", "set/photo/cat/1.png"], ["photo", "toy"]),
    ],
)
def test_tasks_are_read_off_the_names_of_pictures(names, tasks):
    assert folder_tasks(names) == tasks


def test_suites_with_fixed_tasks_have_them():
    suite, listed = load_suite("digits", image_size=8), FIXED_TASKS["digits"]
    assert suite.tasks == listed.names
    assert tuple(suite.tasks[task] for task in suite.unseen) == listed.unseen
