"""A gallery as a file: its embeddings, and which images of a suite they are of; no pixel is in it."""

from pathlib import Path

import torch

from metalora.inspection.gallery import FEATURES, Gallery
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.suites.suite import Suite
from metalora.util.config import from_plain, to_plain
from metalora.util.errors import InputError
from metalora.util.files import hash_tensors, read_tensors, write_tensors

FORMAT_VERSION = 2


def save_gallery(gallery: Gallery, path: Path, suite_config: SuiteConfig) -> None:
    """Write a gallery to one safetensors file.

    Args:
        gallery: to be written.
        path: of the file.
        suite_config: the settings that its suite was loaded with.

    Raises:
        InputError: the settings are of another suite, or the disk refuses.
    """
    if suite_config.name != gallery.suite.name:
        raise InputError(f"The gallery is of {gallery.suite.name}, not of {suite_config.name}: give its own settings.")
    tensors = {"rows": gallery.rows, "original": gallery.original, "adapted": gallery.adapted}
    header = {
        "format_version": FORMAT_VERSION,
        "suite": to_plain(suite_config),
        "seed": gallery.suite.seed,
        "split": gallery.split,
        "adapter": gallery.adapter,
        "content": content_hash(gallery),
    }
    write_tensors(path, tensors | ({} if gallery.codes is None else {"codes": gallery.codes}), header)


def load_gallery(path: Path, suite: Suite | None = None) -> Gallery:
    """Read what `save_gallery` wrote, in this format version or the one before.

    Args:
        path: of the file.
        suite: the suite, where it is loaded already; None: loaded with the settings that were saved.

    Raises:
        InputError: no such file, damaged, of another version, or the suite has other images now.
    """
    tensors, header = read_tensors(path)
    version = header.get("format_version") if isinstance(header, dict) else None
    if version not in (1, FORMAT_VERSION):
        raise InputError(f"{path} has format version {version}, this metalora reads {FORMAT_VERSION}: build it anew.")
    try:
        config, seed, adapter, content = (header[name] for name in ("suite", "seed", "adapter", "content"))
        split = header["split" if version == FORMAT_VERSION else "side"]
        rows, original, adapted = (tensors[name] for name in ("rows", *FEATURES))
    except KeyError as error:
        raise InputError(f"{path} is not a whole gallery ({error} is missing): build it anew.") from error
    suite = suite or load_suite(from_plain(SuiteConfig, config), seed=seed)
    gallery = Gallery(suite, split, rows, original, adapted, tensors.get("codes"), adapter)
    _check(gallery, content, path)
    return gallery


def content_hash(gallery: Gallery) -> str:
    """Return the hash of a gallery's pixels, tasks and classes, which differs from images to images."""
    examples = gallery.examples
    names = "\n".join((*gallery.suite.classes, "", *gallery.suite.tasks)).encode()
    tensors = {"pixels": examples.source_images[examples.index], "tasks": examples.tasks, "labels": examples.labels}
    return hash_tensors(tensors | {"names": torch.tensor(list(names), dtype=torch.uint8)})


def _check(gallery: Gallery, content: str, path: Path) -> None:
    features = [part for part in (gallery.original, gallery.adapted, gallery.codes) if part is not None]
    rows = gallery.rows
    if rows.dtype != torch.int64 or rows.ndim != 1 or any(f.ndim != 2 or len(f) != len(rows) for f in features):
        raise InputError(f"The tensors of {path} do not fit one another: build it anew.")
    examples = gallery.suite.splits.get(gallery.split, ())
    if rows.numel() == 0 or not 0 <= rows.min() <= rows.max() < len(examples) or content_hash(gallery) != content:
        raise InputError(f"{path} was made of other images than suite {gallery.suite.name} has: build it anew.")
