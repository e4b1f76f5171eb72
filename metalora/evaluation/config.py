"""Settings of embedding images."""

from dataclasses import dataclass

from metalora.util.checks import check_device, check_int, check_precision

LINEAR_HEAD = "linear head"  # in the place of a gallery, with K = 0: no neighbour is asked


@dataclass(frozen=True)
class EmbedConfig:
    """How images are embedded.

    Attributes:
        set_size: Images of one task and split that share a core or a context; None: all of them. 0: no image is read,
            and all get the identity core.
        shuffled: Give every image the code of another image of its split (a control).
        set_use: What a static method does with a set: its features are "standardised" together, its BatchNorm layers
            are "bn-adapted" to the set's own statistics, its search is "routed" to the gallery sets of nearest mean,
            or its transform is "inverted" as far as factor prediction recognises it; of a single image, "augbn" takes
            statistics of its augmentations.
        augbn_share: Share of the image's own statistics, for "augbn".
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
    augbn_share: float = 0.1
    oracle: bool = False
    seed: int = 0
    batch_size: int = 128
    device: str = "auto"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.set_size is not None:
            check_int("set_size", self.set_size, 0)
        check_int("batch_size", self.batch_size)
        check_device(self.device)
        check_precision(self.precision)
