"""What `compare` and `study` show before and while their trainings run, in processes of their own."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metalora.cli.messages import Bar, skipped_note, time_left

SECONDS, SECONDS_IN_FILE = 2.0, 60.0  # between looks at trainings under way; where progress goes to a file


def check(title: str, config: Any) -> tuple[Any, list[str]]:
    """What `check_comparison` finds, pictures that cannot be used among its sentences, with the reading shown."""
    from metalora.experiments.checks import check_comparison

    with Bar(title) as bar:
        suite, notes = check_comparison(config, bar.tell)
    return suite, [*notes, *([skipped_note(suite.skipped)] if suite.skipped else [])]


def follow(title: str, jobs: Iterator[Any], folder: Path, total: int) -> Iterator[Any]:
    """Hand on what `run_comparison` yields, with a line for each, and in between how far the running ones are.

    Args:
        folder: of the cells.
        total: their number.
    """
    with (
        _ended_like_interrupted(),
        Bar(title) as bar,
        contextlib.closing(jobs),
        _Looking(bar, folder, total) as looking,
    ):
        for job in jobs:
            yield job  # whoever counts has it, should the telling be interrupted
            looking.ended(job)


@contextlib.contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """SIGTERM, as batch systems and containers send it, acts as Ctrl-C: else the trainings' processes would go on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Looking(threading.Thread):
    """Looks at the files of trainings that are under way every few seconds, while it is entered."""

    def __init__(self, bar: Bar, folder: Path, total: int):
        super().__init__(daemon=True)
        self.bar, self.folder, self.total = bar, folder, total
        self.done, self.ran, self.began, self.over = 0, 0, time.monotonic(), threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> "_Looking":
        self.bar.tell(0, self.total, "the first trainings")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def ended(self, job: Any) -> None:
        """A training has ended."""
        with self.lock:
            self.done = job.done
            self.ran += job.ran
            self.bar.tell(job.done, job.total, f"{time_left(job.seconds_left)}  {job.name}", line=True)

    def run(self) -> None:
        from metalora.experiments.runner import under_way

        while not self.over.wait(SECONDS_IN_FILE if self.bar.live.disable else SECONDS):
            with self.lock:
                running = under_way(self.folder)
                if running:
                    self._tell(running)

    def _tell(self, running: list[Any]) -> None:
        from metalora.experiments.runner import seconds_left

        elapsed = time.monotonic() - self.began
        left = time_left(seconds_left(elapsed, self.ran, self.total - self.done, running))
        named = "; ".join(f"{one.name}: {one.share:.0%}" for one in running)
        self.bar.tell(self.done, self.total, f"{left}  {named}")
