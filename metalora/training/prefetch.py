"""Batches that are made while the step before them is computed, so that a fast device does not wait for them."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Prefetch(contextlib.AbstractContextManager, Generic[T]):
    """`draw(step)` for one step after the other, the next one drawn in a thread meanwhile.

    Args:
        draw: makes the batch of a step; what it raises is raised where that batch is asked for.
        steps: how many there are.
        ahead: False draws when asked, for a device that has no time to spare meanwhile.
    """

    def __init__(self, draw: Callable[[int], T], steps: int, *, ahead: bool = True):
        self.draw, self.last = draw, steps - 1 if ahead else -1
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._next: tuple[int, Future] | None = None

    def __call__(self, step: int) -> T:
        ready = self._next[1] if self._next is not None and self._next[0] == step else self._ask(step)
        batch = ready.result()
        self._next = (step + 1, self._ask(step + 1)) if step < self.last else None
        return batch

    def _ask(self, step: int) -> Future:
        return self._pool.submit(self.draw, step)

    def __exit__(self, *error: Any) -> None:
        self._pool.shutdown(cancel_futures=True)
