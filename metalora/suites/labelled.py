"""Labelled images of one or several tasks as a suite.

Of every class of a seen task half goes to training, a tenth to validation, a fifth each to gallery and query; of an
unseen task half is gallery, half query. Images of one group (a clip, a patient) stay in one split, and a split that
is given stays as it is.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metalora.suites.config import SuiteConfig
from metalora.suites.folder_layout import Layout, alike_names, leave_out_small, numbered_anew, read_layout
from metalora.suites.images import ImageSet
from metalora.suites.splits import SHARES, at_most, divide_groups, ranks, transformed_suite, unseen_tasks
from metalora.suites.suite import SEEN_SPLITS, UNSEEN_SPLITS, Examples, Suite
from metalora.suites.task_lists import TEN_TRANSFORMS, held_out_tasks
from metalora.suites.transforms import DomainTransform
from metalora.util.errors import InputError
from metalora.util.files import hash_words
from metalora.util.seeding import seeded_generator

UNCAPPED = ("train", "seen gallery", "unseen gallery")
MOST_NAMED = 8  # of the classes that tasks lack
APART = "Every task numbers its class folders anew, so a class is named task/class."
UNION = "Classes of the same name are the same class in every task."
SHARED_VALIDATION = "There are too few groups for validation: it gets a sixth of the images of training groups."
NO_VALIDATION = "No image is marked for validation: it gets a sixth of those for training."


def labelled_suite(layout: Layout, config: SuiteConfig, seed: int, *, apart: bool = False) -> Suite:
    """Build a suite of labelled images; without tasks they are shown through ten domain transforms.

    Args:
        layout: The images with the task and class of each.
        config: Settings of the suite.
        seed: Decides the splits.
        apart: Classes of the same name are different classes in different tasks.

    Raises:
        InputError: Fewer than two classes of seen tasks have enough images, a task to hold out is missing, or a split
            would be empty.
    """
    build = _by_task if any(layout.tasks) else _transformed
    suite = build(layout, config, seed, apart)
    empty = [name for name, split in suite.splits.items() if not len(split)]
    if empty:
        raise InputError(f"{config.source} leaves no image for the split {empty[0]!r}: add images or groups.")
    labels = [layout.tasks, layout.folders, layout.groups, layout.splits]
    return replace(suite, annotations=hash_words(labels), decoding=layout.images.decoding).with_notes(
        *layout.notes, *alike_names(layout), *layout.images.notes, *_validation_note(layout, suite)
    )


def judge_names(names: Sequence[str], config: SuiteConfig) -> tuple[list[str], list[str]]:
    """Judge by their names alone whether images make a suite, before any is decoded.

    Args:
        names: Of the images, with forward slashes.
        config: Settings of the suite.

    Returns:
        The tasks, sorted, none where ten transforms make them; and notes on what is guessed or left out.

    Raises:
        InputError: They make none, see `labelled_suite`.
    """
    images = ImageSet(torch.empty(len(names), 3, 0, 0, dtype=torch.uint8), tuple(names))
    layout = read_layout(images, config.layout)
    tasks = sorted(set(layout.tasks) - {""})
    _require_two(layout, config, apart=bool(tasks) and numbered_anew(layout))
    _, small = leave_out_small(layout)
    count = len(layout.images.skipped)
    strays = [f"{count} image{'s lie' if count > 1 else ' lies'} outside the class folders."] if count else []
    return tasks, [*layout.notes, *alike_names(layout), *strays, *small]


def outline(names: Sequence[str], config: SuiteConfig, seed: int) -> Suite:
    """Build the suite that images of these names make, without their pixels: its tasks, splits and notes count.

    Args:
        names: Of the images, with forward slashes.
        config: Settings of the suite.
        seed: Decides the splits.

    Raises:
        InputError: They make none, see `labelled_suite`.
    """
    images = ImageSet(torch.empty(len(names), 3, 0, 0, dtype=torch.uint8), tuple(names))
    layout = read_layout(images, config.layout)
    return labelled_suite(layout, config, seed, apart=any(layout.tasks) and numbered_anew(layout))


def _validation_note(layout: Layout, suite: Suite) -> tuple[str, ...]:
    """Say where validation images come from, if not from images or groups of their own."""
    if layout.splits is not None and not {"", "validation"} & set(layout.splits):
        return (NO_VALIDATION,)
    if layout.groups is not None:
        held = {layout.groups[row] for row in suite.splits["train"].index.tolist()}
        if any(layout.groups[row] in held for row in suite.splits["validation"].index.tolist()):
            return (SHARED_VALIDATION,)
    return ()


def _number(names: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    values = tuple(sorted(set(names)))
    number = {name: i for i, name in enumerate(values)}
    return values, torch.tensor([number[name] for name in names])


def _require_two(layout: Layout, config: SuiteConfig, unseen: Collection[str] = (), apart: bool = False) -> None:
    """Check that seen tasks have two classes of enough images; `layout` has all, those that are too small as well."""
    sizes = {cell: size for cell, size in layout.class_sizes().items() if cell[0] not in unseen}
    large = {cell if apart else cell[1] for cell, size in sizes.items() if size >= layout.smallest}
    if len(large) >= 2:
        return
    small = {"/".join(filter(None, cell)): size for cell, size in sizes.items() if size < layout.smallest}
    next_one = max(small, key=small.__getitem__, default=None)
    why = f" (the largest of the others, {next_one}, has {small[next_one]})" if next_one else ""
    needed = f"{layout.smallest} {layout.unit} or more to train on"
    raise InputError(
        f"{config.source} has {len(large) or 'no'} class with {needed}{why}: "
        f"two are needed, add {layout.unit}{' or hold out fewer tasks' if unseen else ''}."
    )


def _transformed(layout: Layout, config: SuiteConfig, seed: int, apart: bool) -> Suite:
    _require_two(layout, config)
    layout, notes = leave_out_small(layout)
    classes, labels = _number(layout.folders)
    parts = _parts(layout, labels, torch.zeros_like(labels), (), seeded_generator(seed))
    tasks = config.tasks or TEN_TRANSFORMS
    return transformed_suite(layout.images, labels, classes, parts[:4], tasks, config, seed, notes)


def _by_task(layout: Layout, config: SuiteConfig, seed: int, apart: bool) -> Suite:
    held_out_tasks(config.hold_out, sorted(set(layout.tasks)))
    _require_two(layout, config, config.hold_out, apart)
    everything = layout
    layout, notes = leave_out_small(layout, config.hold_out)
    names = [f"{t}/{f}" if apart else f for t, f in zip(layout.tasks, layout.folders, strict=True)]
    classes, labels = _number(names)
    tasks, task_of = _number(layout.tasks)
    present = replace(config, hold_out=tuple(name for name in config.hold_out if name in tasks))
    unseen = unseen_tasks(present, seed, tasks)
    _require_two(everything, config, [tasks[task] for task in unseen], apart)  # they may be drawn
    rows = _divide(layout, task_of, labels, unseen, config, seed)
    transforms = tuple(map(DomainTransform, tasks))
    splits = {
        split: Examples(layout.images.images, transforms, index, task_of[index], labels[index])
        for split, index in rows.items()
    }
    has_class = torch.zeros(len(tasks), len(classes), dtype=torch.bool)
    has_class[task_of, labels] = True
    # Where most tasks lack a class, the task gives it away in a pooled gallery.
    pooled = bool((2 * has_class.sum(0) > len(tasks)).all())
    return Suite(
        name=config.name,
        source_images=layout.images.images,
        names=layout.images.names,
        classes=classes,
        tasks=tasks,
        seen=tuple(task for task in range(len(tasks)) if task not in unseen),
        unseen=unseen,
        splits=splits,
        primary="pooled" if pooled else "within",
        seed=seed,
        skipped=layout.images.skipped,
        notes=(
            APART if apart else UNION,
            *notes,
            *(_lacking_note(has_class, tasks, classes) if pooled else ()),
            *_unused_note(layout, rows),
        ),
    )


def _lacking_note(has_class: Tensor, tasks: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Say which tasks lack classes that most of the others have."""
    lacking = [f"{tasks[task]} lacks {classes[label]}" for task, label in (~has_class).nonzero().tolist()]
    more = f" and {len(lacking) - MOST_NAMED} more" if len(lacking) > MOST_NAMED else ""
    return (f"Some tasks lack classes: {', '.join(lacking[:MOST_NAMED])}{more}.",) if lacking else ()


