"""Pictures that a person gives, or a suite's, on the way to embeddings: with names, and labels where known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from metalora.evaluation.embedding import EmbedConfig, embed
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.archives import SUFFIXES
from metalora.suites.images import ImageSet, decode, read_pictures
from metalora.suites.suite import Examples, Suite
from metalora.suites.transforms import unchanged
from metalora.util.device import autocast, pick_device
from metalora.util.errors import InputError

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Examples side by side with what is known of them.

    Attributes:
        splits: name of a split → its examples; images that a person gave are one split, "".
        known: a row per example, in the sides' order: "name", "label", "task", "split" ("" where unknown).
        skipped: (name, reason) of files that could not be used.
    """

    splits: dict[str, Examples]
    known: pd.DataFrame
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.known)

    def images(self) -> Tensor:
        """All of them, float32 (N, 3, S, S) in [0, 1]."""
        return torch.cat([split.images() for split in self.splits.values()])


def read_paths(paths: Sequence[str | Path], size: int, progress: Progress | None = None) -> Pictures:
    """The pictures of files, folders and archives, as squares of `size` pixels.

    In a folder, task/class/picture and class/picture tell task and label.

    Raises:
        InputError: a path does not exist, or no picture can be read.
    """
    if not paths:
        raise InputError("There are no pictures: name files or a folder.")
    found = [_read(Path(path), size, progress) for path in paths]
    names = [name for part in found for name in part.names]
    skipped = [pair for part in found for pair in part.skipped]
    if not names:
        raise InputError(f"No picture can be used; {skipped[0][0]}: {skipped[0][1]}")
    folders = [name.split("/")[:-1] for name in names]
    labels = [parts[min(1, len(parts) - 1)] if parts else "" for parts in folders]
    tasks = [parts[0] if len(parts) > 1 else "" for parts in folders]
    pixels = torch.cat([part.images for part in found])
    known_tasks, numbers = torch.unique(torch.tensor(_numbers(tasks)), return_inverse=True)
    examples = Examples(
        pixels, (unchanged,) * len(known_tasks), torch.arange(len(pixels)), numbers, torch.tensor(_numbers(labels))
    )
    known = pd.DataFrame({"name": names, "label": labels, "task": tasks, "split": ""})
    return Pictures({"": examples}, known, tuple(skipped))


def _read(path: Path, size: int, progress: Progress | None) -> ImageSet:
    """One picture file, which may be unreadable, or a folder or archive of them."""
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        return read_pictures(path, size, progress=progress)
    try:
        return ImageSet(decode(path, size)[None], (path.name,))
    except InputError as error:
        return ImageSet(torch.empty(0, 3, size, size, dtype=torch.uint8), (), ((path.name, str(error)),))


def _numbers(names: Sequence[str]) -> list[int]:
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    return [number[name] for name in names]


def from_suite(suite: Suite) -> Pictures:
    """All sides of a suite but the training images."""
    splits = {name: split for name, split in suite.splits.items() if name != "train"}
    frames = [
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
    return Pictures(splits, pd.concat(frames, ignore_index=True), suite.skipped)


def embed_pictures(model: AdaptedModel, pictures: Pictures, embed_config: EmbedConfig) -> Tensor:
    """Embeddings (N, D) in the order of `pictures.known`; sets keep to one task and split."""
    if embed_config.set_size != 1:
        model.codes(next(iter(pictures.splits.values()))[:1].images().to(next(model.parameters()).device))
    return torch.cat([embed(model, split, embed_config) for split in pictures.splits.values()])


@torch.inference_mode()
def code_pictures(model: AdaptedModel, pictures: Pictures, embed_config: EmbedConfig) -> Tensor | None:
    """Every image's own code (N, code); None where nothing is generated."""
    if not model.config.generates:
        return None
    device = pick_device(embed_config.device)
    model.to(device).eval()
    with autocast(device, embed_config.precision):
        chunks = [chunk for split in pictures.splits.values() for chunk in split.chunks(embed_config.batch_size)]
        return torch.cat([model.codes(chunk.images().to(device)).float().cpu() for chunk in chunks])
