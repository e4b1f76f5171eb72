"""Dividing pictures among sides and tasks: balanced over classes, decided by the seed alone."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from metalora.suites.images import ImageSet
from metalora.suites.suite import SEEN_SPLITS, UNSEEN_SPLITS, Examples, Options, Suite
from metalora.suites.task_lists import TaskList
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

SHARES = (0.5, 0.1, 0.2, 0.2)  # of training, validation, gallery and query


def ranks(groups: Tensor, rng: torch.Generator, first: Tensor | None = None) -> Tensor:
    """A random rank (0, 1, …) for each row within its group; rows with a smaller `first` come first. (N,)"""
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
    """Indices, ascending, of up to `limit` rows: as even over classes as can be, then over tasks within them."""
    cells = tasks * (labels.max() + 1) + labels
    rank = ranks(labels, rng, first=ranks(cells, rng))
    order = torch.randperm(len(rank), generator=rng)
    order = order[rank[order].argsort(stable=True)]
    return order[:limit].sort().values


def deal(labels: Tensor, tasks: Sequence[int], rng: torch.Generator) -> Tensor:
    """One of `tasks` for each row, evenly within each class and over all. (N,)"""
    order = (labels * len(labels) + ranks(labels, rng)).argsort()
    hands = torch.tensor(tasks)[torch.randperm(len(tasks), generator=rng)]
    result = torch.empty_like(labels)
    result[order] = hands[torch.arange(len(labels)) % len(tasks)]
    return result


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
    """Divide the rows of every group by `shares`; group -1 is left out. Ascending indices of each side."""
    splits: list[list[Tensor]] = [[] for _ in shares]
    for group in groups[groups >= 0].unique():
        rows = (groups == group).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=rng)]
        for split, part in zip(splits, rows.split(apportion(len(rows), shares)), strict=True):
            split.append(part)
    return [torch.cat(split).sort().values if split else torch.empty(0, dtype=torch.int64) for split in splits]


def held_out_tasks(hold_out: Sequence[str], tasks: Sequence[str]) -> tuple[int, ...]:
    """Positions of the tasks called `hold_out` in `tasks`.

    Raises:
        InputError: there is no such task, or none is left to train on.
    """
    for name in hold_out:
        if name not in tasks:
            near = get_close_matches(name, tasks, 3)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            raise InputError(f"There is no task {name!r} to hold out{hint}: the tasks are {', '.join(tasks)}.")
    if set(hold_out) >= set(tasks):
        raise InputError(f"All tasks are held out ({', '.join(tasks)}), none is left to train on: hold out fewer.")
    return tuple(position for position, name in enumerate(tasks) if name in hold_out)


def draw_tasks(
    count: int, tasks: Sequence[str], factor_indices: Tensor | None, rng: torch.Generator
) -> tuple[str, ...]:
    """Names of `count` tasks to hold out, drawn so that the others keep all factor values, and all pairs of them.

    One after the other: a task whose values, and pairs of values, are the most frequent among those left, at random
    among equals. The last one that has a value is taken when there is no other choice.

    Args:
        levels: int64 (tasks, factors), see `Suite`; None: any tasks will do.

    Raises:
        InputError: no task would be left to train on.
    """
    if count >= len(tasks):
        raise InputError(f"{count} of {len(tasks)} tasks cannot be held out, none is left to train on: hold out fewer.")
    order = torch.randperm(len(tasks), generator=rng)
    if factor_indices is None:
        held = order[:count]
    else:
        values = (
            factor_indices[order, None] == factor_indices[None, order]
        )  # (tasks, tasks, factors): which of them two tasks share
        first, second = torch.triu_indices(factor_indices.shape[1], factor_indices.shape[1], 1)
        shared = torch.cat([values, values[..., first] & values[..., second]], dim=2)
        spare = torch.tensor(
            [1e-6] * factor_indices.shape[1] + [1e-3] * len(first)
        )  # of the last one: values before pairs
        left = torch.ones(len(tasks), dtype=torch.bool)
        for _ in range(count):
            others = shared[:, left].sum(1) - 1
            rare = (1 / (others + spare)).sum(1).masked_fill(~left, torch.inf)
            left[rare.argmin()] = False
        held = order[~left]
    return tuple(tasks[i] for i in held.sort().values.tolist())


def unseen_tasks(
    options: Options, tasks: Sequence[str], usual: Sequence[str] = (), factor_indices: Tensor | None = None
) -> tuple[int, ...]:
    """Positions of the tasks that are unseen: those asked for by name, as many as asked for, or the usual ones.

    Raises:
        InputError: as `held_out_tasks` and `draw_tasks`.
    """
    names = options.hold_out or usual
    if options.draw_unseen is not None:
        names = draw_tasks(options.draw_unseen, tasks, factor_indices, seeded_generator(options.seed, len(tasks), 1))
    return held_out_tasks(names, tasks)


def _rules(classes: Sequence[str], tasks: TaskList) -> Tensor:
    """The label that a task gives to each class, int64 (tasks, classes): every other task exchanges some."""
    rules = torch.arange(len(classes)).repeat(len(tasks.transforms), 1)
    for pair in tasks.swaps:
        missing = [name for name in pair if name not in classes]
        if missing:
            raise InputError(f"There is no class {missing[0]!r}, which some tasks exchange: choose another suite.")
        first, second = (classes.index(name) for name in pair)
        rules[1::2, first], rules[1::2, second] = second, first
    return rules


def transformed_suite(
    name: str,
    pictures: ImageSet,
    labels: Tensor,
    classes: tuple[str, ...],
    parts: Sequence[Tensor],
    tasks: TaskList,
    options: Options,
    notes: tuple[str, ...] = (),
) -> Suite:
    """One labelled set of pictures, shown through the shifts of `tasks`.

    Training rows are all training pictures in every seen task; every other picture gets one seen task, and
    gallery and query pictures one unseen task besides.

    Args:
        labels: int64 (P,).
        parts: indices of the pictures for training, validation, gallery and query, disjoint.
    """
    unseen = unseen_tasks(options, tasks.names, tasks.unseen, tasks.factor_indices)
    seen = tuple(task for task in range(len(tasks.transforms)) if task not in unseen)
    rng = seeded_generator(options.seed, len(labels))
    train, validation, gallery, query = parts
    if options.max_train_images is not None:
        train = train[ranks(labels[train], rng) < options.max_train_images]
    validation, query = (
        split[at_most(options.max_queries, labels[split], torch.zeros_like(split), rng)]
        for split in (validation, query)
    )
    rows = {"train": (train.repeat(len(seen)), torch.tensor(seen).repeat_interleave(len(train)))}
    for split, index in zip(SEEN_SPLITS[1:], (validation, gallery, query), strict=True):
        rows[split] = (index, deal(labels[index], seen, rng))
    if unseen:
        for split, index in zip(UNSEEN_SPLITS, (gallery, query), strict=True):
            rows[split] = (index, deal(labels[index], unseen, rng))
    rules = _rules(classes, tasks)
    return Suite(
        name=name,
        pictures=pictures.images,
        names=pictures.names,
        classes=classes,
        tasks=tasks.names,
        seen=seen,
        unseen=unseen,
        splits={
            s: Examples(pictures.images, tasks.transforms, i, t, rules[t, labels[i]]) for s, (i, t) in rows.items()
        },
        primary="within" if tasks.swaps else "pooled",
        seed=options.seed,
        factors=tasks.factors,
        factor_indices=tasks.factor_indices,
        skipped=pictures.skipped,
        notes=notes,
    )
