"""Settings of a training."""

from dataclasses import dataclass

from metalora.util.checks import LARGEST_SEED, number, whole
from metalora.util.errors import InputError


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Raises:
        InputError: a value with which nothing can be trained.
    """

    steps: int = 64
    batch: int = 64
    rate: float = 3e-3  # of adapters and head
    mapping_rate: float = 1.0  # the mapping net's rate, as a multiple of `rate`
    set_size: int = 1  # images of one task that share a core
    name_factors: float = 1.0  # weight of naming the factors, for a code that names them
    told: float = 0.5  # share of the sets that get the core of their true factors, for such a code
    neutral: float = 0.5  # share of single images that get the neutral core, where classes alone train the code
    neutral_sets: float = 0.25  # the same of sets
    clip: float = 1.0  # largest norm of the gradient
    validate_every: int = 0  # steps between k-NN validations; 0: at the end only
    precision: str = "float32"
    device: str = "auto"
    compile: bool = False  # the network, by torch.compile
    seed: int = 0  # of the head and of the order of images

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "set_size"):
            whole(name, getattr(self, name))
        whole("validate_every", self.validate_every, 0)
        number("told", self.told, lambda value: 0 <= value <= 1, "a share from 0 to 1")
        for name in ("neutral", "neutral_sets"):
            number(name, getattr(self, name), lambda value: 0 <= value < 1, "a share from 0 to below 1")
        number("name_factors", self.name_factors, lambda value: value >= 0, "a weight of 0 or more")
        whole("seed", self.seed, 0, LARGEST_SEED)
        if self.batch % self.set_size:
            raise InputError(f"A batch of {self.batch} does not divide into sets of {self.set_size}: change either.")
        for name in ("mapping_rate", "clip"):
            number(name, getattr(self, name), lambda value: value > 0, "a number above 0")
        number("The learning rate", self.rate, lambda value: 0 < value < 1, "a number between 0 and 1, such as 0.003")
