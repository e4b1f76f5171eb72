"""Prefetching: the next batch is drawn while a step is computed, so that a fast device does not wait for it."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Prefetch(contextlib.AbstractContextManager, Generic[T]):
    """Calls `draw(step)` for one step after the other, in a thread that is one step ahead.

    Args:
        draw: makes the batch of a step; its errors are raised where that batch is asked for.
        steps: how many there are.
        ahead: False draws on demand, for a CPU that has no time to spare.
    """

    def __init__(self, draw: Callable[[int], T], steps: int, *, ahead: bool = True):
        self.draw, self.last = draw, steps - 1 if ahead else -1
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._next: tuple[int, Future] | None = None

    def __call__(self, step: int) -> T:
        """Return the batch of a step."""
        future = self._next[1] if self._next is not None and self._next[0] == step else self._submit(step)
        batch = future.result()
        self._next = (step + 1, self._submit(step + 1)) if step < self.last else None
        return batch

    def _submit(self, step: int) -> Future:
        return self._pool.submit(self.draw, step)

    def __exit__(self, *error: Any) -> None:
        self._pool.shutdown(cancel_futures=True)
