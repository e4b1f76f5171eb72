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


class Playground:
    """One image, whose shifts are embedded by the original network and by several adapters.

    Args:
        model: whose adapter is looked at.
        image: float RGB in [0, 1], (3, S, S).
        others: other images, which say how far two images are apart: (M, 3, S, S), M at least 1.
        donor: position in `others` of the image whose core is given to all shifts.
        static: a model with the same backbone and LoRA of equal budget; None where there is none.
        constant: code (code) whose core is given to all shifts; None: the mean code of `others`.

    Raises:
        InputError: there are no others, no such donor, or the two models have different backbones.
    """

    def __init__(
        self,
        model: AdaptedModel,
        image: Tensor,
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
        self.images = torch.cat([image[None], others]).to(self.device)
        self.donor, self._constant = donor, constant

    @property
    def adapters(self) -> tuple[str, ...]:
        """What embeds the images, in the order of a movement's columns."""
        static = () if self.static is None else (STATIC,)
        own = (OWN, OTHER, CONSTANT) if self.model.config.generates else ()
        return (ORIGINAL, *static, *own)

    @torch.inference_mode()
    def move(self, shifted: Tensor) -> Movement:
        """Embed shifts of the image.

        Args:
            shifted: float RGB in [0, 1], (N, 3, S, S).
        """
        shifted = shifted.to(self.device)
        codes = self.model.codes(shifted) if self.model.config.generates else None
        cores = None if codes is None else self.model.cores(codes)
        embeddings = self._embed(shifted, cores)
        distance = pd.DataFrame({name: self._distances(name, z).tolist() for name, z in embeddings.items()})
        return Movement(distance, distance / pd.Series(self._units), embeddings, codes, cores)

    @cached_property
    def _fixed(self) -> dict[str, Cores]:
        """The cores that do not follow the image."""
        codes = self._own_codes
        constant = codes[1:].mean(0) if self._constant is None else self._constant.to(codes)
        return {OTHER: self.model.cores(codes[1 + self.donor][None]), CONSTANT: self.model.cores(constant[None])}

    @property
    def own_core(self) -> Tensor:
        """The core of the image as it was, all layers side by side, (1, values), on the CPU."""
        return self.model.cores(self._own_codes[:1]).flatten().detach().cpu()

    @cached_property
    def _own_codes(self) -> Tensor:
        return self.model.codes(self.images).detach()

    @cached_property
    def _references(self) -> dict[str, Tensor]:
        """Embeddings of the image as it was and of the others, unit vectors."""
        cores = self.model.cores(self._own_codes) if self.model.config.generates else None
        return self._embed(self.images, cores)

    @cached_property
    def _units(self) -> dict[str, float]:
        """The mean distance between the image and the others."""
        return {name: self._distances(name, z[1:]).mean().item() for name, z in self._references.items()}

    def _distances(self, name: str, embeddings: Tensor) -> Tensor:
        """Return cosine distances (N) of unit vectors to the image as it was."""
        return (1 - embeddings @ self._references[name][0]).clamp(min=0)

    def _embed(self, images: Tensor, own: Cores | None) -> dict[str, Tensor]:
        with self.model.disabled():
            found = {ORIGINAL: self.model(images)}
        if self.static is not None:
            found[STATIC] = self.static(images)
        if own is not None:
            found[OWN] = self.model(images, cores=own)
            found |= {name: self.model(images, cores=cores) for name, cores in self._fixed.items()}
        return {name: normalize(z.double(), dim=1) for name, z in found.items()}
