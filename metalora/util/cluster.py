"""A Dask cluster: calls of functions go to its workers, and results come as they are ready.

A worker process makes one call at a time, since warnings and the random numbers of torch belong to a process; torch
computes with as many threads as the worker has. A call whose worker dies is made again on another one. A call that
nobody waits for any more ends at its next `leave_if_cancelled`.

A cluster must be trusted, and closed to others: Dask pickles calls and results, so who reaches the scheduler or a
worker runs code on the workers, and a worker runs code here.
"""

import contextlib
import functools
import os
import pickle  # nosec B403 # calls, as Dask sends them; weights never
import secrets
import threading
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metalora.util.errors import InputError
from metalora.version import __version__

SCHEDULER = "METALORA_SCHEDULER"  # environment variable: address of a scheduler, or its file
CONNECT_SECONDS = 30.0
POLL_SECONDS = 1.0  # between looks at the number of workers, and of a call for a worker that is free
CALLS_PER_WORKER = 2  # at the scheduler: one runs and one waits; with more of them, those of others would wait long
QUIET = {"distributed": "critical", "distributed.client": "critical"}  # what they log is raised as well

_turn = threading.Lock()  # held by the call of this process, where it is a worker
_cancelled: ContextVar[Callable[[], bool]] = ContextVar("cancelled", default=lambda: False)


