"""UMAP in a process of its own: compiling it takes up to a minute, in which the threads of an app would hardly run."""

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metalora.inspection.projection import align, check_features, project, warm_up
from metalora.util.errors import InputError

LIMIT = 600  # seconds
_lock = threading.Lock()
_pools: list[Pool] = []  # the one of this process, once it is needed


def project_apart(features: Tensor, method: str = "umap", **settings: Any) -> np.ndarray:
    """Project features as `projection.project` does; PCA, which needs no compiling, in this process.

    Raises:
        InputError: as `project`; or UMAP took more than `LIMIT` seconds, or lacked memory.
    """
    if method != "umap":
        return project(features, method, **settings)
    return _call(_project, check_features(features, method).numpy(), settings)


def align_apart(features: Sequence[Tensor], **settings: Any) -> list[np.ndarray]:
    """Align features as `projection.align` does.

    Raises:
        InputError: as `align`; or UMAP took more than `LIMIT` seconds, or lacked memory.
    """
    return _call(_align, [check_features(one, "umap").numpy() for one in features], settings)


def warm_up_apart() -> None:
    """Compile what the functions above need, for up to a minute."""
    _call(warm_up)


def _call(function: Callable, *arguments: Any) -> Any:
    pool = _pool()
    try:
        return pool.apply_async(function, arguments).get(LIMIT)
    except multiprocessing.TimeoutError as error:
        # A process that the system ended for lack of memory never answers either.
        with _lock:
            _pools.clear()
        pool.terminate()
        raise InputError(f"UMAP was stopped after {LIMIT} seconds: choose PCA, or fewer images.") from error


def _pool() -> Pool:
    with _lock:
        if not _pools:
            # Not forked: threads of an app hold locks that would stay locked in a copy. Ctrl-C is for the app, which
            # ends this process when it ends itself.
            pool = multiprocessing.get_context("spawn").Pool(1, signal.signal, (signal.SIGINT, signal.SIG_IGN))
            atexit.register(pool.terminate)
            _pools.append(pool)
        return _pools[0]


def _project(points: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    return project(torch.from_numpy(points), **settings)


def _align(points: Sequence[np.ndarray], settings: dict[str, Any]) -> list[np.ndarray]:
    return align([torch.from_numpy(one) for one in points], **settings)
