"""Dividing images among splits and tasks: balanced over classes, decided by the seed alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metalora.suites.config import SuiteConfig
from metalora.suites.images import ImageSet
from metalora.suites.suite import SEEN_SPLITS, UNSEEN_SPLITS, Examples, Suite
from metalora.suites.task_lists import TaskList, held_out_tasks
from metalora.util.errors import InputError
from metalora.util.files import hash_words
from metalora.util.seeding import seeded_generator

SHARES = (0.5, 0.1, 0.2, 0.2)  # of training, validation, gallery and query
HALVES = (0.5, 0.5)  # of an unseen task, and of test images: gallery and query


def ranks(groups: Tensor, rng: torch.Generator, first: Tensor | None = None) -> Tensor:
    """Return a random rank (0, 1, …) for each row within its group, (N,); rows with a smaller `first` come first."""
    order = torch.randperm(len(groups), generator=rng)
    if first is not None:
        order = order[first[order].argsort(stable=True)]
    order = order[groups[order].argsort(stable=True)]
    counts = groups.bincount()
    starts = counts.cumsum(0) - counts
    result = torch.empty_like(order)
    result[order] = torch.arange(len(order)) - starts[groups[order]]
    return result


def at_most(limit: int, labels: Tensor, tasks: Tensor, rng: torch.Generator) -> Tensor:
    """Return indices, ascending, of up to `limit` rows: as even over classes as can be, then over tasks within them."""
    cells = tasks * (labels.max() + 1) + labels
    rank = ranks(labels, rng, first=ranks(cells, rng))
    order = torch.randperm(len(rank), generator=rng)
    order = order[rank[order].argsort(stable=True)]
    return order[:limit].sort().values


def deal(
    labels: Tensor, tasks: Sequence[int], rng: torch.Generator, *, complete: bool = False
) -> tuple[Tensor, Tensor]:
    """Deal rows to tasks, evenly within each class and over all.

    Args:
        labels: Class of each row, (N,).
        tasks: Numbers of the tasks.
        rng: Decides which rows go where.
        complete: Deal the rows of a class that are fewer than the tasks to several, so that every task has every class.

    Returns:
        Rows and their tasks, (M,) each, M ≥ N.
    """
    rank, counts = ranks(labels, rng), labels.bincount()
    hands = torch.tensor(tasks)[torch.randperm(len(tasks), generator=rng)]
    times = torch.ones_like(counts)  # that a row of each class is dealt
    if complete:
        times = (len(tasks) / counts.clamp(min=1)).ceil().long()
    start = (counts * times).cumsum(0) - counts * times
    repeats = times[labels]
    rows = torch.arange(len(labels)).repeat_interleave(repeats)
    again = torch.arange(len(rows)) - (repeats.cumsum(0) - repeats)[rows]
    place = (start[labels] + rank)[rows] + again * counts[labels][rows]
    return rows, hands[place % len(tasks)]


def apportion(count: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `count`: by largest remainder, none of them 0 where that is possible."""
    exact = [count * share for share in shares]
    parts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: count - sum(parts)]:
        parts[i] += 1
    while 0 in parts and max(parts) > 1:
        parts[parts.index(max(parts))] -= 1
        parts[parts.index(0)] += 1
    return parts


def divide(groups: Tensor, shares: Sequence[float], rng: torch.Generator) -> list[Tensor]:
    """Divide the rows of every group by `shares`; group -1 is left out. Ascending indices of each split."""
    splits: list[list[Tensor]] = [[] for _ in shares]
    for group in groups[groups >= 0].unique():
        rows = (groups == group).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=rng)]
        for split, part in zip(splits, rows.split(apportion(len(rows), shares)), strict=True):
            split.append(part)
    return [torch.cat(split).sort().values if split else torch.empty(0, dtype=torch.int64) for split in splits]


OPEN = -1
SPLIT_NUMBERS = {"": OPEN, "train": 0, "validation": 1, "gallery": 2, "query": 3, "test": 4}


