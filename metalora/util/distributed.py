"""Several processes that compute one result together, on one host or more, as `accelerate launch` starts them.

Whoever computes asks `current_processes()`: it is one process, unless the program has joined the others with
`joined_processes()`. Every process then calls the same functions in the same order. Each computes its part, all get the
whole result, and only the first one reads and writes a run's files.

Flags, objects and rows go through gloo on the CPU, which notices at once that a process is gone; gradients go through
NCCL where they are on GPUs.
"""

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from metalora.util.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

S = TypeVar("S")
T = TypeVar("T")
GRACE = 5.0  # seconds for the first process to say why it cannot begin
LONGEST = timedelta(hours=2)  # that one process waits for another, such as for images that only one host has to read


class OtherProcessFailed(RuntimeError):
    """Another process failed, or is gone."""


@dataclass(frozen=True)
class Processes:
    """The processes that compute together, as one of them sees them; by default it is alone.

    Attributes:
        rank: of this process, from 0.
        count: of all processes.
        local_rank: of this process on its host, from 0.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Return which of `count` things in a row are this process's: as many as others have, or one more or less."""
        return slice(self.rank * count // self.count, (self.rank + 1) * count // self.count)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process. All wait for each other here."""
        if self.count == 1:
            return flag
        import torch
        from accelerate.utils import reduce

        return bool(exchange(reduce, torch.tensor(int(flag)), "max"))

    @contextlib.contextmanager
    def together(self, *, in_turn: bool = False) -> Iterator[None]:
        """Raise an error of one process in all of them, at the end of the context, in which they must not communicate.

        Args:
            in_turn: the first process of every host goes first, so that the others find what it fetched or cached.

        Raises:
            InputError: another process raised one.
            OtherProcessFailed: another process raised something else.
        """
        if self.count == 1:
            yield
            return
        error = None
        if in_turn and self.local_rank:
            self.any(False)
        try:
            yield
        except Exception as caught:
            error = caught
        if in_turn and not self.local_rank:
            self.any(False)
        if self.any(error is not None):
            self._raise(error)

    def _raise(self, error: Exception | None) -> None:
        reasons = self._gather([error and (isinstance(error, InputError), str(error) or type(error).__name__)])
        if error is not None:
            raise error
        rank, (is_input, reason) = next((rank, found) for rank, found in enumerate(reasons) if found)
        who = f"Process {rank + 1} of {self.count}"
        raise InputError(f"{who}: {reason}") if is_input else OtherProcessFailed(f"{who} failed: {reason}")

    def gather(self, compute: Callable[[], list[T]]) -> list[T]:
        """Return the lists that all processes compute as one list, in the order of processes; tensors on the CPU.

        Raises:
            InputError: see `together`.
            OtherProcessFailed: see `together`.
        """
        with self.together():
            own = compute()
        return own if self.count == 1 else self._gather(own)

    def map(self, function: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """Return the function's results for all items, in order; each process computes its part of them.

        Raises:
            InputError: see `together`.
            OtherProcessFailed: see `together`.
        """
        return self.gather(lambda: [function(item) for item in items[self.part(len(items))]])

    def _gather(self, own: list) -> list:
        from accelerate.utils import gather_object
        from torch import Tensor

        return exchange(gather_object, [x.cpu() if isinstance(x, Tensor) else x for x in own])

    def from_first(self, compute: Callable[[], T]) -> T:
        """Return in all processes what the first one, and only that, computes; tensors must be on the CPU.

        Raises:
            InputError: see `together`.
            OtherProcessFailed: see `together`.
        """
        if self.count == 1:
            return compute()
        from accelerate.utils import broadcast_object_list

        with self.together():
            answer = compute() if self.is_first else None
        return exchange(broadcast_object_list, [answer])[0]

    def copy_first(self, module: "nn.Module") -> None:
        """Give a module the parameters and buffers that it has in the first process."""
        if self.count > 1:
            state = self.from_first(lambda: {name: value.cpu() for name, value in module.state_dict().items()})
            module.load_state_dict(state)

    def add_up(self, parameters: Sequence["Tensor"], values: Sequence["Tensor"]) -> Sequence["Tensor"]:
        """Replace the parameters' gradients by their sums over all processes; return the sums of scalar values."""
        if self.count == 1:
            return values
        import torch
        from accelerate.utils import reduce

        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        tensors = [*gradients, *(value.detach() for value in values)]
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        total = exchange(reduce, flat, "sum")
        sums = total.split([tensor.numel() for tensor in tensors])
        for parameter, gradient, part in zip(parameters, gradients, sums, strict=False):
            parameter.grad = gradient.copy_(part.view_as(gradient))
        return [part[0] for part in sums[len(parameters) :]]


_CURRENT: ContextVar[Processes | None] = ContextVar("processes", default=None)


def current_processes() -> Processes:
    """Return the processes that compute together here."""
    return _CURRENT.get() or Processes()


def launched() -> Processes:
    """Return what the launcher's environment variables say; nothing is joined yet."""
    rank, count, local = (int(os.environ.get(name) or 0) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return Processes(rank, count, local) if count > 1 else Processes()


@contextlib.contextmanager
def joined_processes(device: str = "auto") -> Iterator[Processes]:
    """Let this process compute with those that were launched with it, inside the context; alone if there are none.

    Args:
        device: that all use, as in `pick_device`; "auto" and "cuda" give each process of a host a GPU of its own. One
            GPU of Apple silicon is none for several processes, which "auto" leaves on the CPU.

    Raises:
        InputError: Accelerate is not installed, or the device is one GPU for all.
        OtherProcessFailed: another process is gone.
    """
    processes = launched()
    if processes.count == 1:
        yield processes
        return
    from metalora.util.device import pick_device, use_device

    kind = pick_device(device)
    if device != "auto" and (kind.type == "mps" or kind.index is not None):
        raise InputError(f"--device {device} is one GPU for {processes.count} processes: use --device auto.")
    state = _join(kind.type == "cuda")
    if state.num_processes != processes.count:
        raise InputError("WORLD_SIZE is set, but LOCAL_RANK is not: start the processes with accelerate launch.")
    token = _CURRENT.set(processes)
    try:
        with use_device(str(state.device)):
            yield processes
            processes.any(False)  # nobody leaves while another one still needs it
        state.destroy_process_group()
    finally:
        _CURRENT.reset(token)


def _join(on_gpu: bool) -> Any:
    """Join the other processes by Accelerate; return its state."""
    try:
        from accelerate import PartialState
    except ModuleNotFoundError as error:
        raise InputError("Several processes need the package accelerate: pip install 'metalora[processes]'.") from error
    import torch.distributed

    if torch.distributed.is_initialized():
        raise InputError("These processes have joined each other already: call joined_processes() before that, once.")
    backend = "cuda:nccl,cpu:gloo" if on_gpu else "gloo"
    try:
        return PartialState(cpu=not on_gpu, backend=backend, timeout=LONGEST)
    except RuntimeError as error:
        raise OtherProcessFailed(f"The {launched().count} processes cannot join each other: {error}") from error


@contextlib.contextmanager
def first_speaks() -> Iterator[None]:
    """Let the first of the launched processes alone print, and say by its exit code how all of them ended.

    A launcher ends all processes as soon as one fails. So the others leave without a sign where they end by a message,
    or the first one might be ended before it prints the same one. Where they could not even join it, they give it some
    time to say so. Their tracebacks are shown.
    """
    if launched().is_first:
        yield
        return
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    except SystemExit as left:
        if not left.code or _joined():
            sys.exit(0)
        time.sleep(GRACE)
        print(printed.getvalue(), end="", file=sys.stderr)
        raise


def _joined() -> bool:
    """Return whether this process has joined others, without importing torch."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()


def exchange(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that communicates.

    Raises:
        OtherProcessFailed: it could not.
    """
    try:
        return function(*args, **kwargs)
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        raise OtherProcessFailed(
            f"Another process is gone: it was killed, memory ran out or its machine failed ({first})."
        ) from error
