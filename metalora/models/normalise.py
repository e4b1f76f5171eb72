"""Normalisation of images that no GPU has to be waited for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import Normalize, Resize  # v2 compiles without a graph break


class Normalise(nn.Module):
    """Subtract a mean from every channel, and divide by a standard deviation, in the precision of the images.

    The transform of torchvision copies both to the device in every pass.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self._values = mean, std
        self._place(None)

    def _place(self, device: torch.device | None) -> None:
        for name, values in zip(("mean", "std"), self._values, strict=True):
            made_on = None if device is None else "cpu"  # None: where torch makes tensors now
            tensor = torch.tensor(values, dtype=torch.float32, device=made_on)[:, None, None]
            self.register_buffer(name, tensor if device is None else tensor.to(device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Normalise":
        self._place(fn(self.mean).device)  # a network of another precision keeps the values
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W), normalised."""
        return images.sub(self.mean.to(images.dtype)).div_(self.std.to(images.dtype))

    def plain(self) -> nn.Module:
        """Return torchvision's transform of the same values, rounded as they are here."""
        mean, std = (torch.tensor(values, dtype=torch.float32).tolist() for values in self._values)
        return Normalize(mean, std)

    def extra_repr(self) -> str:
        return "mean={}, std={}".format(*self._values)


def preprocess(size: int, mean: tuple[float, ...], std: tuple[float, ...], mode: str = "bilinear") -> nn.Module:
    """Build what resizes images to a side and normalises them.

    Args:
        size: side in pixels.
        mean: of each channel.
        std: of each channel.
        mode: interpolation, by torchvision's name.
    """
    return nn.Sequential(Resize((size, size), InterpolationMode(mode), antialias=True), Normalise(mean, std))
