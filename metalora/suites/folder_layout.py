"""From the names of images to tasks and classes: task/class/image, or class/image."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from metalora.suites.images import ImageSet
from metalora.util.errors import InputError

OUTSIDE = "The image lies outside the class folders: move it into one."


@dataclass(frozen=True, eq=False)
class Layout:
    """Images with the task ("" where there are no tasks) and class of each.

    Attributes:
        images: The images.
        tasks: Their tasks.
        folders: Their classes.
        groups: Names of what has to stay in one split, such as clips or patients; None: every image by itself.
        splits: "train", "validation", "gallery", "query", "test", or "" where it is open; None: all are open.
    """

    images: ImageSet
    tasks: tuple[str, ...]
    folders: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None

    def select(self, kept: Sequence[bool]) -> "Layout":
        """Return the images where `kept` is true."""
        rows = [row for row, good in enumerate(kept) if good]

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[row] for row in rows)

        images = replace(self.images, images=self.images.images[torch.tensor(rows)], names=pick(self.images.names))
        optional = [None if values is None else pick(values) for values in (self.groups, self.splits)]
        return Layout(images, pick(self.tasks), pick(self.folders), *optional)

    @property
    def unit(self) -> str:
        """What is divided among the splits."""
        return "images" if self.groups is None else "groups"

    def class_sizes(self) -> Counter[tuple[str, str]]:
        """Count the images, or the groups, of every class of a task: (task, class) → number."""
        units = self.groups or range(len(self.tasks))
        cells = dict.fromkeys(zip(self.tasks, self.folders, units, strict=True))
        return Counter((task, folder) for task, folder, _ in cells)


def read_layout(images: ImageSet) -> Layout:
    """Decided by how deep most images lie; a single folder around all of them is looked through.

    Raises:
        InputError: the images lie in no folders.
    """
    paths, depth = _folders(images.names)
    inside = [len(path) >= depth for path in paths]
    if not any(inside):
        raise InputError("The images lie in no class folders: sort them into PATH/class or PATH/task/class.")
    strays = tuple((name, OUTSIDE) for name, good in zip(images.names, inside, strict=True) if not good)
    tasks = tuple(path[0] if path and depth == 2 else "" for path in paths)
    folders = tuple(path[depth - 1] if len(path) >= depth else "" for path in paths)
    return Layout(replace(images, skipped=images.skipped + strays), tasks, folders).select(inside)


def folder_tasks(names: Sequence[str]) -> list[str]:
    """Tasks of images with these names, sorted; none where they lie in class folders only."""
    paths, depth = _folders(names)
    return sorted({path[0] for path in paths if len(path) >= depth}) if depth == 2 else []


def _folders(names: Sequence[str]) -> tuple[list[list[str]], int]:
    """Return the folders around each image, and how many of them count: 2 where there are tasks."""
    paths = [name.split("/")[:-1] for name in names]
    if len({path[0] for path in paths if path}) == 1 and _mostly(paths, 2):
        paths = [path[1:] for path in paths]
    return paths, 2 if _mostly(paths, 2) else 1


def _mostly(paths: Sequence[Sequence[str]], depth: int) -> bool:
    return 2 * sum(len(path) >= depth for path in paths) > len(paths)


def numbered_anew(layout: Layout) -> bool:
    """Whether class folders of the same name in two tasks are different classes.

    They are where tasks have different folders, and each numbers its own from the same start without a
    gap (character01, character02, …): a number means something within its task only.
    """
    of_task: dict[str, set[str]] = defaultdict(set)
    for task, name in zip(layout.tasks, layout.folders, strict=True):
        of_task[task].add(name)
    sets = list(of_task.values())
    matches = [[re.fullmatch(r"(.*?)(\d+)", name) for name in names] for names in sets]
    if all(names == sets[0] for names in sets) or not all(match for row in matches for match in row):
        return False
    numbers = [sorted(int(match[2]) for match in row if match) for row in matches]
    one_stem = len({match[1] for row in matches for match in row if match}) == 1
    start = numbers[0][0]
    return one_stem and all(row == list(range(start, start + len(row))) for row in numbers)


def leave_out_small(
    layout: Layout, smallest: int, hold_out: Sequence[str] = (), smallest_unseen: int = 2
) -> tuple[Layout, tuple[str, ...]]:
    """Leave out the classes of a task that have fewer than `smallest` images or groups; return notes on them too.

    Args:
        hold_out: tasks for which `smallest_unseen` counts instead.
    """
    cells = list(zip(layout.tasks, layout.folders, strict=True))
    needed = {cell: smallest_unseen if cell[0] in hold_out else smallest for cell in cells}
    small = {cell: count for cell, count in layout.class_sizes().items() if count < needed[cell]}
    notes = tuple(
        f"Class {'/'.join(filter(None, cell))} is left out: "
        f"it has {count} of the {needed[cell]} {layout.unit} it needs."
        for cell, count in sorted(small.items())
    )
    kept = layout.select([cell not in small for cell in cells])
    lost = sorted(set(layout.tasks) - set(kept.tasks) - {""})
    return kept, notes + tuple(
        f"Task {task} is left out: none of its classes has enough {layout.unit}." for task in lost
    )
