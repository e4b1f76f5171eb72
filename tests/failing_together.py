"""`metalora train` whose second process fails at its third step; a program for `launching.start`."""

import sys

from metalora import cli
from metalora.training.fit import Trainer
from metalora.util.distributed import launched

loss_of = Trainer._loss


def failing(trainer, i, *rest):
    """Compute the loss of step `i`, or fail."""
    if i == 2 and launched().rank == 1:
        raise RuntimeError("the loss of step 3 fell off")
    return loss_of(trainer, i, *rest)


if __name__ == "__main__":
    Trainer._loss = failing
    cli.main(["train", *sys.argv[1:]])
