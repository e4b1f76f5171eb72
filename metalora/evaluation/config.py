"""Settings of embedding images, and of searching a gallery of embeddings."""

from dataclasses import dataclass

from metalora.util.checks import MAX_SEED, check_device, check_int, check_precision
from metalora.util.errors import InputError

INDEXES = ("exact", "faiss")

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


@dataclass(frozen=True)
class SearchConfig:
    """How the nearest images of a gallery are found.

    Attributes:
        k: Neighbours of each image.
        index: exact, or faiss for galleries that an exact search takes too long for; it misses some neighbours, and
            the recall is measured against the exact search.
        probes: Lists that faiss searches, of about √G for G images; more of them find more and take longer.
        seed: Decides the lists of faiss, and the images by which the recall is measured.

    Raises:
        InputError: an unknown index, or a number out of range.
    """

    k: int = 5
    index: str = "exact"
    probes: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        check_int("K", self.k)
        if self.index not in INDEXES:
            raise InputError(f"Unknown index {self.index!r}: use {' or '.join(INDEXES)}.")
        check_int("probes", self.probes)
        check_int("seed", self.seed, 0, MAX_SEED)
