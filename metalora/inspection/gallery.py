"""The gallery: a labelled reference set, embedded by the original backbone and by one adapter.

A person's own pictures are held against it: what they lie next to, and which class that makes them,
before and after adaptation.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from metalora.evaluation.embedding import EmbedConfig
from metalora.evaluation.knn import knn_neighbours, knn_predict
from metalora.inspection.user_images import Pictures, code_pictures, embed_pictures, from_suite
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.config import SuiteConfig
from metalora.suites.splits import at_most
from metalora.suites.suite import Examples, Suite
from metalora.util.errors import InputError
from metalora.util.files import hash_tensors, read_tensors, write_tensors
from metalora.util.renamed import upgrade_settings
from metalora.util.seeding import generator

SPACES = ("original", "adapted")
FORMAT_VERSION = 2


@dataclass(frozen=True, eq=False)
class Gallery:
    """G images of one split of a suite, and their embeddings. Made by `build_gallery` and `load_gallery`.

    Attributes:
        suite: where the images come from.
        split: name of the suite's split.
        rows: which of its images, int64 (G).
        original: embeddings by the backbone as it is, (G, D).
        adapted: embeddings with the adapter, (G, D).
        codes: every image's own code, (G, code); None where nothing is generated.
        adapter: `adapter_hash` of the model.
    """

    suite: Suite
    split: str
    rows: Tensor
    original: Tensor
    adapted: Tensor
    codes: Tensor | None
    adapter: str

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def pictures(self) -> Pictures:
        """The images, with name, label and task of each."""
        return _pictures(self.suite, self.split, self.examples)

    @property
    def examples(self) -> Examples:
        """The images, as rows of the suite's pictures."""
        return self.suite.splits[self.split][self.rows]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the label space."""
        return self.suite.classes

    def nearest(self, features: Tensor, space: str, k: int = 5) -> pd.DataFrame:
        """The `k` gallery images nearest to each of N embeddings, nearest first.

        Args:
            features: (N, D).
            space: "original" or "adapted", in which the features lie.

        Returns:
            N · k rows: image (a row of `features`), rank (from 1), index (a row of the gallery), name, label,
            task, similarity (cosine).

        Raises:
            InputError: an unknown space, k above the gallery's size, features of another width or not finite.
        """
        similarity, index = knn_neighbours(features.float().cpu(), self._embeddings(space), k)
        place = {"image": torch.arange(len(index)).repeat_interleave(k), "rank": torch.arange(k).repeat(len(index)) + 1}
        numbers = pd.DataFrame({name: values.numpy() for name, values in {**place, "index": index.flatten()}.items()})
        known = self.pictures.known.loc[index.flatten().tolist(), ["name", "label", "task"]].reset_index(drop=True)
        return numbers.join(known).assign(similarity=similarity.flatten().double().numpy())

    def predict(self, features: Tensor, space: str, k: int = 5) -> list[str]:
        """The class of each of N embeddings by a vote of its `k` nearest gallery images; arguments as `nearest`."""
        labels = self.examples.labels
        found = knn_predict(features.float().cpu(), self._embeddings(space), labels, [k])[k]
        return [self.classes[label] for label in found.tolist()]

    def check_adapter(self, model: AdaptedModel) -> None:
        """Refuse a model that is not the one of this gallery.

        Raises:
            InputError: `model` has another adapter.
        """
        if adapter_hash(model) != self.adapter:
            raise InputError("This gallery was embedded by another adapter: build it with the one that you use.")

    def save(self, path: Path, settings: SuiteConfig) -> None:
        """Write embeddings, and which pictures they are of, to one safetensors file; no pixel is in it.

        Args:
            settings: that the suite was loaded with.

        Raises:
            InputError: the settings are of another suite, or the disk refuses.
        """
        if settings.name != self.suite.name:
            raise InputError(f"The gallery is of {self.suite.name}, not of {settings.name}: give its own settings.")
        tensors = {"rows": self.rows, "original": self.original, "adapted": self.adapted}
        header = {
            "format_version": FORMAT_VERSION,
            "suite": asdict(settings),
            "seed": self.suite.seed,
            "split": self.split,
            "adapter": self.adapter,
            "content": content_hash(self),
        }
        write_tensors(path, tensors | ({} if self.codes is None else {"codes": self.codes}), header)

    def _embeddings(self, space: str) -> Tensor:
        if space not in SPACES:
            raise InputError(f"Unknown space {space!r}: use {' or '.join(SPACES)}.")
        return getattr(self, space)


def adapter_hash(model: AdaptedModel) -> str:
    """What tells adapters apart: the hash of everything trained."""
    return hash_tensors(model.trained.state_dict())


def content_hash(gallery: Gallery) -> str:
    """What tells galleries' pictures apart: the hash of their pixels, tasks and classes."""
    examples = gallery.examples
    names = "\n".join((*gallery.suite.classes, "", *gallery.suite.tasks)).encode()
    pixels = examples.pictures[examples.index]
    known = {"tasks": examples.tasks, "labels": examples.labels, "names": torch.tensor(list(names), dtype=torch.uint8)}
    return hash_tensors({"pixels": pixels, **known})


