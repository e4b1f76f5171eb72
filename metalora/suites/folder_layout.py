"""From the names of images to the split, task, class and group of each."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from metalora.suites.folder_meaning import SPLIT_WORDS, Meaning, find_meaning
from metalora.suites.images import ImageSet
from metalora.util.errors import InputError

SMALLEST, SMALLEST_GROUPS = 4, 3
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
        notes: Sentences on how they were read.
    """

    images: ImageSet
    tasks: tuple[str, ...]
    folders: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def select(self, kept: Sequence[bool]) -> "Layout":
        """Return the images where `kept` is true."""
        rows = [row for row, good in enumerate(kept) if good]

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[row] for row in rows)

        groups, splits = (None if values is None else pick(values) for values in (self.groups, self.splits))
        return Layout(self.images.select(rows), pick(self.tasks), pick(self.folders), groups, splits, self.notes)

    @property
    def smallest(self) -> int:
        """How many images, or groups, a class of a seen task needs: one for every split, but a group for validation."""
        return SMALLEST if self.groups is None else SMALLEST_GROUPS

    @property
    def unit(self) -> str:
        """What is divided among the splits."""
        return "images" if self.groups is None else "groups"

    def class_sizes(self) -> Counter[tuple[str, str]]:
        """Count the images, or the groups, of every class of a task: (task, class) → number."""
        units = self.groups or range(len(self.tasks))
        cells = dict.fromkeys(zip(self.tasks, self.folders, units, strict=True))
        return Counter((task, folder) for task, folder, _ in cells)


DEEPER = "The images of a folder below a class stay in one split; to divide them one by one, use --layout {}."
FEW_GROUPS = (
    "Some classes have folders of images, too few to keep each in one split, so that they are divided; to keep "
    "them together, use --layout {}/group."
)


def read_layout(images: ImageSet, layout: str | None = None) -> Layout:
    """Read split, task, class and group of every image from the folders around it.

    Args:
        images: The images.
        layout: What the folders mean, see `check_layout`; None: see `find_meaning`.

    Raises:
        InputError: The images lie in no folders, or see `find_meaning`.
    """
    meaning = find_meaning(images.names, layout)
    levels = meaning.levels
    paths = [meaning.folders(name) for name in images.names]
    inside = [len(path) >= len(levels) for path in paths]
    if not any(inside):
        raise InputError("The images lie in no class folders: sort them into PATH/class or PATH/task/class.")
    strays = tuple((name, OUTSIDE) for name, good in zip(images.names, inside, strict=True) if not good)

    def column(level: str) -> tuple[str, ...]:
        place = levels.index(level) if level in levels else None
        return tuple("" if place is None or place >= len(path) else path[place] for path in paths)

    splits = tuple(SPLIT_WORDS.get(word.lower(), "") for word in column("split")) if "split" in levels else None
    groups, tasks, folders = None, column("task"), column("class")
    if "group" in levels:
        groups = tuple("/".join(path) for path in paths)
    read = Layout(replace(images, skipped=images.skipped + strays), tasks, folders, groups, splits, meaning.notes)
    read = read.select(inside)
    return read if layout is not None or groups is not None else _with_deeper_groups(read, meaning)


def _with_deeper_groups(layout: Layout, meaning: Meaning) -> Layout:
    """Keep folders below a class together, where every class has enough of them; say so either way."""
    paths, depth = [meaning.folders(name) for name in layout.images.names], len(meaning.levels)
    if not any(len(path) > depth for path in paths):
        return layout
    names = [
        "/".join(path) if len(path) > depth else name for path, name in zip(paths, layout.images.names, strict=True)
    ]
    grouped = replace(layout, groups=tuple(names))
    written = "/".join(meaning.levels)
    if min(grouped.class_sizes().values()) < SMALLEST_GROUPS:
        return replace(layout, notes=(*layout.notes, FEW_GROUPS.format(written)))
    return replace(grouped, notes=(*layout.notes, DEEPER.format(written)))


def alike_names(layout: Layout) -> tuple[str, ...]:
    """Say which tasks, and which classes, have names that differ in capitals and spaces only."""
    notes = []
    for kind, names in (("tasks", layout.tasks), ("classes", layout.folders)):
        spellings: dict[str, set[str]] = defaultdict(set)
        for name in set(names):
            spellings[re.sub(r"[\s_]+", " ", name).strip().casefold()].add(name)
        notes += [
            f"{' and '.join(sorted(alike))} are different {kind}: rename the folders if they are one."
            for _, alike in sorted(spellings.items())
            if len(alike) > 1
        ]
    return tuple(notes)


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
    layout: Layout, hold_out: Sequence[str] = (), smallest_unseen: int = 2
) -> tuple[Layout, tuple[str, ...]]:
    """Leave out the classes of a task that have too few images or groups; return notes on them too.

    Args:
        layout: of all classes.
        hold_out: tasks for which `smallest_unseen` counts instead.
        smallest_unseen: images, or groups.
    """
    cells = list(zip(layout.tasks, layout.folders, strict=True))
    needed = {cell: smallest_unseen if cell[0] in hold_out else layout.smallest for cell in cells}
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
