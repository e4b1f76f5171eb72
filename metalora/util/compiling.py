"""`torch.compile` where it works; where it does not, the network as it is, and a note that says why."""

import warnings
from collections.abc import Callable
from typing import Any

import torch


def compiled(network: Callable, trial: Callable[[Callable], Any]) -> Callable:
    """`network`, compiled (with CUDA graphs on a GPU), or itself where that fails, which a warning tells.

    Args:
        trial: does with the network that it is given what will be done with it, once: compiling happens here.
    """
    fast = torch.compile(network, mode="reduce-overhead")  # which means CUDA graphs, and nothing elsewhere
    try:
        with torch.random.fork_rng():
            trial(fast)
    except Exception as error:  # compilers of several makers, each with its own
        torch.compiler.reset()
        first = str(error).strip().partition("\n")[0]
        why = f"{type(error).__name__}: {first}" if first else type(error).__name__
        warnings.warn(f"torch.compile fails here ({why}), so the network runs as it is.", stacklevel=2)
        return network
    return fast
