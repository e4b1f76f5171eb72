"""Settings of how deep images, and images of many channels, become eight bits of red, green and blue."""

from collections.abc import Sequence
from dataclasses import dataclass

from metalora.util.checks import check_int
from metalora.util.errors import InputError

MAX_BYTES = 256 * 2**20  # of the values of an image of more than eight bits or many channels


@dataclass(frozen=True)
class Decoding:
    """How images of more than eight bits or three channels become RGB.

    Attributes:
        bands: The one or three channels that are read of images with others than grey or RGB, counted from 1.
        value_range: Values that are black and white, of images that declare no largest value; None: the images that
            are read together decide.

    Raises:
        InputError: A value cannot be used.
    """

    bands: tuple[int, ...] = ()
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", check_bands(self.bands))
        if self.value_range is not None:
            object.__setattr__(self, "value_range", (float(self.value_range[0]), float(self.value_range[1])))


def check_bands(bands: Sequence[int]) -> tuple[int, ...]:
    """Return numbers of channels as a tuple.

    Raises:
        InputError: They are not one or three whole numbers from 1.
    """
    for band in bands:
        check_int("bands", band)
    if len(bands) not in (0, 1, 3):
        raise InputError(f"bands names {len(bands)} channels: name one, or three for red, green and blue.")
    return tuple(bands)


def check_size(values: int, bits: int) -> None:
    """Check, before they are decoded, that the values of a deep image take a bounded memory.

    Args:
        values: their number, of all channels.
        bits: of each.

    Raises:
        InputError: they take over `MAX_BYTES`.
    """
    if values * -(-bits // 8) > MAX_BYTES:
        raise InputError(f"Its values take over {MAX_BYTES // 2**20} MB: make it smaller, or save it with eight bits.")


AS_DECLARED = Decoding()
