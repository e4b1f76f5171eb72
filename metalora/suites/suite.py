"""What a suite is: a set of tasks over one label space, its images and their splits."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from metalora.suites.decoding import AS_DECLARED, Decoding
from metalora.util.device import to_device
from metalora.util.errors import InputError
from metalora.util.files import hash_words

SEEN_SPLITS = ("train", "validation", "seen gallery", "seen query")
UNSEEN_SPLITS = ("unseen gallery", "unseen query")


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows (image, task, label) of one split; the images are rendered when asked for."""

    source_images: Tensor  # uint8 (P, 3, S, S), shared by all splits of a suite
    transforms: tuple[Callable[[Tensor], Tensor], ...]  # a task's: float (n, 3, S, S) in [0, 1] → the same shape
    index: Tensor  # int64 (N,): which image
    tasks: Tensor  # int64 (N,)
    labels: Tensor  # int64 (N,)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> "Examples":
        """Return the chosen rows: a slice, indices or a bool mask."""
        return replace(self, index=self.index[rows], tasks=self.tasks[rows], labels=self.labels[rows])

    def images(self) -> Tensor:
        """Float32 (N, 3, S, S) in [0, 1], each image as its task shows it."""
        images = torch.empty(len(self), *self.source_images.shape[1:])
        for task in self.tasks.unique().tolist():
            rows = (self.tasks == task).nonzero().flatten()
            images[rows] = self.transforms[task](self.source_images[self.index[rows]].float() / 255)
        return images

    def chunks(self, size: int) -> Iterator["Examples"]:
        """Return the rows in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's training images."""

    images: Tensor  # float32 (N, 3, S, S) in [0, 1]
    labels: Tensor  # int64 (N,)
    tasks: Tensor  # int64 (N,)
    groups: Tensor  # int64 (N,): the images of one set share a number
    examples: Examples  # of which the images are rendered
    sets: int  # of the whole batch, of which this may be a part

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device; its examples stay where they are."""
        device, names = torch.device(device), ("images", "labels", "tasks", "groups")
        moved: dict[str, Any] = {name: to_device(getattr(self, name), device) for name in names}
        return replace(self, **moved)

    def pin_memory(self) -> "Batch":
        """Return the batch with its images where a CUDA device fetches them while the CPU works on."""
        return replace(self, images=self.images.pin_memory())


@dataclass(frozen=True, eq=False)
class Suite:
    """Tasks over one label space. No source image is in two of training, validation, gallery and query.

    Attributes:
        name: Name of the suite.
        source_images: The images that those of the tasks are rendered from, uint8 (P, 3, S, S).
        names: Names of the source images.
        classes: The label space: the union over all tasks.
        tasks: Names of the tasks.
        seen: Numbers of the tasks that are trained on.
        unseen: Numbers of the tasks that are tested only.
        splits: Name of a split → its examples: SEEN_SPLITS, and UNSEEN_SPLITS where there are unseen tasks.
        primary: The primary gallery, pooled or within; within where tasks have different classes.
        seed: Seed of the splits.
        factors: The values of every named factor that the tasks are made of.
        factor_indices: Which value of each factor a task has, int64 (tasks, factors); None without named factors.
        skipped: Name of and reason for every file that could not be used.
        notes: Sentences for the person: what was left out, and why.
        annotations: Hash of tasks, labels and groups of the source images.
        decoding: How deep images became eight bits; new ones have to be read alike.
    """

    name: str
    source_images: Tensor
    names: tuple[str, ...]
    classes: tuple[str, ...]
    tasks: tuple[str, ...]
    seen: tuple[int, ...]
    unseen: tuple[int, ...]
    splits: dict[str, Examples]
    primary: Literal["pooled", "within"]
    seed: int
    factors: tuple[tuple[str, ...], ...] = ()
    factor_indices: Tensor | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    annotations: str = ""
    decoding: Decoding = AS_DECLARED

    def with_notes(self, *notes: str) -> "Suite":
        """Return the same suite with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the source images, their names and what they are labelled with, whatever the seed."""
        digest = hashlib.sha256(hash_words([self.names, self.classes, self.annotations]).encode())
        digest.update(self.source_images.contiguous().numpy().data)
        return digest.hexdigest()[:24]

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels."""
        return self.source_images.shape[-1]

    @property
    def sides(self) -> dict[str, Examples]:
        """Return `splits`, under the name that it had before 0.2; the old name goes with 0.3."""
        return self.splits

    @property
    def pictures(self) -> Tensor:
        """Return `source_images`, under the name that it had before 0.2; the old name goes with 0.3."""
        return self.source_images

    @property
    def combinations(self) -> Tensor | None:
        """Values of the named factors that seen tasks combine, each combination once: int64 (T, factors); or None."""
        return None if self.factor_indices is None else self.factor_indices[list(self.seen)].unique(dim=0)

    @cached_property
    def _train_rows(self) -> dict[int, Tensor]:
        tasks = self.splits["train"].tasks
        return {task: (tasks == task).nonzero().flatten() for task in self.seen}

    def batch(self, size: int, rng: torch.Generator, set_size: int = 1, part: slice = slice(None)) -> Batch:
        """Draw `size // set_size` sets of `set_size` training images, each set of one task.

        Tasks differ by at most one set; within its task an image is drawn with replacement and blind
        to its label. All randomness comes from `rng`.

        Args:
            size: images of the batch.
            rng: draws them.
            set_size: images of a set.
            part: which of the sets are returned; all are drawn.

        Raises:
            InputError: a batch is smaller than one set.
        """
        if not 1 <= set_size <= size:
            raise InputError(f"A batch of {size} images holds no set of {set_size}: use sets of 1 to {size}.")
        sets = size // set_size
        order = torch.randperm(len(self.seen), generator=rng).repeat(-(-sets // len(self.seen)))[:sets]
        rows = []
        for position in order.tolist():
            pool = self._train_rows[self.seen[position]]
            rows.append(pool[torch.randint(len(pool), (set_size,), generator=rng)])
        chosen = self.splits["train"][torch.cat(rows[part])]
        groups = torch.arange(sets)[part].repeat_interleave(set_size)
        return Batch(chosen.images(), chosen.labels, chosen.tasks, groups, chosen, sets)

    def describe(self) -> pd.DataFrame:
        """Return a row per split and task: count of images, of classes, and of the smallest and largest class."""
        rows = []
        for split, examples in self.splits.items():
            for task in examples.tasks.unique().tolist():
                counts = examples.labels[examples.tasks == task].bincount()
                counts = counts[counts > 0]
                rows.append(
                    (
                        self.tasks[task],
                        split,
                        *(int(n) for n in (counts.sum(), len(counts), counts.min(), counts.max())),
                    )
                )
        return pd.DataFrame(rows, columns=["task", "split", "count", "classes", "smallest", "largest"])