def divide_groups(
    groups: Sequence[str] | None, given: Sequence[str] | None, cells: Tensor, is_unseen: Tensor, rng: torch.Generator
) -> Tensor:
    """Return the split of every row, 0 to 3 as in `SHARES`, the same for all rows of a group, (N,).

    The groups of every class of a task are divided by themselves; a group of several counts for the one with the
    fewest groups. Groups of unseen tasks only are divided among gallery and query. Where no group is left for
    validation, it gets a sixth of the groups for training, or of their rows where every class has only one.

    Args:
        groups: Name of each row's group; None: every row by itself.
        given: Split of each row where it is decided, "test" for gallery or query, "" where it is open; None: all open.
        cells: Number of each row's class of a task, (N,).
        is_unseen: Which rows are of unseen tasks, (N,).
        rng: Decides which groups go where.

    Raises:
        InputError: Rows of one group are given to different splits.
    """
    values: Sequence[Any] = range(len(cells)) if groups is None else groups
    names = sorted(set(values))
    number = {name: i for i, name in enumerate(names)}
    group_of = torch.tensor([number[value] for value in values])
    split_of = torch.full((len(names),), OPEN)
    for group, word in zip(group_of.tolist(), given or (), strict=False):
        if word and split_of[group] not in (OPEN, SPLIT_NUMBERS[word]):
            raise InputError(f"Group {names[group]!r} is in two splits, one of them {word}: give all its rows one.")
        if word:
            split_of[group] = SPLIT_NUMBERS[word]
    counts = torch.stack([group_of, cells], dim=1).unique(dim=0)[:, 1].bincount()
    by_rarity = counts[cells] * len(counts) + cells
    rarest = torch.zeros_like(split_of).scatter_reduce(0, group_of, by_rarity, "amin", include_self=False) % len(counts)
    is_seen = torch.zeros(len(names), dtype=torch.bool)
    is_seen[group_of[~is_unseen]] = True

    def assign(chosen: Tensor, shares: Sequence[float], splits: Sequence[int]) -> None:
        for split, rows in zip(splits, divide(rarest.masked_fill(~chosen, -1), shares, rng), strict=True):
            split_of[rows] = split

    assign(split_of == SPLIT_NUMBERS["test"], HALVES, (2, 3))
    assign((split_of == OPEN) & is_seen, SHARES, range(4))
    assign(split_of == OPEN, HALVES, (2, 3))
    if not ((split_of == 1) & is_seen).any():
        trained = (split_of == 0) & is_seen
        if rarest[trained].bincount().max() > 1:
            assign(trained, (5 / 6, 1 / 6), (0, 1))
        else:
            result = split_of[group_of]
            result[divide(cells.masked_fill(~trained[group_of], -1), (5 / 6, 1 / 6), rng)[1]] = 1
            return result
    return split_of[group_of]


def draw_tasks(
    count: int, tasks: Sequence[str], factor_indices: Tensor | None, rng: torch.Generator
) -> tuple[str, ...]:
    """Names of `count` tasks to hold out, drawn so that the others keep all factor values, and all pairs of them.

    One after the other: a task whose values, and pairs of values, are the most frequent among those left, at random
    among equals. The last one that has a value is taken when there is no other choice.

    Args:
        factor_indices: int64 (tasks, factors), see `Suite`; None: any tasks will do.

    Raises:
        InputError: no task would be left to train on.
    """
    if count >= len(tasks):
        raise InputError(f"{count} of {len(tasks)} tasks cannot be held out, none is left to train on: hold out fewer.")
    order = torch.randperm(len(tasks), generator=rng)
    if factor_indices is None:
        held = order[:count]
    else:
        # (tasks, tasks, factors): which values two tasks share.
        values = factor_indices[order, None] == factor_indices[None, order]
        first, second = torch.triu_indices(factor_indices.shape[1], factor_indices.shape[1], 1)
        shared = torch.cat([values, values[..., first] & values[..., second]], dim=2)
        # Where a task is the last one that has it: values before pairs.
        spare = torch.tensor([1e-6] * factor_indices.shape[1] + [1e-3] * len(first))
        left = torch.ones(len(tasks), dtype=torch.bool)
        for _ in range(count):
            others = shared[:, left].sum(1) - 1
            rare = (1 / (others + spare)).sum(1).masked_fill(~left, torch.inf)
            left[rare.argmin()] = False
        held = order[~left]
    return tuple(tasks[i] for i in held.sort().values.tolist())