def build_gallery(
    model: AdaptedModel,
    suite: Suite,
    *,
    split: str = "seen gallery",
    limit: int | None = None,
    seed: int = 0,
    embed_config: EmbedConfig | None = None,
) -> Gallery:
    """Embed a split of `suite` twice: by the original backbone and with the adapter of `model`.

    Args:
        limit: the most images, as even over classes and tasks as can be; None: all of the split.
        seed: decides which images those are.
        protocol: how the adapter is used: as it was trained, so a model that was trained on sets needs
            their size here (`RunConfig.protocol`). None: every image by itself.

    Raises:
        InputError: the suite has no such split, or a limit below 1.
    """
    embed_config = embed_config or EmbedConfig()
    splits = [name for name in suite.splits if name != "train"]
    if split not in splits:
        raise InputError(f"Suite {suite.name} has no split {split!r} for a gallery: use {', '.join(splits)}.")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}: use 1 or more.")
    examples = suite.splits[split]
    rng = generator(seed, len(examples))
    rows = at_most(len(examples) if limit is None else limit, examples.labels, examples.tasks, rng)
    pictures = _pictures(suite, split, examples[rows])
    adapted = embed_pictures(model, pictures, embed_config)
    with model.disabled():
        alone = replace(embed_config, set_size=1, shuffled=False, set_use=None)
        original = embed_pictures(model, pictures, alone)
    codes = code_pictures(model, pictures, embed_config)
    return Gallery(suite, split, rows, original, adapted, codes, adapter_hash(model))


def load_gallery(path: Path, suite: Suite | None = None) -> Gallery:
    """What `Gallery.save` wrote.

    Args:
        suite: the suite, where it is at hand; None: loaded with the settings that were saved.

    Raises:
        InputError: no such file, damaged, of another version, or the suite has other pictures now.
    """
    tensors, header = read_tensors(path)
    version = header.get("format_version") if isinstance(header, dict) else None
    if version not in (1, FORMAT_VERSION):
        raise InputError(f"{path} has format version {version}, this metalora reads {FORMAT_VERSION}: build it anew.")
    try:
        settings = {**upgrade_settings(header["suite"]), "hold_out": tuple(header["suite"]["hold_out"])}
        config, seed, adapter, content = SuiteConfig(**settings), header["seed"], header["adapter"], header["content"]
        split = header["split" if version == FORMAT_VERSION else "side"]
        rows, original, adapted = (tensors[name] for name in ("rows", *SPACES))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is no whole gallery ({error}): build it anew.") from error
    gallery = Gallery(suite or config.load(seed), split, rows, original, adapted, tensors.get("codes"), adapter)
    _check(gallery, content, path)
    return gallery


def _pictures(suite: Suite, split: str, examples: Examples) -> Pictures:
    return from_suite(replace(suite, splits={split: examples}))


def _check(gallery: Gallery, content: Any, path: Path) -> None:
    parts = [part for part in (gallery.original, gallery.adapted, gallery.codes) if part is not None]
    rows = gallery.rows
    if rows.dtype != torch.int64 or rows.ndim != 1 or any(p.ndim != 2 or len(p) != len(rows) for p in parts):
        raise InputError(f"The tensors of {path} do not fit one another: build it anew.")
    stored = gallery.suite.splits.get(gallery.split, ())
    if rows.numel() == 0 or not 0 <= rows.min() <= rows.max() < len(stored) or content_hash(gallery) != content:
        raise InputError(f"{path} was made of other pictures than suite {gallery.suite.name} has: build it anew.")
