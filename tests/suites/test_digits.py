"""Digits: who sees which image in which task, what a batch and a set hold."""

import pytest
import torch
from suite_checks import assert_disjoint, assert_same

from metalora.suites.load import load_suite
from metalora.suites.registry import SUITES
from metalora.suites.task_lists import DIGITS, ROTATED_DIGITS
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture(scope="module")
def digits():
    return load_suite("digits")


def test_digits_sides(digits):
    assert_disjoint(digits)
    assert digits.source_images.shape == (1797, 3, 16, 16) and digits.primary == "pooled"
    assert len(digits.seen) == 9 and len(digits.unseen) == 3
    train = digits.splits["train"]
    assert len(train) == 9 * len(train.index.unique())  # every training image in every seen task
    for split, tasks in (("validation", digits.seen), ("seen query", digits.seen), ("unseen query", digits.unseen)):
        examples = digits.splits[split]
        assert set(examples.tasks.tolist()) == set(tasks)
        assert len(examples.index.unique()) == len(examples)  # one task for each image
    seen, unseen = digits.splits["seen query"], digits.splits["unseen query"]
    assert torch.equal(seen.index, unseen.index)


def test_rotated_digits_are_rare_as_those_of_adaptive_risk_minimization():
    suite = load_suite("digits-rotations", max_queries=50)
    assert_disjoint(suite)
    assert suite.tasks == tuple(f"rotate-{10 * i}" for i in range(14)) and not suite.unseen
    train = suite.splits["train"]
    counts = train.tasks.bincount()
    # 7560, 2160, 648, 324 and 108 of 54,000, in units of the first.
    assert counts.tolist() == [899] * 3 + [257] * 3 + [77] * 3 + [39] * 3 + [13] * 2
    assert all(len(train.labels[train.tasks == task].unique()) == 10 for task in range(14))
    assert set(train.index.tolist()) == set(train.index[train.tasks == 0].tolist())
    for split in ("validation", "seen gallery", "seen query"):  # every rotation has the same images
        examples = suite.splits[split]
        images = [examples.index[examples.tasks == task].tolist() for task in range(14)]
        assert all(found == images[0] for found in images) and len(images[0]) == (361 if "gallery" in split else 50)
    batch = suite.batch(140, seeded_generator(0))
    assert batch.tasks.bincount().tolist() == [10] * 14
    assert_same(suite, load_suite("digits-rotations", max_queries=50))
    held = load_suite("digits-rotations", hold_out="rotate-130")
    assert set(held.splits["unseen query"].tasks.tolist()) == {13} and 13 not in held.splits["train"].tasks
    assert ROTATED_DIGITS.shares[-1] == 1 / 70


def test_digits_are_class_balanced(digits):
    frame = digits.describe()
    assert set(frame.classes) == {10}
    assert (frame.largest[frame.split != "train"] - frame.smallest[frame.split != "train"]).max() <= 2
    capped = load_suite("digits", max_queries=50, max_train_images=7)
    for split in ("validation", "seen query", "unseen query"):
        assert capped.splits[split].labels.bincount().tolist() == [5] * 10
    assert capped.splits["train"].labels.bincount().tolist() == [63] * 10


def test_the_seed_decides_the_split(digits):
    assert_same(digits, load_suite("digits"))
    other = load_suite("digits", seed=1)
    assert not torch.equal(digits.splits["seen query"].index, other.splits["seen query"].index)


def test_images_are_the_shifted_pictures(digits):
    query = digits.splits["unseen query"]
    images = query.images()
    assert images.dtype == torch.float32 and images.shape == (len(query), 3, 16, 16)
    for row in (0, 7, len(query) - 1):
        picture = digits.source_images[query.index[row]][None].float() / 255
        assert torch.equal(DIGITS.transforms[query.tasks[row]](picture)[0], images[row])
    assert torch.equal(torch.cat([chunk.images() for chunk in query.chunks(100)]), images)
    assert torch.equal(query[torch.tensor([5, 3])].images(), images[[5, 3]])
    assert query[:4].source_images is digits.source_images


def test_image_size_and_hold_out():
    suite = load_suite("digits", image_size=8, hold_out="rotate-0+plain+red")
    assert suite.image_size == 8 and [suite.tasks[task] for task in suite.unseen] == ["rotate-0+plain+red"]


def test_batch_mixes_the_seen_tasks_evenly(digits):
    batch = digits.batch(90, seeded_generator(0))
    assert batch.tasks.bincount(minlength=12)[list(digits.seen)].tolist() == [10] * 9
    assert batch.groups.tolist() == list(range(90)) and batch.images.shape == (90, 3, 16, 16)
    counts = sum(digits.batch(16, seeded_generator(i)).tasks.bincount(minlength=12) for i in range(200))
    assert counts[list(digits.unseen)].sum() == 0
    assert counts[list(digits.seen)].min() > 300  # 356 on average: the two tasks that come up short change


def test_sets_are_of_one_task(digits):
    batch = digits.batch(44, seeded_generator(0), set_size=8)
    assert len(batch.labels) == 40 and batch.groups.bincount().tolist() == [8] * 5
    assert all(len(batch.tasks[batch.groups == group].unique()) == 1 for group in range(5))
    assert len(batch.tasks.unique()) == 5
    assert len(batch.labels[batch.groups == 0].unique()) > 1  # drawn blind to the labels


def test_every_training_row_is_drawn_equally_often():
    suite = load_suite("digits", max_train_images=1)
    shares = (
        torch.stack([suite.batch(900, seeded_generator(i)).labels.bincount(minlength=10) for i in range(20)]).sum(0)
        / 18_000
    )
    assert (shares - 0.1).abs().max() < 0.01  # one training image a class; the standard deviation is 0.002


def test_batches_come_from_the_generator_and_the_training_rows(digits):
    one, same, other = (digits.batch(32, seeded_generator(seed), 4) for seed in (3, 3, 4))
    assert torch.equal(one.images, same.images) and not torch.equal(one.images, other.images)
    alone = load_suite("digits", hold_out=[name for name in digits.tasks if name != "rotate-90+plain+red"])
    batch = alone.batch(32, seeded_generator(0))
    training = {tuple(image.flatten().tolist()) for image in alone.splits["train"].images()}
    assert all(tuple(image.flatten().tolist()) in training for image in batch.images)
    assert batch.tasks.unique().tolist() == list(alone.seen)
    with pytest.raises(InputError, match="holds no set of 9"):
        digits.batch(8, seeded_generator(0), set_size=9)


def test_suites_with_fixed_tasks_have_them():
    suite, listed = load_suite("digits", image_size=8), SUITES["digits"].tasks
    assert suite.tasks == listed.names
    assert tuple(suite.tasks[task] for task in suite.unseen) == listed.unseen


def test_unknown_suites_and_wrong_numbers_are_named():
    for name in ("digit", "folder:", "folder", "digits:x"):
        with pytest.raises(
            InputError, match=r"use digits, digits-rotations, .*cifar10-rules, folder:PATH, .*or table:"
        ):
            load_suite(name)
    for name, value in (("max_queries", 0), ("max_train_images", 0), ("image_size", 2)):
        with pytest.raises(InputError, match=f"{name} is {value}: use"):
            load_suite("digits", **{name: value})
