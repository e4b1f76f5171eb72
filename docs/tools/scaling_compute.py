"""How fast networks train and embed, alone, in several processes and as the jobs of a cluster, for scaling.py.

As a program it is one of the processes: python docs/tools/scaling_compute.py FILE BATCH STEPS
"""

import contextlib
import json
import logging
import operator
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # to run from a checkout that is not installed

import torch

import metalora
from metalora.evaluation.feature_cache import FeatureCache
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.runner import run_comparison
from metalora.suites.config import SuiteConfig
from metalora.util.cluster import Cluster
from metalora.util.distributed import joined_processes

SIDE, BACKBONE, METHOD = 32, "resnet20", "metalora-tr"
WARM = 2  # steps that are not counted
Rows = Iterator[dict[str, Any]]


def model_of() -> metalora.AdaptedModel:
    """Return the network that is measured."""
    return metalora.adapt(metalora.load_backbone(BACKBONE, image_size=SIDE), metalora.AdapterConfig(METHOD))


def seconds_per_step(batch: int, steps: int) -> float:
    """Return the median time of a training step on images that were never seen before."""
    suite = metalora.load_suite("digits", image_size=SIDE)
    config = metalora.TrainingConfig(steps=steps + WARM, batch_size=batch, device="cpu", validate_every=0)
    nothing_kept = FeatureCache(suite, limit=0)  # of 100 million images, next to none would be
    times = [time.perf_counter()]
    for _ in metalora.fit(model_of(), suite, config, features=nothing_kept, validate_last=False):
        times.append(time.perf_counter())
    return statistics.median(later - earlier for earlier, later in zip(times[WARM:-1], times[WARM + 1 :], strict=True))


def training(batches: tuple[int, ...], steps: int) -> Rows:
    """Yield images per second of training, by the batch."""
    for batch in batches:
        yield {"size": batch, "images_per_second": batch / seconds_per_step(batch, steps)}


def processes(counts: tuple[int, ...], batch: int, steps: int) -> Rows:
    """Yield seconds of a training step that so many processes share."""
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            file = Path(folder) / f"{count}.json"
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
            words = [sys.executable, *launcher, __file__, str(file), str(batch), str(steps)]
            subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
            yield {"size": count, "batch": batch, "seconds": json.loads(file.read_text(encoding="utf-8"))}


def embedding(batches: tuple[int, ...], images: int) -> Rows:
    """Yield images per second of embedding, by the batch."""
    model, pixels = model_of(), torch.rand(images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for batch in batches:
        config = metalora.EmbedConfig(batch_size=batch, device="cpu")
        metalora.embed(model, pixels[:batch], config)
        started = time.perf_counter()
        metalora.embed(model, pixels, config)
        yield {"size": batch, "images_per_second": images / (time.perf_counter() - started)}


@contextlib.contextmanager
def one_worker() -> Iterator[Cluster]:
    """Start a cluster of one worker with one thread."""
    from distributed import LocalCluster

    with tempfile.TemporaryDirectory() as folder:
        where = {"host": "127.0.0.1", "dashboard_address": ":0", "local_directory": folder}
        size = {"n_workers": 1, "threads_per_worker": 1, "processes": True}
        with (
            LocalCluster(**where, **size, silence_logs=logging.CRITICAL) as local,
            Cluster(local.scheduler_address) as cluster,
        ):
            yield cluster


def jobs(calls: tuple[int, ...], trainings: tuple[int, ...]) -> Rows:
    """Yield seconds of calls that do nothing on a worker, and of the jobs of a comparison there and in this process."""
    with one_worker() as cluster:
        for count in (1, *calls):
            started = time.perf_counter()
            list(cluster.run(operator.neg, [(i,) for i in range(count)]))
            if count > 1:
                yield {"what": "calls", "size": count, "seconds": time.perf_counter() - started}
        seconds_of_jobs(1, cluster)  # the worker imports what it needs
        for count in trainings:
            there, here = seconds_of_jobs(count, cluster), seconds_of_jobs(count, None)
            yield {"what": "jobs", "size": count, "seconds": there, "seconds_in_one_process": here}


def seconds_of_jobs(count: int, cluster: Cluster | None) -> float:
    """Return how long a comparison of so many short jobs takes."""
    suite = SuiteConfig(image_size=8, max_queries=50)
    training = metalora.TrainingConfig(device="cpu")
    config = ComparisonConfig(suite, (BACKBONE,), ("original",), seeds=count, training=training)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        list(run_comparison(config, Path(folder), n_jobs=1, cluster=cluster))
        return time.perf_counter() - started


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined_processes("cpu") as joined:
        found = seconds_per_step(*map(int, sys.argv[2:]))
    if joined.is_first:
        Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
