"""A person's own pictures: PATH/task/class/picture, or PATH/class/picture shown through the ten shifts.

PATH is a folder or an archive. Deeper folders below a class belong to the class. A single folder
around everything is looked through, so one task alone reads as PATH/class/picture.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metalora.suites.folder_layout import Layout, leave_out_small, numbered_anew, read_layout
from metalora.suites.image_cache import decoded_pictures
from metalora.suites.splits import SHARES, at_most, divide, held_out_tasks, ranks, transformed_suite, unseen_tasks
from metalora.suites.suite import SEEN_SPLITS, UNSEEN_SPLITS, Examples, Options, Suite
from metalora.suites.task_lists import TEN_TRANSFORMS
from metalora.suites.transforms import unchanged
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

SMALLEST = len(SHARES)  # a picture for every side
HALVES = (0.5, 0.5)  # of an unseen task: gallery and query
UNCAPPED = ("train", "seen gallery", "unseen gallery")
APART = "Every task numbers its class folders anew, so a class is named task/class."
UNION = "Class folders of the same name are the same class in every task."


def folder(options: Options) -> Suite:
    """The suite "folder:PATH", of 32 pixels unless told otherwise. PATH is `options.data`.

    Of every class of a seen task half serves training, a tenth validation, a fifth each gallery and query;
    of an unseen task half serves as gallery, half as query.

    Raises:
        InputError: no picture can be read, fewer than two classes of seen tasks have enough of them, or a task to hold
            out is missing.
    """
    pictures = decoded_pictures(options.data, options.image_size or 32, progress=options.progress)
    layout = read_layout(pictures)
    build = _by_task if any(layout.tasks) else _shifted
    return build(layout, options)


def _number(names: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    values = tuple(sorted(set(names)))
    number = {name: i for i, name in enumerate(values)}
    return values, torch.tensor([number[name] for name in names])


def _require_two(layout: Layout, options: Options, unseen: Collection[str] = (), apart: bool = False) -> None:
    """See that seen tasks have two classes of enough pictures; `layout` has all, those that are too small as well."""
    cells = zip(layout.tasks, layout.folders, strict=True)
    sizes = Counter(cell for cell in cells if cell[0] not in unseen)
    large = {cell if apart else cell[1] for cell, size in sizes.items() if size >= SMALLEST}
    if len(large) >= 2:
        return
    small = {"/".join(filter(None, cell)): size for cell, size in sizes.items() if size < SMALLEST}
    next_one = max(small, key=small.__getitem__, default=None)
    why = f" (the largest of the others, {next_one}, has {small[next_one]})" if next_one else ""
    raise InputError(
        f"{options.data} has {len(large) or 'no'} class with {SMALLEST} pictures or more to train on{why}: "
        f"two are needed, add pictures{' or hold out fewer tasks' if unseen else ''}."
    )


def _shifted(layout: Layout, options: Options) -> Suite:
    _require_two(layout, options)
    layout, notes = leave_out_small(layout, SMALLEST)
    classes, labels = _number(layout.folders)
    parts = divide(labels, SHARES, seeded_generator(options.seed))
    return transformed_suite("folder", layout.pictures, labels, classes, parts, TEN_TRANSFORMS, options, notes)


def _by_task(layout: Layout, options: Options) -> Suite:
    held_out_tasks(options.hold_out, sorted(set(layout.tasks)))
    apart = numbered_anew(layout)  # asked before a class is left out, which would leave a gap
    _require_two(layout, options, options.hold_out, apart)
    everything = layout
    layout, notes = leave_out_small(layout, SMALLEST, options.hold_out)
    names = [f"{t}/{f}" if apart else f for t, f in zip(layout.tasks, layout.folders, strict=True)]
    classes, labels = _number(names)
    tasks, task_of = _number(layout.tasks)
    present = replace(options, hold_out=tuple(name for name in options.hold_out if name in tasks))
    unseen = unseen_tasks(present, tasks)
    _require_two(everything, options, [tasks[task] for task in unseen], apart)  # they may be drawn
    rows = _divide(task_of, labels, unseen, options)
    transforms = (unchanged,) * len(tasks)
    splits = {
        split: Examples(layout.pictures.images, transforms, index, task_of[index], labels[index])
        for split, index in rows.items()
    }
    in_task = [set(labels[task_of == task].tolist()) for task in range(len(tasks))]
    return Suite(
        name="folder",
        pictures=layout.pictures.images,
        names=layout.pictures.names,
        classes=classes,
        tasks=tasks,
        seen=tuple(task for task in range(len(tasks)) if task not in unseen),
        unseen=unseen,
        splits=splits,
        primary="pooled" if all(found == in_task[0] for found in in_task) else "within",
        seed=options.seed,
        skipped=layout.pictures.skipped,
        notes=(APART if apart else UNION, *notes),
    )


def _divide(task_of: Tensor, labels: Tensor, unseen: Sequence[int], options: Options) -> dict[str, Tensor]:
    # Indices of the pictures of every side, class by class of every task.
    rng = seeded_generator(options.seed, len(labels))
    cells = task_of * (labels.max() + 1) + labels
    is_unseen = torch.isin(task_of, torch.tensor(unseen, dtype=torch.int64))
    rows = dict(zip(SEEN_SPLITS, divide(cells.masked_fill(is_unseen, -1), SHARES, rng), strict=True))
    if unseen:
        rows |= zip(UNSEEN_SPLITS, divide(cells.masked_fill(~is_unseen, -1), HALVES, rng), strict=True)
    if options.max_train_images is not None:
        rows["train"] = rows["train"][ranks(cells[rows["train"]], rng) < options.max_train_images]
    for split, index in rows.items():
        if split not in UNCAPPED:
            rows[split] = index[at_most(options.max_queries, labels[index], task_of[index], rng)]
    return rows
