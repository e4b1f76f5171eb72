"""Progress of the trainings of `compare` and `study`, which run in processes of their own."""

import contextlib
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from metalora.cli.messages import Bar, skipped_note, time_left
from metalora.cli.signals import asking_first
from metalora.util.locks import locked

SECONDS, SECONDS_IN_FILE = 2.0, 60.0  # between reads of running trainings, in a terminal and in a file


def check(title: str, config: Any) -> tuple[Any, Any, list[str]]:
    """Check a comparison, showing how far its images are read; return its settings, suite and notes.

    The settings lack Ks that the galleries cannot serve; the notes name images that cannot be used.
    """
    from metalora.experiments.checks import check_comparison

    with Bar(title) as bar:
        config, suite, notes = check_comparison(config, bar.reading)
    return config, suite, [*notes, *([skipped_note(suite.skipped)] if suite.skipped else [])]


def follow(title: str, jobs: Generator[Any, None, None], folder: Path, total: int) -> Iterator[Any]:
    """Yield what `run_comparison` yields, printing a line for each and in between how far the running ones are.

    Args:
        title: What progress is called.
        jobs: What `run_comparison` returned.
        folder: Folder of the comparison.
        total: Number of jobs.

    Raises:
        Busy: Another process runs this comparison.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, once the running trainings are saved; at once after a second one.
    """
    from metalora.experiments.job_files import JOBS, request_stop

    def stop() -> None:
        try:
            request_stop(folder)
        except OSError as error:  # the disk is full, or the folder was deleted
            raise KeyboardInterrupt from error

    busy = f"The comparison in {folder.name} is running already: wait for its end, or choose another folder."
    with (
        locked(folder / JOBS, busy),
        asking_first(stop),
        Bar(title) as bar,
        contextlib.closing(jobs),
        _Watcher(bar, folder, total) as watcher,
    ):
        for job in jobs:
            yield job  # before it is printed, so that the caller has counted it if printing is interrupted
            watcher.finish(job)


class _Watcher(threading.Thread):
    """Reads the files of running trainings every few seconds, while it is entered."""

    def __init__(self, bar: Bar, folder: Path, total: int):
        super().__init__(daemon=True)
        self.bar, self.folder, self.total = bar, folder, total
        self.done, self.ran, self.began, self.over = 0, 0, time.monotonic(), threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> "_Watcher":
        self.bar.update(0, self.total, "the first trainings")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def finish(self, job: Any) -> None:
        """Count and print a finished training."""
        with self.lock:
            self.done = job.done
            self.ran += job.ran
            self.bar.update(job.done, job.total, f"{time_left(job.seconds_left)}  {job.name}", line=True)

    def run(self) -> None:
        """Print running trainings until the last one is finished."""
        from metalora.experiments.job_files import running_jobs

        while not self.over.wait(SECONDS_IN_FILE if self.bar.live.disable else SECONDS):
            with self.lock:
                running = running_jobs(self.folder)
                if running:
                    self._print(running)

    def _print(self, running: list[Any]) -> None:
        from metalora.experiments.runner import seconds_left

        elapsed = time.monotonic() - self.began
        seconds = seconds_left(elapsed, self.ran, self.total - self.done, running)
        names = "; ".join(f"{job.name}: {job.fraction:.0%}" for job in running)
        self.bar.update(self.done, self.total, f"{time_left(seconds or 0.0)}  {names}")
