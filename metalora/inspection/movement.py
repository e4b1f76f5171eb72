"""How far a shift moves an image's embedding, under several adapters side by side.

Distances need no classes, so they can be read for any image: the cosine distance to the embedding of the image as it
was, in units of the mean distance to the embeddings of other images under the same adapter. At 1 the shift moved the
image as far as another image is away.
"""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from metalora.adapters.cores import Cores
from metalora.models.adapted_model import AdaptedModel
from metalora.util.errors import InputError

ORIGINAL, STATIC, OWN, OTHER, CONSTANT = "original", "lora", "own core", "another image's core", "constant core"


@dataclass(frozen=True, eq=False)
class Movement:
    """N shifts of one image, and how far each moved its embedding.

    Attributes:
        distance: cosine distance, a row per shift, a column per adapter.
        relative: the same in units of the mean distance to other images.
        embeddings: adapter → (N, D), unit vectors.
        codes: of the shifted images, (N, code); None where nothing is generated.
        cores: of the shifted images; None where nothing is generated.
    """

    distance: pd.DataFrame
    relative: pd.DataFrame
    embeddings: dict[str, Tensor]
    codes: Tensor | None
    cores: Cores | None


@dataclass(frozen=True, eq=False)
class Unshifted:
    """One image as it was.

    Attributes:
        embeddings: adapter → (D), unit vector.
        units: adapter → mean distance to the other images.
        core: all layers side by side, (1, values), on the CPU; None where nothing is generated.
    """

    embeddings: dict[str, Tensor]
    units: dict[str, float]
    core: Tensor | None


class Playground:
    """The original network and several adapters side by side, which embed an image and its shifts.

    Args:
        model: whose adapter is looked at.
        others: float RGB in [0, 1], (M, 3, S, S), M at least 1: how far two images are apart.
        donor: position in `others` of the image whose core is given to all shifts.
        static: a model with the same backbone and LoRA of equal budget; None where there is none.
        constant: code (code) whose core is given to all shifts; None: the mean code of `others`.

    Raises:
        InputError: there are no others, no such donor, or the two models have different backbones.
    """

    def __init__(
        self,
        model: AdaptedModel,
        others: Tensor,
        *,
        donor: int = 0,
        static: AdaptedModel | None = None,
        constant: Tensor | None = None,
    ):
        if not len(others):
            raise InputError("Distances are compared with those of other images: give one or more.")
        if not isinstance(donor, int) or not 0 <= donor < len(others):
            raise InputError(f"There is no other image {donor}: they are numbered 0 to {len(others) - 1}.")
        if static is not None and static.backbone.name != model.backbone.name:
            raise InputError(
                f"{static.backbone.name} and {model.backbone.name} are different backbones: compare adapters of one."
            )
        self.model, self.static = model.eval(), None if static is None else static.eval()
        self.device = next(model.parameters()).device
        self.others = others.to(self.device)
        self.donor, self._constant = donor, constant

    @property
    def adapters(self) -> tuple[str, ...]:
        """What embeds the images, in the order of a movement's columns."""
        static = () if self.static is None else (STATIC,)
        own = (OWN, OTHER, CONSTANT) if self.model.config.generates else ()
        return (ORIGINAL, *static, *own)

    @torch.inference_mode()
    def read(self, image: Tensor) -> Unshifted:
        """Embed the image as it was, float RGB in [0, 1], (3, S, S)."""
        images = image[None].to(self.device)
        _, cores, found = self._embed(images)
        embeddings = {name: z[0] for name, z in found.items()}
        units = {name: (1 - z @ embeddings[name]).clamp(min=0).mean().item() for name, z in self._others.items()}
        return Unshifted(embeddings, units, None if cores is None else cores.flatten().cpu())

    @torch.inference_mode()
    def move(self, image: Unshifted, shifted: Tensor) -> Movement:
        """Embed shifts of an image, float RGB in [0, 1], (N, 3, S, S)."""
        codes, cores, embeddings = self._embed(shifted.to(self.device))
        moved = {name: (1 - z @ image.embeddings[name]).clamp(min=0) for name, z in embeddings.items()}
        distance = pd.DataFrame({name: d.tolist() for name, d in moved.items()})
        return Movement(distance, distance / pd.Series(image.units), embeddings, codes, cores)

    @cached_property
    def _codes(self) -> Tensor:
        return self.model.codes(self.others).detach()

    @cached_property
    def _fixed(self) -> dict[str, Cores]:
        """The cores that do not follow the image."""
        constant = self._codes.mean(0) if self._constant is None else self._constant.to(self._codes)
        return {OTHER: self.model.cores(self._codes[self.donor][None]), CONSTANT: self.model.cores(constant[None])}

    @cached_property
    def _others(self) -> dict[str, Tensor]:
        return self._embed(self.others)[2]

    def _embed(self, images: Tensor) -> tuple[Tensor | None, Cores | None, dict[str, Tensor]]:
        """Return codes, cores, and by adapter embeddings (N, D), unit vectors."""
        with self.model.disabled():
            found = {ORIGINAL: self.model(images)}
        if self.static is not None:
            found[STATIC] = self.static(images)
        codes = self.model.codes(images) if self.model.config.generates else None
        own = None if codes is None else self.model.cores(codes)
        if own is not None:  # one pass for all cores
            given = {OWN: own, **{name: cores.expand(len(images)) for name, cores in self._fixed.items()}}
            embeddings = self.model(images.repeat(len(given), 1, 1, 1), cores=Cores.cat(list(given.values())))
            found |= dict(zip(given, embeddings.split(len(images)), strict=True))
        return codes, own, {name: normalize(z.double(), dim=1) for name, z in found.items()}
