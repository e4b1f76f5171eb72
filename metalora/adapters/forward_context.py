"""What one forward pass carries to the adapted layers, in one `threading.local`."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from torch import Tensor

from metalora.adapters.cores import Cores


class _ForwardState(threading.local):
    """What the forward pass that runs in this thread carries."""

    cores: Cores | None = None
    enabled: bool = True
    exact: bool = False  # the frozen part as it came, bit for bit
    stage_hook: Callable[[str, Tensor], None] | None = None  # told the name and output of every stage


current = _ForwardState()


@contextlib.contextmanager
def forward_context(
    *,
    cores: Cores | None = None,
    enabled: bool | None = None,
    exact: bool | None = None,
    stage_hook: Callable[[str, Tensor], None] | None = None,
) -> Iterator[None]:
    """Run a forward pass that carries these; what was carried before comes back at the end."""
    before = current.cores, current.enabled, current.exact, current.stage_hook
    current.cores, current.stage_hook = cores, stage_hook
    current.enabled = before[1] if enabled is None else enabled
    current.exact = before[2] if exact is None else exact
    try:
        yield
    finally:
        current.cores, current.enabled, current.exact, current.stage_hook = before
