"""`torch.compile` where it works, and whether a compiler, or another tool of torch's, is at work now."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad


def transformed() -> bool:
    """Return whether a pass may consist of torch's ordinary operations only, without writing into their arguments.

    It is compiled, exported or traced, or a transform of torch.func or forward differentiation looks into it.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch.jit.is_tracing()
        or forward_ad._current_level >= 0
    )


def compiled(network: Callable, trial: Callable[[Callable], Any]) -> Callable:
    """Compile `network` (with CUDA graphs on a GPU), or return it unchanged, with a warning, if that fails.

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
