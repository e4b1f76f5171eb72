"""Settings of a training."""

from dataclasses import dataclass

from metalora.util.checks import LARGEST_SEED, check_float, check_int
from metalora.util.errors import InputError


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Raises:
        InputError: a value with which nothing can be trained.
    """

    steps: int = 64
    batch_size: int = 64
    lr: float = 3e-3  # of adapters and head
    mapping_lr_scale: float = 1.0  # the mapping net's rate, as a multiple of `rate`
    set_size: int = 1  # images of one task that share a core
    factor_loss_weight: float = 1.0  # weight of naming the factors, for a code that names them
    teacher_forcing_ratio: float = 0.5  # share of the sets that get the core of their true factors, for such a code
    identity_core_prob: float = (
        0.5  # share of single images that get the neutral core, where classes alone train the code
    )
    identity_core_prob_sets: float = 0.25  # the same of sets
    max_grad_norm: float = 1.0  # largest norm of the gradient
    validate_every: int = 0  # steps between k-NN validations; 0: at the end only
    precision: str = "float32"
    device: str = "auto"
    compile: bool = False  # the network, by torch.compile
    seed: int = 0  # of the head and of the order of images

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "set_size"):
            check_int(name, getattr(self, name))
        check_int("validate_every", self.validate_every, 0)
        check_float(
            "teacher_forcing_ratio", self.teacher_forcing_ratio, lambda value: 0 <= value <= 1, "a share from 0 to 1"
        )
        for name in ("identity_core_prob", "identity_core_prob_sets"):
            check_float(name, getattr(self, name), lambda value: 0 <= value < 1, "a share from 0 to below 1")
        check_float("factor_loss_weight", self.factor_loss_weight, lambda value: value >= 0, "a weight of 0 or more")
        check_int("seed", self.seed, 0, LARGEST_SEED)
        if self.batch_size % self.set_size:
            raise InputError(
                f"A batch of {self.batch_size} does not divide into sets of {self.set_size}: change either."
            )
        for name in ("mapping_lr_scale", "max_grad_norm"):
            check_float(name, getattr(self, name), lambda value: value > 0, "a number above 0")
        check_float(
            "The learning rate", self.lr, lambda value: 0 < value < 1, "a number between 0 and 1, such as 0.003"
        )
