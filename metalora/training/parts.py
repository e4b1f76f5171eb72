"""Several processes that train one model: each takes a part of every batch, in whole sets."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from metalora.models.adapted_model import AdaptedModel
from metalora.training.config import TrainingConfig
from metalora.util.distributed import Processes
from metalora.util.errors import InputError
from metalora.util.files import hash_words


def begin_together(
    processes: Processes, model: AdaptedModel, objective: nn.Module, config: TrainingConfig, identity: dict[str, Any]
) -> None:
    """Let all processes begin with what the first one has.

    Args:
        processes: that train together.
        model: whose trained part is that of the first process from here on.
        objective: likewise.
        config: of the training.
        identity: of the training, its images included.

    Raises:
        InputError: a batch has fewer sets than there are processes, the processes have different images, or a trained
            part takes statistics of a batch, of which each process has a part only.
    """
    largest, count = max(config.set_sizes), processes.count
    sets = config.batch_size // largest
    if sets < count:
        what = f"set{'s' * (sets > 1)} of {largest}" if largest > 1 else f"image{'s' * (sets > 1)}"
        raise InputError(f"A batch of {sets} {what} is too small for {count} processes: use a larger batch_size.")
    norms = [name for name, module in model.trained.named_modules() if isinstance(module, _BatchNorm)]
    if norms and count > 1:
        raise InputError(
            f"{norms[0]} is a BatchNorm, which is trained in one process only: leave it out of modules_to_save."
        )
    hashes = processes.gather(lambda: [hash_words(identity)])
    for rank, found in enumerate(hashes):
        if found != hashes[0]:
            raise InputError(f"Process {rank + 1} has other images or settings than process 1: give all the same.")
    processes.copy_first(model.trained)
    processes.copy_first(objective)
