"""The part of a suite on which choices are made: nothing of its unseen tasks, nothing of its query pictures."""

from dataclasses import replace

import torch
from torch import Tensor

from metalora.suites.splits import draw_tasks
from metalora.suites.suite import Examples, Suite
from metalora.util.errors import InputError
from metalora.util.seeding import generator

SHARE = 4  # one of so many seen tasks plays an unseen one


def develop(suite: Suite) -> Suite:
    """A suite whose unseen tasks are seen tasks of `suite`, and whose query pictures are validation pictures of it.

    A quarter of the seen tasks, drawn with the suite's seed, are held out. Half of the other tasks' validation
    pictures become queries; so do all of the held-out tasks', with their gallery pictures as gallery.

    Raises:
        InputError: there are fewer than two seen tasks.
    """
    if len(suite.seen) < 2:
        raise InputError(f"{suite.name} has one seen task, of which none can be held out for development: add tasks.")
    rng = generator(suite.seed, len(suite.tasks), 2)
    count = max(1, len(suite.seen) // SHARE)
    levels = None if suite.levels is None else suite.levels[list(suite.seen)]
    held = draw_tasks(count, [suite.tasks[task] for task in suite.seen], levels, rng)
    unseen = tuple(task for task in suite.seen if suite.tasks[task] in held)
    sides = {name: suite.sides[name] for name in ("train", "validation", "seen gallery")}
    apart = {name: torch.isin(side.tasks, torch.tensor(unseen)) for name, side in sides.items()}
    seen_sides = {name: side[~apart[name]] for name, side in sides.items()}
    validation, queries = _halves(seen_sides["validation"], rng)
    return replace(
        suite,
        seen=tuple(task for task in suite.seen if task not in unseen),
        unseen=unseen,
        sides={
            **seen_sides,
            "validation": validation,
            "seen query": queries,
            "unseen gallery": sides["seen gallery"][apart["seen gallery"]],
            "unseen query": sides["validation"][apart["validation"]],
        },
        notes=(*suite.notes, "Development: seen tasks held out and validation pictures, no unseen task, no query."),
    )


def _halves(side: Examples, rng: torch.Generator) -> tuple[Examples, Examples]:
    chosen: Tensor = torch.randperm(len(side), generator=rng)
    return side[chosen[: len(side) // 2].sort().values], side[chosen[len(side) // 2 :].sort().values]
