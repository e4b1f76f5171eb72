"""How long search, maps and reading take, and how much memory and disk images and users need, for scaling.py."""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # to run from a checkout that is not installed

import numpy as np
import torch
from PIL import Image
from scaling_compute import SIDE, model_of
from torch import Tensor

import metalora
from metalora.evaluation.config import SearchConfig
from metalora.evaluation.gallery_search import GallerySearch
from metalora.inspection.projection import project, warm_up
from metalora.suites.config import SuiteConfig
from metalora.suites.suite import Suite

WIDTH, CLUSTERS, SPREAD = 64, 100, 0.7  # of embeddings that are made up: as wide as those of resnet20
JPEG_SIDE, CLASSES = 256, 10
Rows = Iterator[dict[str, Any]]


def embeddings(count: int, seed: int) -> Tensor:
    """Return embeddings (N, D) around centres."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(CLUSTERS, WIDTH, generator=rng)
    rng.manual_seed(seed)
    noise = torch.randn(count, WIDTH, generator=rng).mul_(SPREAD)
    return noise.add_(centres[torch.randint(CLUSTERS, (count,), generator=rng)])


def search(galleries: tuple[int, ...], queries: int) -> Rows:
    """Yield seconds of exact searches and of faiss, which also builds its lists, and the recall of faiss."""
    asked = embeddings(queries, 1)
    for size in galleries:
        gallery = embeddings(size, 2)
        for index in ("exact", "faiss"):
            started = time.perf_counter()
            built = GallerySearch(gallery, SearchConfig(index=index))
            between = time.perf_counter()
            similarity, _ = built.find(asked)
            row = {"what": index, "size": size, "queries": queries, "seconds": time.perf_counter() - between}
            recall = built.recall(asked, similarity)
            if recall is not None:
                row |= {"build_seconds": between - started, "recall": recall.recall, "index": recall.index}
            yield row


def maps(points: tuple[int, ...]) -> Rows:
    """Yield seconds of UMAP."""
    warm_up()  # it compiles
    for count in points:
        started = time.perf_counter()
        project(embeddings(count, 3), "umap")
        yield {"size": count, "seconds": time.perf_counter() - started}


def reading(images: tuple[int, ...]) -> Rows:
    """Yield seconds to read a folder of JPEG as a suite, and the memory that the suite takes."""
    for count in images:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), count)
            context = multiprocessing.get_context("spawn")  # a process that has read nothing yet
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                yield {"size": count, **pool.submit(read, folder).result()}


def write_images(folder: Path, count: int) -> None:
    """Write photographs that are made up: smooth, so that they are packed as photographs are."""
    rng = np.random.default_rng(0)
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        place = folder / f"class{i % CLASSES}"
        place.mkdir(exist_ok=True)
        small.resize((JPEG_SIDE, JPEG_SIDE), Image.Resampling.BICUBIC).save(place / f"{i}.jpg", quality=90)


def read(folder: str) -> dict[str, float]:
    """Read a folder as a suite; return the seconds and the bytes of what is kept."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    suite = metalora.load_suite(SuiteConfig(f"folder:{folder}", image_size=SIDE))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": kept_bytes(suite), "image_size": SIDE, "jpeg_size": JPEG_SIDE}


def kept_bytes(suite: Suite) -> int:
    """Return the bytes of a suite's images, its splits and its names."""
    tensors: dict[int, Tensor] = {}
    for part in (suite, *suite.splits.values()):
        values = (getattr(part, field.name) for field in fields(part))
        tensors |= {value.data_ptr(): value for value in values if isinstance(value, Tensor)}
    names = sum(sys.getsizeof(name) for name in suite.names)
    return sum(tensor.nbytes for tensor in tensors.values()) + names


def files(users: tuple[int, ...]) -> Rows:
    """Yield the bytes of an adapter, a checkpoint and a network of its own for a user, and of tables of cores."""
    suite, model = metalora.load_suite("digits", image_size=SIDE), model_of()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = metalora.TrainingConfig(steps=2, batch_size=8, device="cpu", validate_every=0)
        list(metalora.fit(model, suite, config, checkpoint=folder / "checkpoint", validate_last=False))
        yield {"what": "checkpoint", "size": 1, "bytes": (folder / "checkpoint").stat().st_size}
        model.save(folder / "adapter")
        adapter = sum(file.stat().st_size for file in (folder / "adapter").iterdir())
        yield {"what": "adapter", "size": 1, "bytes": adapter}
        cores = model.generate(suite.splits["seen query"][:8].images())
        network = sum(value.nbytes for value in model.fold(cores[0]).state_dict().values())
        yield {"what": "network", "size": 1, "bytes": network}
        for count in users:
            table = metalora.CoreTable([f"user-{i:09}" for i in range(count)], cores[torch.arange(count) % 8])
            table.save(folder / "cores.safetensors")
            matrix = 4 * cores.flatten().shape[1] * count
            size = (folder / "cores.safetensors").stat().st_size
            yield {"what": "core table", "size": count, "bytes": size, "header_bytes": size - matrix}
