"""`torch.compile` where it works; elsewhere the network as it is, with a warning that says why."""

import warnings
from collections.abc import Callable
from typing import Any

import torch


def compiled(network: Callable, trial: Callable[[Callable], Any]) -> Callable:
    """Compile `network` (with CUDA graphs on a GPU), or return it as it is, with a warning, where that fails.

    Args:
        network: What to compile.
        trial: Uses the network that it gets once, as it will be used later; compilation happens then.
    """
    fast = torch.compile(network, mode="reduce-overhead")  # CUDA graphs; no effect elsewhere
    try:
        with torch.random.fork_rng():
            trial(fast)
    except Exception as error:  # every compiler raises its own
        torch.compiler.reset()
        first = str(error).strip().partition("\n")[0]
        why = f"{type(error).__name__}: {first}" if first else type(error).__name__
        warnings.warn(f"torch.compile fails here ({why}), so the network runs as it is.", stacklevel=2)
        return network
    return fast
