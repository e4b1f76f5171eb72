"""Images of a person or of a suite, on the way to embeddings: with names, and labels where there are any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import embed
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.archives import SUFFIXES
from metalora.suites.decoding import AS_DECLARED, Decoding
from metalora.suites.images import ImageSet, decode, read_images
from metalora.suites.names import readable
from metalora.suites.suite import Examples, Suite
from metalora.suites.transforms import Identity
from metalora.util.device import autocast, pick_device
from metalora.util.distributed import current_processes
from metalora.util.errors import InputError
from metalora.util.paths import expand

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, eq=False)
class UserImages:
    """N images with their names and labels.

    Attributes:
        splits: name of a split → its examples; a person's images are one split, "".
        table: a row per image, in the order of the splits: "name", "label", "task", "split" ("" where unknown).
        skipped: (name, reason) of files that could not be used.
        notes: sentences on what was not read.
    """

    splits: dict[str, Examples]
    table: pd.DataFrame
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def images(self) -> Tensor:
        """Return all images, float32 (N, 3, S, S) in [0, 1]."""
        return torch.cat([split.images() for split in self.splits.values()])


def read_paths(
    paths: Sequence[str | Path], size: int, progress: Progress | None = None, decoding: Decoding = AS_DECLARED
) -> UserImages:
    """Read the images of files, folders and archives, as squares of `size` pixels.

    In a folder, task/class/image and class/image give task and label.

    Args:
        paths: of files, folders and archives.
        size: side of the squares, in pixels.
        progress: called with the number of images read, and the total if known.
        decoding: how deep images become eight bits, such as `AdaptedModel.decoding`.

    Raises:
        InputError: a path does not exist, or no image can be read.
    """
    if not paths:
        raise InputError("There are no images: name files or a folder.")
    parts = [_read(expand(path), size, progress, decoding) for path in paths]
    names = [name for part in parts for name in part.names]
    skipped = [pair for part in parts for pair in part.skipped]
    if not names:
        raise InputError(f"No image can be used; {skipped[0][0]}: {skipped[0][1]}")
    folders = [name.split("/")[:-1] for name in names]
    labels = [parents[min(1, len(parents) - 1)] if parents else "" for parents in folders]
    tasks = [parents[0] if len(parents) > 1 else "" for parents in folders]
    pixels, task_numbers = torch.cat([part.images for part in parts]), _numbers(tasks)
    transforms = (Identity(),) * len(set(tasks))
    examples = Examples(pixels, transforms, torch.arange(len(pixels)), task_numbers, _numbers(labels))
    table = pd.DataFrame({"name": names, "label": labels, "task": tasks, "split": ""})
    return UserImages({"": examples}, table, tuple(skipped), tuple(note for part in parts for note in part.notes))


def _read(path: Path, size: int, progress: Progress | None, decoding: Decoding) -> ImageSet:
    """Read one image file, which may be unreadable, or a folder or archive of them."""
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        return read_images(path, size, progress=progress, decoding=decoding)
    try:
        return ImageSet(decode(path, size, decoding=decoding)[None], (readable(path.name),))
    except InputError as error:
        return ImageSet(torch.empty(0, 3, size, size, dtype=torch.uint8), (), ((readable(path.name), str(error)),))


def _numbers(names: Sequence[str]) -> Tensor:
    """Return the position of every name in alphabetical order."""
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}
    return torch.tensor([numbers[name] for name in names])


def from_suite(suite: Suite) -> UserImages:
    """Return all images of a suite but the training images."""
    splits = {name: split for name, split in suite.splits.items() if name != "train"}
    tables = [
        pd.DataFrame(
            {
                "name": [suite.names[i] for i in split.index.tolist()],
                "label": [suite.classes[i] for i in split.labels.tolist()],
                "task": [suite.tasks[i] for i in split.tasks.tolist()],
                "split": name,
            }
        )
        for name, split in splits.items()
    ]
    return UserImages(splits, pd.concat(tables, ignore_index=True), suite.skipped, suite.notes)


def embed_images(model: AdaptedModel, images: UserImages, embed_config: EmbedConfig) -> Tensor:
    """Return embeddings (N, D) in the order of `images.table`; sets keep to one task and split."""
    if embed_config.set_size != 1:  # a method that generates nothing is refused before long work
        model.codes(next(iter(images.splits.values()))[:1].images().to(next(model.parameters()).device))
    return torch.cat([embed(model, split, embed_config) for split in images.splits.values()])


@torch.inference_mode()
def code_images(model: AdaptedModel, images: UserImages, embed_config: EmbedConfig) -> Tensor | None:
    """Return every image's own code (N, code); None where nothing is generated."""
    if not model.config.generates:
        return None
    device = pick_device(embed_config.device)
    model.to(device).eval()

    def codes_of(chunk: Examples) -> Tensor:
        return model.codes(chunk.images().to(device)).float().cpu()

    with autocast(device, embed_config.precision):
        chunks = [chunk for split in images.splits.values() for chunk in split.chunks(embed_config.batch_size)]
        return torch.cat(current_processes().map(codes_of, chunks))