class Cluster(contextlib.AbstractContextManager):
    """The workers of a Dask scheduler; calls that are not done when it is left are cancelled.

    Args:
        scheduler: address, such as tcp://HOST:8786, or the file that `dask scheduler --scheduler-file` wrote.

    Raises:
        InputError: the package distributed is missing, no scheduler answers in `CONNECT_SECONDS`, or a worker has
            another version of metalora.
    """

    def __init__(self, scheduler: str):
        self.scheduler, self.client = scheduler, _connected(scheduler)
        try:
            self._check_workers()
        except BaseException:
            self.client.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def _check_workers(self) -> None:
        found = self.client.run(_version, on_error="return")
        for worker, version in found.items():
            if version != __version__ and not isinstance(version, OSError):  # that one has left meanwhile
                _refuse_version(worker, version if isinstance(version, str) else None, __version__)
        if not found:
            warnings.warn(f"The cluster of {self.scheduler} has no worker yet: trainings wait for one.", stacklevel=4)

    @property
    def workers(self) -> int:
        """The number of workers.

        Raises:
            InputError: the scheduler is gone.
        """
        try:
            return len(self.client.nthreads())
        except (OSError, ValueError) as error:
            raise self._lost() from error

    def _lost(self) -> InputError:
        return InputError(
            f"The connection to the scheduler {self.scheduler} was lost: check that it runs, then give the same "
            "command again to resume."
        )

    def run(
        self, function: Callable, calls: Sequence[tuple], *, at_most: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Make calls on the workers; yield the number of each call and its result as they come.

        A few calls for each worker are at the scheduler at a time, which takes those of several clients in turns.
        Closing the generator cancels the calls that are not done.

        Args:
            function: of a module that workers can import.
            calls: arguments of each call.
            at_most: calls at a time; None: as many as the workers make.

        Raises:
            InputError: a call raised it; workers died again and again in one call; or the scheduler is gone.
        """
        waiting = deque(enumerate(calls))
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                room = CALLS_PER_WORKER * max(1, self.workers) if at_most is None else at_most
                while waiting and len(running) < room:
                    i, arguments = waiting.popleft()
                    running[self.submit(function, *arguments)] = i
                for future in self.wait(running, POLL_SECONDS):
                    yield running.pop(future), self.result(future)
        finally:
            self.cancel(running)

    def submit(self, function: Callable, *arguments: Any) -> Any:
        """Send a call to the scheduler; return its future."""
        # By the name the scheduler knows how long such a call takes, hence which workers to relieve of waiting ones.
        key = f"{function.__name__}-{secrets.token_hex(16)}"
        # Pickled here, so that the scheduler need not import what the function needs.
        payload = pickle.dumps((function, arguments))
        return self.client.submit(_call, payload, key, __version__, key=key, pure=False)

    def wait(self, futures: Collection[Any], seconds: float) -> list[Any]:
        """Wait so long for the end of a call; return the futures of those that have ended.

        Raises:
            InputError: the scheduler is gone.
        """
        from distributed import wait

        try:
            with self.client.as_current():
                return list(wait(list(futures), timeout=seconds, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []
        except CancelledError as error:
            raise self._lost() from error

    def result(self, future: Any) -> Any:
        """Return the result of a call that has ended.

        Raises:
            InputError: see `run`.
        """
        from distributed import KilledWorker

        try:
            return future.result()
        except CancelledError as error:
            raise self._lost() from error
        except KilledWorker as error:
            raise InputError(
                f"The same training ended {error.allowed_failures + 1} workers, at last {error.last_worker.address}, "
                "whose log may say why: if memory ran out, choose a smaller batch or workers with more memory."
            ) from error
        except Exception as error:
            missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
            if isinstance(missing, ModuleNotFoundError):
                raise InputError(
                    f"The scheduler or a worker of {self.scheduler} lacks the package {missing.name}: install there "
                    "what is installed here."
                ) from error
            raise

    def cancel(self, futures: Collection[Any]) -> None:
        """Cancel calls: those that wait are not made, those that run end at their next `leave_if_cancelled`."""
        if futures and self.client.status == "running":
            self.client.cancel(list(futures))

    def is_running(self, future: Any) -> bool:
        """Return whether a worker has begun a call that has not ended."""
        return any(future.key in stacks for stacks in self.client.call_stack().values())

    def check_shared(self, folder: Path) -> None:
        """Check that every worker reads and writes a folder of this machine under its path here.

        Raises:
            InputError: one does not.
        """
        with probe(folder) as file:
            for worker, seen in self.client.run(is_shared, file).items():
                if not seen:
                    raise InputError(
                        f"The worker {worker} cannot write in {folder}: choose a folder that all workers share under "
                        "this path."
                    )


def _connected(scheduler: str) -> Any:
    if find_spec("distributed") is None:
        raise InputError(
            "A cluster needs the package distributed, which is not installed: pip install 'metalora[cluster]'."
        )
    import asyncio

    import dask

    dask.config.update_defaults({"logging": QUIET})  # read when distributed is imported; a person's settings come first
    import distributed

    where = {"scheduler_file" if Path(scheduler).is_file() else "address": scheduler}
    try:
        # An own thread, since that of a notebook has an event loop. The client's timeout leaves out the first answer.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, _check_answer(**where)).result()
        return distributed.Client(**where, timeout=CONNECT_SECONDS, set_as_default=False)
    except Exception as error:  # what is no scheduler may answer anything
        why = f" in {CONNECT_SECONDS:g} seconds" if isinstance(error, TimeoutError) else f" ({error})"
        raise InputError(
            f"No Dask scheduler answers at {scheduler}{why}: start one with `dask scheduler`, or correct the address."
        ) from error


async def _check_answer(address: str = "", scheduler_file: str | None = None) -> None:
    """Check that a scheduler answers."""
    import asyncio
    import json

    from distributed import rpc
    from distributed.security import Security

    if scheduler_file is not None:
        address = json.loads(Path(scheduler_file).read_text(encoding="utf-8"))["address"]
    async with asyncio.timeout(CONNECT_SECONDS):
        async with rpc(address, connection_args=Security().get_connection_args("client")) as other:
            kind = (await other.identity())["type"]
            if kind != "Scheduler":
                raise ValueError(f"it is the address of a {kind.lower()}")


def _version() -> str:
    return __version__


def _refuse_version(worker: str, version: str | None, wanted: str) -> None:
    has = f"has metalora {version}" if version else "cannot import metalora"
    raise InputError(f"The worker {worker} {has}, this is metalora {wanted}: install the same version there.")


def _call(payload: bytes, key: str, version: str) -> Any:
    """Make a call on a worker, once it is free; where it is not, the scheduler may find another."""
    from distributed import Reschedule, get_worker

    worker = get_worker()
    if version != __version__:
        _refuse_version(worker.address, __version__, version)
    if not _turn.acquire(timeout=POLL_SECONDS):
        raise Reschedule
    token = _cancelled.set(functools.partial(_is_over, worker, key))
    try:
        import torch

        torch.set_num_threads(worker.state.nthreads)
        function, arguments = pickle.loads(payload)  # nosec B301 # who reaches a scheduler runs code on its workers anyway
        return function(*arguments)
    except InputError as error:
        raise InputError(f"Worker {worker.address}: {error}") from error
    finally:
        _cancelled.reset(token)
        _turn.release()


def _is_over(worker: Any, key: str) -> bool:
    task = worker.state.tasks.get(key)
    return task is None or task.state != "executing" or worker.status.name in ("closing", "closed", "failed")


def leave_if_cancelled() -> None:
    """End this call of a worker if nobody waits for it any more or the worker is closing; elsewhere do nothing."""
    if _cancelled.get()():
        from distributed import Reschedule

        raise Reschedule  # on another worker, if this one is closing


def connect(scheduler: str | None) -> contextlib.AbstractContextManager[Cluster | None]:
    """Return the cluster of a scheduler as a context, which is empty where there is none.

    Raises:
        InputError: see `Cluster`.
    """
    return Cluster(scheduler) if scheduler else contextlib.nullcontext()


@contextlib.contextmanager
def probe(folder: Path) -> Iterator[Path]:
    """Put a file into a folder, for `is_shared`."""
    file = folder / f".shared-{secrets.token_hex(8)}"
    folder.mkdir(parents=True, exist_ok=True)
    file.touch()
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def is_shared(file: Path) -> bool:
    """Return whether the file of `probe` is here, in a folder in which this process may write."""
    return file.is_file() and os.access(file.parent, os.W_OK)