def _divide(
    layout: Layout, task_of: Tensor, labels: Tensor, unseen: Sequence[int], config: SuiteConfig, seed: int
) -> dict[str, Tensor]:
    """Return the indices of the images of every split."""
    rng = seeded_generator(seed, len(labels))
    parts = _parts(layout, labels, task_of, unseen, rng)
    rows = dict(zip((*SEEN_SPLITS, *(UNSEEN_SPLITS if unseen else ())), parts, strict=False))
    cells = task_of * (labels.max() + 1) + labels
    if config.max_train_images is not None:
        rows["train"] = rows["train"][ranks(cells[rows["train"]], rng) < config.max_train_images]
    for split, index in rows.items():
        if split not in UNCAPPED and len(index):
            rows[split] = index[at_most(config.max_queries, labels[index], task_of[index], rng)]
    return rows


def _parts(
    layout: Layout, labels: Tensor, task_of: Tensor, unseen: Sequence[int], rng: torch.Generator
) -> list[Tensor]:
    """Divide the images: training, validation, gallery and query of seen tasks, gallery and query of unseen ones."""
    cells = task_of * (labels.max() + 1) + labels
    is_unseen = torch.isin(task_of, torch.tensor(unseen, dtype=torch.int64))
    split_of = divide_groups(layout.groups, layout.splits, cells, is_unseen, rng)
    seen = [(~is_unseen & (split_of == split)).nonzero().flatten() for split in range(len(SHARES))]
    return seen + [(is_unseen & (split_of == split)).nonzero().flatten() for split in (2, 3)]


def _unused_note(layout: Layout, rows: dict[str, Tensor]) -> tuple[str, ...]:
    """Say which images of unseen tasks are used nowhere, since they are marked or grouped for training."""
    if layout.groups is None and layout.splits is None:
        return ()
    unused = len(layout.tasks) - len(torch.cat(list(rows.values())).unique())
    return (f"{unused} images are not used: of unseen tasks in training groups, or above a limit.",) if unused else ()
