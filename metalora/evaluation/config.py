"""Settings of embedding images."""

from dataclasses import dataclass

from metalora.util.checks import check_device, check_int, check_precision


@dataclass(frozen=True)
class EmbedConfig:
    """How images are embedded.

    Attributes:
        set_size: Images of one task and split that share a core; None: all of them.
        shuffled: Give every image the code of another image of its split (a control).
        set_use: What a static method does with a set: its features are "standardised" together, its BatchNorm layers
            are "bn-adapted" to the set's own statistics, its search is "routed" to the gallery sets of nearest mean,
            or its transform is "inverted" as far as factor prediction recognises it.
        oracle: Give every image the core of its task's true factors (an upper bound).
        seed: Decides which images form a set, and how codes are shuffled.
        batch_size: Images at a time.
        device: auto, cuda, mps or cpu.
        precision: float32 or bfloat16.

    Raises:
        InputError: a value with which nothing can be embedded.
    """

    set_size: int | None = 1
    shuffled: bool = False
    set_use: str | None = None
    oracle: bool = False
    seed: int = 0
    batch_size: int = 128
    device: str = "auto"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.set_size is not None:
            check_int("set_size", self.set_size)
        check_int("batch_size", self.batch_size)
        check_device(self.device)
        check_precision(self.precision)
