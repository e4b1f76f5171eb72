"""The gallery: a labelled reference set, embedded by the original backbone and by one adapter.

A person's images are compared with it: what they are close to, and which class that predicts, before and after
adaptation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Thread

import pandas as pd
import torch
from torch import Tensor

from metalora.evaluation.config import EmbedConfig, SearchConfig
from metalora.evaluation.gallery_search import GallerySearch, Recall
from metalora.evaluation.knn import knn_neighbours, knn_predict, vote
from metalora.inspection.user_images import code_images, embed_images, from_suite
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.splits import at_most
from metalora.suites.suite import Examples, Suite
from metalora.util.errors import InputError
from metalora.util.files import hash_tensors
from metalora.util.seeding import seeded_generator

FEATURES = ("original", "adapted")


@dataclass(frozen=True)
class Source:
    """The suite that the images of a gallery come from.

    Attributes:
        name: of the suite.
        seed: that it was loaded with.
        split: of it.
        classes: names of the label space.
        tasks: names of all tasks.
        factors: values of every factor that the tasks combine.
    """

    name: str
    seed: int
    split: str
    classes: tuple[str, ...]
    tasks: tuple[str, ...]
    factors: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(map(tuple, self.factors)))  # lists in a file


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search of a gallery found.

    Attributes:
        nearest: as `Gallery.nearest`.
        predicted: as `Gallery.predict`.
        recall: of an approximate search, against an exact one; None of an exact one.
    """

    nearest: pd.DataFrame
    predicted: list[str]
    recall: Recall | None


@dataclass(frozen=True, eq=False)
class Gallery:
    """G labelled images and their embeddings. See `build_gallery` and `load_gallery`.

    Attributes:
        source: where the images come from.
        names: of the images.
        rows: which images of the split, int64 (G).
        labels: int64 (G).
        tasks: int64 (G).
        original: embeddings by the backbone as it is, (G, D).
        adapted: embeddings with the adapter, (G, D).
        codes: every image's own code, (G, code); None where nothing is generated.
        adapter: `adapter_hash` of the model.
        content: hash of the images, their tasks and classes, see `content_hash`.
        read: reads the images, or raises InputError where they are not on this machine.
    """

    source: Source
    names: tuple[str, ...]
    rows: Tensor
    labels: Tensor
    tasks: Tensor
    original: Tensor
    adapted: Tensor
    codes: Tensor | None
    adapter: str
    content: str
    read: Callable[[], Examples] = field(repr=False)
    _reader: list[Thread] = field(default_factory=list, init=False, repr=False)
    _searches: dict[tuple[str, SearchConfig], GallerySearch] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per image: "name", "label" and "task"."""
        labels = [self.classes[i] for i in self.labels.tolist()]
        tasks = [self.source.tasks[i] for i in self.tasks.tolist()]
        return pd.DataFrame({"name": self.names, "label": labels, "task": tasks})

    @property
    def examples(self) -> Examples | None:
        """The images; None where they are not on this machine, or are still being read in the background."""
        if any(thread.is_alive() for thread in self._reader):
            return None
        return self._found if isinstance(self._found, Examples) else None

    def read_in_background(self) -> None:
        """Start to read the images in a thread of its own: those of a large data set take a minute."""
        self._reader.append(Thread(target=lambda: self.missing, daemon=True))
        self._reader[-1].start()

    @property
    def missing(self) -> str:
        """Why there are no images; "" where there are."""
        return "" if isinstance(self._found, Examples) else self._found

    @cached_property
    def _found(self) -> Examples | str:
        try:
            return self.read()
        except InputError as error:
            return str(error)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the label space."""
        return self.source.classes

    def nearest(self, features: Tensor, space: str, k: int = 5) -> pd.DataFrame:
        """Find the `k` gallery images nearest to each of N embeddings, nearest first.

        Args:
            features: (N, D).
            space: one of `FEATURES`, that of the features.
            k: how many.

        Returns:
            N · k rows: image (a row of `features`), rank (from 1), index (a row of the gallery), name, label,
            task, similarity (cosine).

        Raises:
            InputError: an unknown space, k above the gallery's size, features of another width or not finite.
        """
        return self._table(*knn_neighbours(features.float().cpu(), self._features(space), k))

    def search(self, features: Tensor, space: str, config: SearchConfig) -> SearchResult:
        """Find what `nearest` and `predict` do, exactly or by an index of faiss, which is built once.

        Raises:
            InputError: as `nearest`, or faiss is asked for and not installed.
        """
        if (space, config) not in self._searches:
            self._searches[space, config] = GallerySearch(self._features(space), config)
        similarity, index, recall = self._searches[space, config].nearest(features.float().cpu())
        votes = vote(similarity.double(), self.labels[index])
        return SearchResult(self._table(similarity, index), [self.classes[label] for label in votes.tolist()], recall)

    def _table(self, similarity: Tensor, index: Tensor) -> pd.DataFrame:
        k = index.shape[1]
        images, ranks = torch.arange(len(index)).repeat_interleave(k), torch.arange(k).repeat(len(index)) + 1
        numbers = pd.DataFrame({"image": images, "rank": ranks, "index": index.flatten()})
        names = self.table.loc[index.flatten().tolist()].reset_index(drop=True)
        return numbers.join(names).assign(similarity=similarity.flatten().double().numpy())

    def predict(self, features: Tensor, space: str, k: int = 5) -> list[str]:
        """Predict the class of N embeddings by a vote of their `k` nearest gallery images; arguments as `nearest`."""
        predicted = knn_predict(features.float().cpu(), self._features(space), self.labels, [k])[k]
        return [self.classes[label] for label in predicted.tolist()]

    def check_adapter(self, model: AdaptedModel) -> None:
        """Check that the gallery was embedded by this model.

        Raises:
            InputError: `model` has another adapter.
        """
        if adapter_hash(model) != self.adapter:
            raise InputError("This gallery was embedded by another adapter: build it with the one that you use.")

    def _features(self, space: str) -> Tensor:
        if space not in FEATURES:
            raise InputError(f"Unknown space {space!r}: use {' or '.join(FEATURES)}.")
        return getattr(self, space)


