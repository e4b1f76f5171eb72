"""Numbers of training steps, read without making the CPU wait for the GPU."""

import torch
from torch import Tensor


class Readings:
    """Reads the numbers of one step after the other; on a CUDA device one step late.

    There the CPU only queues a step. If it waited for the step's numbers, the device would then wait for the next step.

    Args:
        device: that computes the numbers.
    """

    def __init__(self, device: torch.device):
        self.late = device.type == "cuda"
        self._last: tuple[Tensor, torch.cuda.Event | None] | None = None

    def __call__(self, *numbers: Tensor, now: bool = False) -> list[float]:
        """Return the numbers of this step; on a CUDA device those of the step before, from the second step on.

        Args:
            *numbers: scalars.
            now: wait for this step's.
        """
        before, self._last = self._last, self._start(torch.stack([n.detach().squeeze() for n in numbers]))
        return self.last() if now or before is None or not self.late else self._finish(*before)

    def last(self) -> list[float]:
        """Return the numbers of the last step, waiting for them; none before the first."""
        return [] if self._last is None else self._finish(*self._last)

    def _start(self, numbers: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        if not self.late:
            return numbers, None
        copy, copied = numbers.to("cpu", non_blocking=True), torch.cuda.Event()  # torch pins the memory of such a copy
        copied.record(torch.cuda.current_stream(numbers.device))
        return copy, copied

    @staticmethod
    def _finish(numbers: Tensor, copied: torch.cuda.Event | None) -> list[float]:
        if copied is not None:
            copied.synchronize()
        return numbers.tolist()
