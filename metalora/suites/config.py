"""Settings of a suite: which one, where its data is, what is held out."""

from dataclasses import dataclass, replace
from pathlib import Path

from metalora.suites.decoding import check_bands
from metalora.suites.folder_meaning import check_layout
from metalora.suites.names import readable
from metalora.suites.registry import SUITES, SuiteEntry, split_name
from metalora.suites.task_lists import TaskList, held_out_tasks
from metalora.util.checks import check_int
from metalora.util.errors import InputError
from metalora.util.paths import expand

IMAGE_SIZES = 8, 1024  # pixels, the least and the most


@dataclass(frozen=True)
class SuiteConfig:
    """Settings of a suite.

    Attributes:
        name: A name that `metalora info` lists, such as digits, or folder:PATH or table:FILE.
        data: Where CIFAR-10 is: a folder or archive with train/CLASS and test/CLASS, a folder with cifar10.zip or
            cifar10.tar.xz, or one with the files of torchvision.
        image_size: Side of the images in pixels; None: the suite's own.
        hold_out: Tasks to keep unseen; none: the suite's own.
        draw_unseen: Instead of names, how many tasks to keep unseen, drawn with the seed so that every value of the
            factors that tasks combine, and every pair of them, stays among the seen where possible.
        development: Held-out seen tasks and validation images in place of unseen tasks and queries.
        max_queries: Most images of each query split, and of validation.
        max_train_images: Most training images of each class (of each task, where tasks are folders); None: all.
        image_column: Column of a table with the paths of the images, relative to the table.
        task_column: Column of a table with the tasks; without it there is one task, shown through ten transforms.
        label_column: Column of a table with the labels.
        group_column: Column of a table whose rows stay in one split, such as a patient or a clip.
        split_column: Column of a table that says train, val, gallery, query or test for each row.
        layout: What the folders mean, from the top: levels of split, task, class and group (clips, patients: each stays
            in one split), such as class/group; left out: decided by their depth and names.
        bands: The one or three channels to read of images with others than grey or RGB, counted from 1.
        name_encoding: Of the names in a zip archive that are not UTF-8, such as cp866.
        download: Fetch data and weights that are not on this machine.

    Raises:
        InputError: A value cannot be used.
    """

    name: str = "digits"
    data: str = "data"
    image_size: int | None = None
    hold_out: tuple[str, ...] = ()
    draw_unseen: int | None = None
    development: bool = False
    max_queries: int = 1500
    max_train_images: int | None = None
    image_column: str = "path"
    task_column: str = "task"
    label_column: str = "label"
    group_column: str | None = None
    split_column: str | None = None
    layout: str | None = None
    bands: tuple[int, ...] = ()
    name_encoding: str | None = None
    download: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", str(self.data))
        names = (self.hold_out,) if isinstance(self.hold_out, str) else tuple(self.hold_out)
        object.__setattr__(self, "hold_out", tuple(map(readable, names)))
        object.__setattr__(self, "bands", check_bands(self.bands))
        if self.layout is not None:
            check_layout(self.layout)
        check_int("max_queries", self.max_queries)
        if self.max_train_images is not None:
            check_int("max_train_images", self.max_train_images)
        if self.image_size is not None:
            check_int("image_size", self.image_size, *IMAGE_SIZES)
        if self.draw_unseen is not None:
            check_int("draw_unseen", self.draw_unseen)
            if self.hold_out:
                raise InputError("Tasks to hold out are named or drawn, not both: leave hold_out or draw_unseen out.")
        if self.tasks is not None:
            held_out_tasks(self.hold_out, self.tasks.names)

    @property
    def _entry(self) -> SuiteEntry | None:
        return SUITES.get(split_name(self.name)[0])

    @property
    def tasks(self) -> TaskList | None:
        """Return the tasks, where they are always the same; None where the data decides."""
        return self._entry.tasks if self._entry is not None else None

    @property
    def pixels(self) -> int:
        """Return the side of the images in pixels."""
        return self.image_size or (self._entry.image_size if self._entry is not None else SuiteEntry.image_size)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Return the names of the tasks to keep unseen, sorted; () where they are drawn or the data decides."""
        tasks = self.tasks if self.draw_unseen is None else None
        return tuple(sorted(self.hold_out or (tasks.unseen if tasks is not None else ())))

    @property
    def seen_tasks(self) -> int | None:
        """Return the number of tasks that are trained on; None where the data decides."""
        return None if self.tasks is None else len(self.tasks.names) - (self.draw_unseen or len(self.unseen))

    @property
    def source(self) -> Path:
        """Return where the data is: the path behind the colon of `name`, otherwise `data`."""
        return expand(split_name(self.name)[1] or self.data)

    def absolute(self) -> "SuiteConfig":
        """Return the same settings with absolute paths, for a process that works in another folder."""
        key, path = split_name(self.name)
        name = f"{key}{expand(path).absolute()}" if path else self.name
        return replace(self, name=name, data=str(expand(self.data).absolute()))

    @property
    def factors(self) -> tuple[int, ...]:
        """Return how many values each factor has that the suite's tasks combine; () without factors."""
        return tuple(map(len, self.tasks.factors)) if self.tasks is not None else ()
