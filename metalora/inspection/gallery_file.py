"""A gallery as a file: its embeddings, and which images of a suite they are of; no pixel is in it."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from metalora.inspection.gallery import FEATURES, Gallery, Source, content_hash
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.suites.suite import Examples, Suite
from metalora.util.config import from_plain, to_plain
from metalora.util.errors import InputError
from metalora.util.files import read_tensors, write_tensors

FORMAT_VERSION = 3
WITHOUT_LABELS = (1, 2)  # versions in which labels and tasks had to be read from the suite
TENSORS = ("rows", "labels", "tasks", *FEATURES)

LoadSuite = Callable[[SuiteConfig, int], Suite]


def _load(config: SuiteConfig, seed: int) -> Suite:
    return load_suite(config, seed=seed)


def save_gallery(gallery: Gallery, path: Path, suite_config: SuiteConfig) -> None:
    """Write a gallery to one safetensors file.

    Args:
        gallery: to be written.
        path: of the file.
        suite_config: the settings that its suite was loaded with.

    Raises:
        InputError: the settings are of another suite, or the disk refuses.
    """
    if suite_config.name != gallery.source.name:
        raise InputError(f"The gallery is of {gallery.source.name}, not of {suite_config.name}: give its own settings.")
    tensors = {name: getattr(gallery, name) for name in TENSORS}
    header = {
        "format_version": FORMAT_VERSION,
        "suite": to_plain(suite_config),
        "source": dataclasses.asdict(gallery.source),
        "names": gallery.names,
        "adapter": gallery.adapter,
        "content": gallery.content,
    }
    write_tensors(path, tensors | ({} if gallery.codes is None else {"codes": gallery.codes}), header)


def load_gallery(path: Path, load: LoadSuite = _load) -> Gallery:
    """Read what `save_gallery` wrote, in this format version or an earlier one.

    The images are read when they are asked for, and only then their suite; of version 1 and 2 at once.

    Args:
        path: of the file.
        load: loads a suite by its settings and seed.

    Raises:
        InputError: no such file, damaged, of another version; of an old one, the suite has other images now.
    """
    tensors, header = read_tensors(path)
    version = header.get("format_version") if isinstance(header, dict) else None
    if version not in (*WITHOUT_LABELS, FORMAT_VERSION):
        raise InputError(f"{path} has format version {version}, this metalora reads {FORMAT_VERSION}: build it anew.")
    try:
        config = from_plain(SuiteConfig, header["suite"])
        if version in WITHOUT_LABELS:
            tensors, header = _with_labels(tensors, header, path, load(config, header["seed"]))
        gallery = _gallery(tensors, header)
    except KeyError as error:
        raise InputError(f"{path} is not a whole gallery ({error} is missing): build it anew.") from error
    _check(gallery, path)
    return dataclasses.replace(gallery, read=partial(_read, gallery, config, path, load))


def _gallery(tensors: dict[str, Tensor], header: dict[str, Any]) -> Gallery:
    source = from_plain(Source, header["source"])
    rows, labels, tasks, original, adapted = (tensors[name] for name in TENSORS)
    parts = (rows, labels, tasks, original.float(), adapted.float(), tensors.get("codes"))
    return Gallery(source, tuple(header["names"]), *parts, header["adapter"], header["content"], _nothing)


def _nothing() -> Examples:
    raise InputError("These images were not saved.")


def _with_labels(
    tensors: dict[str, Tensor], header: dict[str, Any], path: Path, suite: Suite
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and header as version 3 has them."""
    split = header["split" if header["format_version"] > 1 else "side"]
    examples = _rows(suite, split, tensors["rows"], path)
    _check_content(suite, examples, header["content"], path)
    source = Source(suite.name, suite.seed, split, suite.classes, suite.tasks, suite.factors)
    names = [suite.names[i] for i in examples.index.tolist()]
    tensors = tensors | {"labels": examples.labels, "tasks": examples.tasks}
    return tensors, header | {"source": dataclasses.asdict(source), "names": names}


def _read(gallery: Gallery, config: SuiteConfig, path: Path, load: LoadSuite) -> Examples:
    suite = load(config, gallery.source.seed)
    examples = _rows(suite, gallery.source.split, gallery.rows, path)
    _check_content(suite, examples, gallery.content, path)
    return examples


def _rows(suite: Suite, split: str, rows: Tensor, path: Path) -> Examples:
    examples = suite.splits.get(split)
    if (
        examples is None
        or rows.is_floating_point()
        or rows.numel() == 0
        or not 0 <= rows.min() <= rows.max() < len(examples)
    ):
        raise _other_images(suite, path)
    return examples[rows]


def _check_content(suite: Suite, examples: Examples, content: str, path: Path) -> None:
    if content_hash(suite, examples) != content:
        raise _other_images(suite, path)


def _other_images(suite: Suite, path: Path) -> InputError:
    return InputError(f"{path} was made of other images than suite {suite.name} has: build it anew.")


def _check(gallery: Gallery, path: Path) -> None:
    """Check that the parts of a gallery fit one another."""
    numbers = {"rows": None, "labels": gallery.classes, "tasks": gallery.source.tasks}
    features = [part for part in (gallery.original, gallery.adapted, gallery.codes) if part is not None]
    fits = len(gallery) == len(gallery.names) > 0 and all(f.ndim == 2 and len(f) == len(gallery) for f in features)
    for name, names in numbers.items():
        values = getattr(gallery, name)
        whole = values.ndim == 1 and len(values) == len(gallery) and not values.is_floating_point()
        fits = fits and whole and values.min() >= 0 and (names is None or values.max() < len(names))
    if not fits:
        raise InputError(f"The tensors of {path} do not fit one another: build it anew.")
