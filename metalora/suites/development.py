"""The part of a suite on which choices are made: nothing of its unseen tasks, nothing of its query images."""

from dataclasses import replace

import torch
from torch import Tensor

from metalora.suites.splits import draw_tasks
from metalora.suites.suite import Examples, Suite
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

SHARE = 4  # one of so many seen tasks plays an unseen one


def develop(suite: Suite) -> Suite:
    """Return a suite whose unseen tasks are seen tasks of `suite`, and whose query images are validation images of it.

    A quarter of the seen tasks, drawn with the suite's seed, are held out. Half of the other tasks' validation
    images become queries; so do all of the held-out tasks', with their gallery images as gallery.

    Raises:
        InputError: there are fewer than two seen tasks.
    """
    if len(suite.seen) < 2:
        raise InputError(f"{suite.name} has one seen task, of which none can be held out for development: add tasks.")
    rng = seeded_generator(suite.seed, len(suite.tasks), 2)
    count = max(1, len(suite.seen) // SHARE)
    factor_indices = None if suite.factor_indices is None else suite.factor_indices[list(suite.seen)]
    held = draw_tasks(count, [suite.tasks[task] for task in suite.seen], factor_indices, rng)
    unseen = tuple(task for task in suite.seen if suite.tasks[task] in held)
    splits = {name: suite.splits[name] for name in ("train", "validation", "seen gallery")}
    apart = {name: torch.isin(split.tasks, torch.tensor(unseen)) for name, split in splits.items()}
    seen_splits = {name: split[~apart[name]] for name, split in splits.items()}
    validation, queries = _halves(seen_splits["validation"], rng)
    return replace(
        suite,
        seen=tuple(task for task in suite.seen if task not in unseen),
        unseen=unseen,
        splits={
            **seen_splits,
            "validation": validation,
            "seen query": queries,
            "unseen gallery": splits["seen gallery"][apart["seen gallery"]],
            "unseen query": splits["validation"][apart["validation"]],
        },
        notes=(*suite.notes, "Development: seen tasks held out and validation images, no unseen task, no query."),
    )


def _halves(split: Examples, rng: torch.Generator) -> tuple[Examples, Examples]:
    chosen: Tensor = torch.randperm(len(split), generator=rng)
    return split[chosen[: len(split) // 2].sort().values], split[chosen[len(split) // 2 :].sort().values]
