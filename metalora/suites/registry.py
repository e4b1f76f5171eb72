"""The registry of suites: one entry each, known without importing torch.

A new suite is a function and an entry: here, by `register`, or in another package that declares it in its
pyproject.toml:

    [project.entry-points."metalora.suites"]
    my-suite = "my_package.my_suite:SUITE"
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metalora.suites.task_lists import (
    COMPOSITIONS,
    CORRUPTIONS,
    DIGITS,
    FIFTEEN,
    ROTATED,
    ROTATED_DIGITS,
    RULES,
    TEN_TRANSFORMS,
    TaskList,
)
from metalora.util.errors import InputError
from metalora.util.registry import Registry


@dataclass(frozen=True)
class SuiteEntry:
    """A suite that can be loaded by its name; one whose name ends with a colon is followed by a path.

    Attributes:
        build: (SuiteConfig, seed, progress) → Suite, or where that function is, "module:function".
        tasks: The tasks, where they are always the same; None: the data decides.
        image_size: Side of its images in pixels, unless another is asked for.
    """

    build: str | Callable[..., Any]
    tasks: TaskList | None = None
    image_size: int = 32


SUITES: Registry[SuiteEntry] = Registry(
    "metalora.suites",
    SuiteEntry,
    {
        "digits": SuiteEntry("metalora.suites.digits:digits", DIGITS, image_size=16),
        "digits-rotations": SuiteEntry("metalora.suites.digits:digits", ROTATED_DIGITS, image_size=16),
        "cifar10": SuiteEntry("metalora.suites.cifar10:cifar10", TEN_TRANSFORMS),
        "cifar10-compositions": SuiteEntry("metalora.suites.cifar10:cifar10", COMPOSITIONS),
        "cifar10-corruptions": SuiteEntry("metalora.suites.cifar10:cifar10", CORRUPTIONS),
        "cifar10-c-rendered": SuiteEntry("metalora.suites.cifar10:cifar10", FIFTEEN),
        "cifar10-rules": SuiteEntry("metalora.suites.cifar10:cifar10", RULES),
        "folder:": SuiteEntry("metalora.suites.image_folder:folder"),
        "corruptions:": SuiteEntry("metalora.suites.image_folder:folder", FIFTEEN),
        "rotations:": SuiteEntry("metalora.suites.image_folder:folder", ROTATED),
        "table:": SuiteEntry("metalora.suites.table:table"),
    },
)

register = SUITES.register


def split_name(name: str) -> tuple[str, str]:
    """Split a suite's name into its entry and its path: ("folder:", "PATH"), or ("digits", "")."""
    head, colon, path = name.partition(":")
    return head + colon, path


def check_name(name: str) -> None:
    """Check that there is a suite of this name, which for some includes a path.

    Raises:
        InputError: there is none.
    """
    key, path = split_name(name)
    if key not in SUITES or (key.endswith(":") and not path):
        known = [f"{key}PATH" if key.endswith(":") else key for key in SUITES]
        raise InputError(f"Unknown suite {name!r}: use {', '.join(known[:-1])} or {known[-1]}.")
