"""What the folders around images mean: splits, tasks, classes, or groups of images that belong together."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from metalora.util.errors import InputError

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    "gallery": "gallery",
    "query": "query",
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
LEVELS = ("split", "task", "class", "group")
# What numbered folders of near-duplicates are called: clips, patients, sessions.
GROUP = re.compile(
    r"(.*[\W_])?(clip|video|vid|movie|shot|take|track|tracklet|seq|sequence|scene|burst|session|recording|run|"
    r"patient|pat|subject|subj|sub|person|case|scan|series|study|slide|stack|animal|individual)s?[\W_]*\d+.*",
    re.IGNORECASE,
)
CLASS_GROUP = (
    "The folders in class folders are read as groups (clips, patients), each of which stays in one split; if the upper "
    "ones are tasks, use --layout task/class."
)
NO_SHARED_CLASS = (
    "No class folder is in two of the upper folders, which are read as tasks; if these are the classes, use --layout "
    "class/group."
)


def check_layout(layout: str) -> tuple[str, ...]:
    """Return the levels that a layout such as "split/task/class/group" names.

    Raises:
        InputError: A level is unknown or repeated, or there is none of the classes.
    """
    levels = tuple(layout.split("/"))
    if not set(levels) <= set(LEVELS) or len(set(levels)) < len(levels) or "class" not in levels:
        raise InputError(
            f"{layout!r} is no layout of folders: name the levels from the top, of {', '.join(LEVELS)}, with one "
            "class, such as task/class or class/group."
        )
    return levels


@dataclass(frozen=True)
class Meaning:
    """What the folders around images mean.

    Attributes:
        levels: From the top, below the folders that are around all images.
        around: How many folders are around all images.
        notes: Sentences on what was guessed.
    """

    levels: tuple[str, ...]
    around: int
    notes: tuple[str, ...] = ()

    def folders(self, name: str) -> list[str]:
        """Return the folders around an image that count."""
        return name.split("/")[:-1][self.around :]


def find_meaning(names: Sequence[str], layout: str | None = None) -> Meaning:
    """Decide what the folders around images mean, by how deep most images lie and by the folders' names.

    A folder around all of them is looked through. A level whose folders are all called train, val, test or the like is
    the split. Where most images lie in two more levels these are task and class; or class and group, if the lower
    folders carry the names of the upper ones or are called clip, patient, … with a number.

    Raises:
        InputError: Some folders are called as splits and others beside them are not.
    """
    paths, around = [name.split("/")[:-1] for name in names], 0
    least = 2 if layout is None else len(check_layout(layout)) + 1
    while len({path[0] for path in paths if path}) == 1 and _mostly(paths, least):
        paths, around = [path[1:] for path in paths], around + 1
    if layout is not None:
        return Meaning(check_layout(layout), around)
    split = next((level for level in range(3) if _are_splits(paths, level)), None)
    if split is None:
        _refuse_some_splits(paths)
    else:
        paths = [path[:split] + path[split + 1 :] for path in paths]
    levels, notes = _levels(paths)
    if split is not None:
        levels.insert(split, "split")
    return Meaning(tuple(levels), around, notes)


def _levels(paths: Sequence[Sequence[str]]) -> tuple[list[str], tuple[str, ...]]:
    """Return what the folders mean that are no splits, with notes."""
    if not _mostly(paths, 2):
        return ["class"], ()
    pairs = {(path[0], path[1]) for path in paths if len(path) > 1}
    if all(GROUP.fullmatch(lower) or upper.lower() in lower.lower() for upper, lower in pairs):
        return ["class", "group"], (CLASS_GROUP,)
    shared = len({lower for _, lower in pairs}) < len(pairs)
    alone = len({upper for upper, _ in pairs}) == 1
    return ["task", "class"], () if shared or alone else (NO_SHARED_CLASS,)


def _are_splits(paths: Sequence[Sequence[str]], level: int) -> bool:
    words = {path[level].lower() for path in paths if len(path) > level}
    splits = {SPLIT_WORDS.get(word) for word in words}
    return "train" in splits and len(splits) > 1 and None not in splits


def _refuse_some_splits(paths: Sequence[Sequence[str]]) -> None:
    """Refuse folders of which some are called as splits and others are not: what these are is not known."""
    top = sorted({path[0] for path in paths if path})
    words = [name for name in top if name.lower() in SPLIT_WORDS]
    others = [name for name in top if name not in words]
    if others and {"train", *words} != {"train"} and "train" in {SPLIT_WORDS[word.lower()] for word in words}:
        raise InputError(
            f"The folders {' and '.join(words)} look like splits, {others[0]} beside them does not: move it, or say "
            "what the folders mean, such as --layout task/class."
        )


def _mostly(paths: Sequence[Sequence[str]], depth: int) -> bool:
    return 2 * sum(len(path) >= depth for path in paths) > len(paths)
