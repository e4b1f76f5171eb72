"""What one forward pass hands to the adapted layers, in one `threading.local`.

So two threads can run one model. A ContextVar would break `torch.compile(fullgraph=True)`.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from metalora.adapters.cores import Cores
from metalora.adapters.inputs import NONE, Further


class ForwardState(threading.local):
    """The state of the forward pass that runs in this thread.

    Attributes:
        cores: of the adapted layers.
        enabled: whether layers are updated.
        exact: whether the frozen part computes as it was given, bit for bit.
        apart: whether updates are computed beside the frozen product, never with it.
        stage_hook: called with the name and output of every stage.
        further: inputs of the network beside the first.
        spread: whether the rows of a layer's input may be several for each sample of cores, sample by sample.
        recorded: this pass, if parts of it are computed again in the backward pass, see `recomputation`.
        again: refers to the pass that the backward pass in this thread has come to.
    """

    cores: Cores | None = None
    further: Further = NONE
    spread: bool = False
    enabled: bool = True
    exact: bool = False
    apart: bool = False
    stage_hook: Callable[[str, Tensor], None] | None = None
    recorded: Any = None
    again: Callable[[], Any] | None = None


current = ForwardState()


@contextlib.contextmanager
def forward_context(
    *,
    cores: Cores | None = None,
    enabled: bool | None = None,
    exact: bool | None = None,
    apart: bool | None = None,
    stage_hook: Callable[[str, Tensor], None] | None = None,
    further: Further | None = None,
    spread: bool = False,
) -> Iterator[None]:
    """Set the state of a forward pass, and restore the state before at the end.

    Args:
        cores: of the adapted layers; None is none.
        enabled: whether layers are updated; None is as before.
        exact: whether the frozen part computes as it was given; None is as before.
        apart: whether updates are computed beside the frozen product; None is as before.
        stage_hook: called with the name and output of every stage; None is none.
        further: inputs of the network beside the first; None is as before.
        spread: whether the rows of a layer's input may be several for each sample of cores.
    """
    before = current.cores, current.enabled, current.exact, current.apart, current.stage_hook
    beside, spread_before = current.further, current.spread
    current.cores, current.stage_hook, current.spread = cores, stage_hook, spread
    current.further = beside if further is None else further
    current.enabled = before[1] if enabled is None else enabled
    current.exact = before[2] if exact is None else exact
    current.apart = before[3] if apart is None else apart
    try:
        yield
    finally:
        current.cores, current.enabled, current.exact, current.apart, current.stage_hook = before
        current.further, current.spread = beside, spread_before
