"""Splits: even shares of images, over classes and tasks."""

import pytest
import torch

from metalora.suites.splits import apportion, at_most, deal
from metalora.util.seeding import seeded_generator


@pytest.mark.parametrize("count", range(4, 60))
def test_apportion(count):
    shares = (0.5, 0.1, 0.2, 0.2)
    parts = apportion(count, shares)
    assert sum(parts) == count and min(parts) >= 1
    assert all(abs(part - count * share) <= 1 for part, share in zip(parts, shares, strict=True))


def test_deal_is_even_within_classes_and_over_all():
    labels = torch.tensor([0] * 7 + [1] * 11 + [2] * 5)
    dealt, tasks = deal(labels, (2, 5, 9), seeded_generator(0))
    assert dealt.tolist() == list(range(23))
    for rows in (labels >= 0, labels == 0, labels == 1, labels == 2):
        counts = torch.stack([(tasks[rows] == task).sum() for task in (2, 5, 9)])
        assert counts.max() - counts.min() <= 1


def test_few_rows_of_a_class_are_dealt_to_every_task_and_to_none_twice():
    labels = torch.tensor([0] * 3 + [1] * 20 + [2])
    rows, tasks = deal(labels, range(7), seeded_generator(0), complete=True)
    pairs = list(zip(rows.tolist(), tasks.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs) == 9 + 20 + 7
    for label in range(3):
        assert set(tasks[labels[rows] == label].tolist()) == set(range(7))


def test_at_most_is_balanced_over_classes_then_tasks():
    labels = torch.tensor([0] * 100 + [1] * 20 + [2] * 5)
    tasks = torch.arange(125) % 2
    kept = at_most(29, labels, tasks, seeded_generator(0))
    assert labels[kept].bincount().tolist() == [12, 12, 5]
    assert (tasks[kept][labels[kept] == 0].bincount() == 6).all()
    assert len(at_most(500, labels, tasks, seeded_generator(0))) == 125
