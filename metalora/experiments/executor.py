"""Where jobs run: in processes of this machine, or on the workers of a Dask cluster."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import joblib
import torch

from metalora.experiments.config import JobConfig
from metalora.util.cluster import Cluster
from metalora.util.device import pick_device
from metalora.util.processes import signals_blocked


def processes(jobs: Sequence[JobConfig], n_jobs: int | None, cluster: Cluster | None = None) -> int:
    """Return how many jobs run at a time; joblib gives each of its processes its part of the cores as threads.

    Args:
        jobs: one or more.
        n_jobs: at most so many; None: one per core for small networks on a CPU, one on an accelerator, and one per
            worker of a cluster.
        cluster: in place of this machine.
    """
    if cluster is not None:
        n_jobs = min(n_jobs or len(jobs), cluster.workers)
    elif n_jobs is None:
        n_jobs = joblib.cpu_count() if pick_device(jobs[0].training.device).type == "cpu" else 1
    return max(1, min(n_jobs, len(jobs)))


def threads_each(jobs: Sequence[JobConfig], n_jobs: int | None) -> int:
    """Return the threads of each process where all of these jobs run here; sums are rounded by their number."""
    return max(1, min(torch.get_num_threads(), joblib.cpu_count() // processes(jobs, n_jobs)))


def run_each(
    function: Callable, jobs: Sequence[JobConfig], *arguments: Any, n_jobs: int | None, cluster: Cluster | None = None
) -> Generator[tuple[JobConfig, Any], None, None]:
    """Call a function with every job, and with further arguments; yield each job and what it returned as they come.

    Closing the generator ends what still runs.

    Args:
        function: of a module, since it is called in other processes; a cluster passes jobs with absolute paths.
        jobs: one or more.
        arguments: the same for all.
        n_jobs: calls at a time, see `processes`.
        cluster: in place of this machine.
    """
    if cluster is not None:
        sent = [(replace(job, suite=job.suite.absolute()), *arguments) for job in jobs]
        yield from ((jobs[i], result) for i, result in cluster.run(function, sent, at_most=n_jobs))
        return
    parallel = joblib.Parallel(n_jobs=processes(jobs, n_jobs), return_as="generator_unordered")
    calls = (joblib.delayed(_numbered)(i, function, job, *arguments) for i, job in enumerate(jobs))
    with signals_blocked():  # in these processes, which save when they are asked to
        results = parallel(calls)
    with contextlib.closing(results):
        yield from ((jobs[i], result) for i, result in results)


def _numbered(i: int, function: Callable, *arguments: Any) -> tuple[int, Any]:
    return i, function(*arguments)