def unseen_tasks(
    config: SuiteConfig,
    seed: int,
    tasks: Sequence[str],
    usual: Sequence[str] = (),
    factor_indices: Tensor | None = None,
) -> tuple[int, ...]:
    """Positions of the tasks that are unseen: those asked for by name, as many as asked for, or the usual ones.

    Raises:
        InputError: as `held_out_tasks` and `draw_tasks`.
    """
    names = config.hold_out or usual
    if config.draw_unseen is not None:
        names = draw_tasks(config.draw_unseen, tasks, factor_indices, seeded_generator(seed, len(tasks), 1))
    return held_out_tasks(names, tasks)


def _rules(classes: Sequence[str], tasks: TaskList) -> Tensor:
    """Return the label that each task gives to each class, int64 (tasks, classes)."""
    rules = torch.arange(len(classes)).repeat(len(tasks.transforms), 1)
    for task, pairs in enumerate(tasks.swaps):
        for pair in pairs:
            missing = [name for name in pair if name not in classes]
            if missing:
                raise InputError(f"There is no class {missing[0]!r}, which some tasks exchange: choose another suite.")
            first, second = (classes.index(name) for name in pair)
            rules[task, first], rules[task, second] = second, first
    return rules


def _share(rows: Tensor, labels: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Return a share of the rows, at least one, as even over classes as can be."""
    count = max(1, round(share * len(rows)))
    return rows[at_most(count, labels[rows], torch.zeros_like(rows), rng)]


def transformed_suite(
    images: ImageSet,
    labels: Tensor,
    classes: tuple[str, ...],
    parts: Sequence[Tensor],
    tasks: TaskList,
    config: SuiteConfig,
    seed: int,
    notes: tuple[str, ...] = (),
) -> Suite:
    """One labelled set of images, shown through the transforms of `tasks`.

    Training rows are all training images in every seen task, or a share of them where `tasks` says so. Every other
    image gets one seen task, and gallery and query images one unseen task besides; or all, where `tasks` says so. Of a
    class with fewer gallery images than tasks they get several.

    Args:
        labels: int64 (P,).
        parts: indices of the images for training, validation, gallery and query, disjoint.
    """
    indices = None if tasks.factor_indices is None else torch.tensor(tasks.factor_indices)
    unseen = unseen_tasks(config, seed, tasks.names, tasks.unseen, indices)
    seen = tuple(task for task in range(len(tasks.transforms)) if task not in unseen)
    rng = seeded_generator(seed, len(labels))
    train, validation, gallery, query = parts
    if config.max_train_images is not None:
        train = train[ranks(labels[train], rng) < config.max_train_images]
    validation, query = (
        split[at_most(config.max_queries, labels[split], torch.zeros_like(split), rng)] for split in (validation, query)
    )
    shown = [_share(train, labels, tasks.shares[task], rng) for task in seen] if tasks.shares else [train] * len(seen)
    counts = torch.tensor([len(images) for images in shown])
    rows = {"train": (torch.cat(shown), torch.tensor(seen).repeat_interleave(counts))}
    dealt = {split: (index, seen) for split, index in zip(SEEN_SPLITS[1:], (validation, gallery, query), strict=True)}
    if unseen:
        dealt |= {split: (index, unseen) for split, index in zip(UNSEEN_SPLITS, (gallery, query), strict=True)}
    for split, (index, shown_in) in dealt.items():
        if tasks.everywhere:
            rows[split] = (index.repeat(len(shown_in)), torch.tensor(shown_in).repeat_interleave(len(index)))
            continue
        order, task_of = deal(labels[index], shown_in, rng, complete="gallery" in split)
        rows[split] = (index[order], task_of)
    rules = _rules(classes, tasks)
    return Suite(
        name=config.name,
        source_images=images.images,
        names=images.names,
        classes=classes,
        tasks=tasks.names,
        seen=seen,
        unseen=unseen,
        splits={s: Examples(images.images, tasks.transforms, i, t, rules[t, labels[i]]) for s, (i, t) in rows.items()},
        primary="within" if tasks.swaps else "pooled",
        seed=seed,
        factors=tasks.factors,
        factor_indices=indices,
        skipped=images.skipped,
        notes=notes,
        annotations=hash_words([labels.tolist(), list(classes)]),
    )
