"""Suites: sets of tasks over one label space, with their training, validation, gallery and query images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from metalora.suites.cifar10 import cifar10, cifar10_compositions, cifar10_corruptions, cifar10_rules
from metalora.suites.development import develop
from metalora.suites.digits import digits
from metalora.suites.image_folder import folder
from metalora.suites.images import Progress
from metalora.suites.suite import Options, Suite
from metalora.suites.task_lists import COMPOSITIONS, CORRUPTIONS, DIGITS, RULES, TEN_TRANSFORMS
from metalora.util.errors import InputError

# A name that ends with a colon is followed by a path.
SUITES: dict[str, Callable[[Options], Suite]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar10-compositions": cifar10_compositions,
    "cifar10-corruptions": cifar10_corruptions,
    "cifar10-rules": cifar10_rules,
    "folder:": folder,
}

# The tasks of suites that always have the same.
FIXED_TASKS = {
    "digits": DIGITS,
    "cifar10": TEN_TRANSFORMS,
    "cifar10-compositions": COMPOSITIONS,
    "cifar10-corruptions": CORRUPTIONS,
    "cifar10-rules": RULES,
}


def load_suite(
    name: str,
    *,
    data: str | Path = "data",
    seed: int = 0,
    image_size: int | None = None,
    hold_out: Sequence[str] = (),
    draw_unseen: int | None = None,
    development: bool = False,
    max_queries: int = 1500,
    max_train_images: int | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> Suite:
    """The suite called `name`: a key of `SUITES`, such as "digits", or "folder:PATH".

    Args:
        data: where CIFAR-10 lies: a folder or archive with train/CLASS and test/CLASS, a folder that holds
            cifar10.zip or cifar10.tar.xz, or one that holds the files of torchvision.
        seed: decides every split.
        image_size: side of the images in pixels; None: the suite's own.
        hold_out: names of the tasks that are to be unseen; none: the suite's own (a folder of tasks: none).
        draw_unseen: instead of names, how many tasks are to be unseen; drawn with the seed, so that all values of
            the factors that tasks are made of, and all pairs of them, stay evenly among the seen, where that can be.
        development: see `develop`; for choices, so that nothing of the test is seen when they are made.
        max_queries: the most images of each query side and of validation.
        max_train_images: the most training pictures of each class (in a folder of tasks, of each task); None: all.
        download: fetch CIFAR-10 into `data` when it is not there.
        progress: called with the number of pictures read so far, and in all where that is known.

    Raises:
        InputError: unknown name, a bad value, or pictures that cannot be used.
    """
    head, colon, path = name.partition(":")
    build = SUITES.get(head + colon)
    if build is None or (colon and not path):
        known = [f"{key}PATH" if key.endswith(":") else key for key in SUITES]
        raise InputError(f"Unknown suite {name!r}: use {', '.join(known[:-1])} or {known[-1]}.")
    options = Options(
        data=Path(path if colon else data).expanduser(),
        seed=seed,
        image_size=image_size,
        hold_out=(hold_out,) if isinstance(hold_out, str) else tuple(hold_out),
        draw_unseen=draw_unseen,
        max_queries=max_queries,
        max_train_images=max_train_images,
        download=download,
        progress=progress,
    )
    suite = replace(build(options), name=name)
    return develop(suite) if development else suite