def adapter_hash(model: AdaptedModel) -> str:
    """Return the hash of all trained numbers, which differs from adapter to adapter."""
    state = model.trained.state_dict()
    return hash_tensors({name: tensor for name, tensor in state.items() if tensor.is_floating_point()})


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
        model: with the adapter.
        suite: where the images come from.
        split: name of the suite's split; any but "train".
        limit: at most so many images, as even over classes and tasks as can be; None: all of the split.
        seed: decides which images those are.
        embed_config: how the adapter is used: as it was trained, so a model that was trained on sets needs
            their size (`RunConfig.embed_config`). None: every image by itself.

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
    rng = seeded_generator(seed, len(examples))
    rows = at_most(len(examples) if limit is None else limit, examples.labels, examples.tasks, rng)
    chosen = examples[rows]
    images = from_suite(replace(suite, splits={split: chosen}))
    adapted = embed_images(model, images, embed_config)
    with model.disabled():
        original = embed_images(model, images, replace(embed_config, set_size=1, shuffled=False, set_use=None))
    return Gallery(
        source=Source(suite.name, suite.seed, split, suite.classes, suite.tasks, suite.factors),
        names=tuple(images.table["name"]),
        rows=rows,
        labels=chosen.labels,
        tasks=chosen.tasks,
        original=original,
        adapted=adapted,
        codes=code_images(model, images, embed_config),
        adapter=adapter_hash(model),
        content=content_hash(suite, chosen),
        read=lambda: chosen,
    )


def content_hash(suite: Suite, examples: Examples) -> str:
    """Return the hash of some images' pixels, tasks and classes, which differs from images to images."""
    names = "\n".join((*suite.classes, "", *suite.tasks)).encode()
    tensors = {"pixels": examples.source_images[examples.index], "tasks": examples.tasks, "labels": examples.labels}
    return hash_tensors(tensors | {"names": torch.tensor(list(names), dtype=torch.uint8)})
