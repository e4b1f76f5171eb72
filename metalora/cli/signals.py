"""Ctrl-C, and SIGTERM as batch systems and containers send it: a training is saved before a verb ends."""

import _thread
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from metalora.util.distributed import current_processes

NUMBERS = (signal.SIGINT, signal.SIGTERM)
STOP_SECONDS = 8.0  # from a signal to the end in any case; containers are killed after 10


@contextlib.contextmanager
def handled(*numbers: signal.Signals, by: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a function handle signals; outside of the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, by) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Act as Ctrl-C does."""
    raise KeyboardInterrupt


@dataclass
class Held:
    """What `holding` knows.

    Attributes:
        noted: whether a signal came.
        stepping: whether steps are done that must not be torn; where not, a signal acts at once.
    """

    noted: bool = False
    stepping: bool = True


@contextlib.contextmanager
def holding() -> Iterator[Held]:
    """Hold a first signal back to the end of a step; a second one interrupts at once.

    It does not where there are several processes: a launcher may send two, and ends what does not end within seconds.
    """
    held = Held()

    def note(number: int, frame: FrameType | None) -> None:
        if (held.noted or not held.stepping) and current_processes().count == 1:
            raise KeyboardInterrupt
        held.noted = True

    with handled(*NUMBERS, by=note):
        yield held


@contextlib.contextmanager
def asking_first(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at a first signal; interrupt at a second one, or if this is not left within `STOP_SECONDS`."""
    late = threading.Timer(STOP_SECONDS, _thread.interrupt_main)
    late.daemon = True

    def ask(number: int, frame: FrameType | None) -> None:
        if late.ident is not None:
            raise KeyboardInterrupt
        late.start()
        stop()

    with handled(*NUMBERS, by=ask):
        try:
            yield
        finally:
            late.cancel()
