"""Settings of a suite: which one, where its data lies, what is held out."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from metalora.suites.load import FIXED_TASKS, load_suite
from metalora.suites.splits import held_out_tasks
from metalora.suites.suite import Suite, check_counts
from metalora.util.checks import check_int
from metalora.util.errors import InputError


@dataclass(frozen=True)
class SuiteConfig:
    """Arguments of `load_suite`."""

    name: str = "digits"
    data: str = "data"
    image_size: int | None = None
    hold_out: tuple[str, ...] = ()
    draw_unseen: int | None = None  # instead of names: how many
    development: bool = False  # seen tasks and validation pictures in place of the unseen and the queries
    max_queries: int = 1500
    max_train_images: int | None = None
    download: bool = False

    def __post_init__(self) -> None:
        check_counts(self.image_size, self.max_queries, self.max_train_images)
        if self.draw_unseen is not None:
            check_int("draw_unseen", self.draw_unseen)
            if self.hold_out:
                raise InputError("Tasks to hold out are named or drawn, not both: leave hold_out or draw_unseen out.")
        if self.name in FIXED_TASKS:  # of other suites the pictures tell
            held_out_tasks(self.hold_out, FIXED_TASKS[self.name].names)

    @property
    def factors(self) -> tuple[int, ...]:
        """Numbers of values of the factors that the suite's tasks are made of; () where they have no names."""
        return tuple(map(len, FIXED_TASKS[self.name].factors)) if self.name in FIXED_TASKS else ()

    def load(self, seed: int, progress: Callable[[int, int | None], None] | None = None) -> Suite:
        """The suite, its splits drawn from `seed`."""
        return load_suite(**{**asdict(self), "data": Path(self.data)}, seed=seed, progress=progress)
