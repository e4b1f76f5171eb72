"""`AdaptedModel`: a frozen backbone, its adapters, and the generator of their cores."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.cores import Cores
from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.inputs import NONE, split_inputs
from metalora.adapters.recomputation import recording
from metalora.models.backbones import Backbone
from metalora.models.budget import budget, count_trainable
from metalora.models.calibration import learn, sized_example
from metalora.models.context import reader_of, refuse_context
from metalora.models.forward_pass import run
from metalora.models.generation import chosen, generate, given, must_generate
from metalora.models.model_parts import ModelParts
from metalora.models.plain_network import plain_network
from metalora.models.replicas import link_replica
from metalora.models.saving import check_frozen, save
from metalora.models.survey import Survey
from metalora.suites.decoding import AS_DECLARED
from metalora.util.errors import InputError


class AdaptedModel(ModelParts):
    """A backbone with an update on every chosen layer, made by `adapt()`.

    Its `state_dict` has two parts: "trained." (adapters, mapping net) and "frozen." (backbone, extractor).

    Attributes:
        config: the adapter's settings.
        layers: name → adapted layer, in the backbone's order.
        saved_modules: name → module that is trained as a whole.
        left_out: name → why a layer is not adapted.
        example: one image of the first batch; None before it.
    """

    example: Tensor | None
    _linked = True

    def __init__(
        self, backbone: Backbone, config: AdapterConfig, *, seen: Survey | None = None, download: bool = False
    ):
        super().__init__(backbone, config, seen=seen, download=download)
        self.decoding = AS_DECLARED  # of the images that it was trained on
        self._seen, self._further = seen, NONE
        # A buffer follows the model to other devices and precisions.
        self.register_buffer("example", None, persistent=False)

    def _replicate_for_data_parallel(self) -> "AdaptedModel":
        replica = super()._replicate_for_data_parallel()
        replica._linked = False
        return replica

    def prepare(self, images: Tensor) -> None:
        """Learn from a first batch what only data show: the width of features, and whether the layers can be adapted.

        Raises:
            InputError: the output is not (N, D), or an adapted layer is not called by the forward pass
                or called with something else than the batch on its leading axis.
        """
        if self.example is None:
            (self.example, self._further), self._seen = learn(self, images, self._seen), None

    def features(self, images: Tensor) -> Tensor:
        """Return the extractor's features of images: (N, F), with a gradient where the images require one."""
        if self.extractor is None:
            must_generate(self)
        return current.further.call_known(self.extractor, images)

    def standardise(self, images: Tensor, chunk: int = 256) -> None:
        """Take the statistics of the training images' features, by which features are standardised.

        Args:
            images: a sample of the training images.
            chunk: number of images in a pass.
        """
        self.prepare(images[:2])
        with torch.no_grad():
            reader_of(self).standardise(torch.cat([self.features(part) for part in images.split(chunk)]))

    def codes(self, images: Tensor, *, features: Tensor | None = None) -> Tensor:
        """Return the code of every image: (N, code).

        Args:
            images: (N, …).
            features: (N, F), where `features(images)` is known already.
        """
        must_generate(self)
        if not self.mapping.materialised:
            self.prepare(images)
        return self.mapping.codes(self.features(images) if features is None else features)

    def cores(self, codes: Tensor) -> Cores:
        """Map codes (N, code) to Cores of N samples: Gaussian ones are drawn in training mode, else their means."""
        must_generate(self)
        return self.mapping.cores(codes)

    def generate(
        self,
        images: Tensor | None = None,
        *,
        groups: Tensor | None = None,
        shuffle: int | None = None,
        features: Tensor | None = None,
        condition: Tensor | None = None,
        **kwargs: Any,
    ) -> Cores:
        """Generate the cores of images, one for each: Gaussian ones are drawn in training mode, else their means.

        Args:
            images: (N, …), as in `forward`.
            **kwargs: further inputs of a foreign backbone, as in `forward`.
            groups: (N); images of equal numbers are a set, known to come from one task, and share the
                core of their pooled code (see `MappingNet.pool`). No label is used.
            shuffle: random seed; permutes the cores of the images at random, as a control.
            features: as in `codes`.
            condition: as in `forward`.

        Raises:
            InputError: the method has no core to generate, or a condition is missing or unknown to it.
        """
        images, further = split_inputs(images, (), kwargs)
        with forward_context(cores=current.cores, further=current.further if further is NONE else further):
            return generate(self, images, groups=groups, shuffle=shuffle, features=given(self, features, condition))

    def forward(
        self,
        images: Tensor | None = None,
        *args: Any,
        cores: Cores | None = None,
        groups: Tensor | None = None,
        features: Tensor | None = None,
        condition: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return embeddings (N, D), each image with its own adapter; of a foreign backbone whatever that gives.

        Args:
            images: float RGB in [0, 1], (N, 3, H, W); for a foreign backbone its first input, which may have the
                keyword that it has there, such as input_ids.
            *args: further inputs of a foreign backbone.
            **kwargs: the same by keyword, such as attention_mask.
            cores: to use instead of generated ones: one sample, or one for each image.
            groups: as in `generate`; for methods with a context, images that are embedded together.
            features: as in `codes`.
            condition: (N, `config.condition`), what cores are generated from instead of the images, such as numbers of
                a user; of methods that are told the task, 1 for each image's task and 0 for the others.
        """
        images, further = split_inputs(images, args, kwargs)
        if further is not NONE:
            with forward_context(cores=current.cores, further=further):
                return self(images, cores=cores, groups=groups, features=features, condition=condition)
        if not self._linked:
            self.layers, self.saved_modules = link_replica(self.frozen, self.trained, self.extractor)
            self._linked = True
        if not current.enabled:
            return self.backbone(images)
        features = given(self, features, condition)
        self.prepare(images)
        return run(self, images, cores=cores, groups=groups, features=features)

    @contextlib.contextmanager
    def applied(self, cores: Cores | None = None) -> Iterator[nn.Module]:
        """Give the network itself, which uses these cores in this thread inside the context.

        For its own methods, such as `generate` of a language model, with beams and caches: rows may be several for each
        sample of cores, sample by sample, as beams are.

        Args:
            cores: of the samples; None for a static method or constant cores.

        Raises:
            InputError: a generated method without cores, or one with a context.
        """
        refuse_context(self, "be used inside its network alone")
        with forward_context(cores=chosen(self, cores), spread=True), recording(self.backbone.net):
            yield self.backbone.net

    def print_trainable_parameters(self) -> None:
        """Print how many parameters are trained, of how many, as PEFT does."""
        print(count_trainable(self.trained, self.frozen))

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Give this thread the original backbone, bit for bit, inside the context."""
        with forward_context(enabled=False, exact=True):
            yield

    def delta_weight(self, name: str, cores: Cores | None = None) -> Tensor:
        """Return the dense ΔW of a layer for every sample: (N, *weight.shape); N is 1 for a static method.

        Raises:
            InputError: no such adapted layer, or a generated method without cores.
        """
        if name not in self.layers:
            raise InputError(f"Layer {name!r} is not adapted: adapted are {', '.join(self.layers)}.")
        return self.layers[name].delta(self.core_of(name, cores))

    def core_of(self, name: str, cores: Cores | None) -> Tensor | None:
        """Return the core that a layer takes of these cores, or of the constant ones; None for a static method.

        Raises:
            InputError: as `delta_weight`.
        """
        return None if (found := chosen(self, cores)) is None else found[name]

    def fold(self, cores: Cores | None = None) -> nn.Module:
        """Build an ordinary module with the update of one sample's cores in the weights, its parameters frozen.

        Raises:
            InputError: not exactly one sample's cores for a generated method, or a method with a context.
        """
        refuse_context(self, "be folded into weights")
        return plain_network(self.backbone, self.layers, chosen(self, cores))

    def budget(self) -> pd.DataFrame:
        """Count parameters and FLOPs (one image) of every layer, of the generator, and in all.

        Raises:
            InputError: sizes are only known from data, and there was none yet.
        """
        example = sized_example(self)
        with torch.no_grad(), forward_context(further=self._further):
            cores = self.generate(example) if self.generated else None
            return budget(self, example, cores)

    def save(self, path: str | Path) -> None:
        """Write a folder with config.json and adapter.safetensors; see `metalora.load`.

        Raises:
            InputError: sizes are not known yet, a part is unfrozen that is not saved, the folder holds something else,
                or the disk refuses.
        """
        check_frozen(self.frozen)
        example, trained = sized_example(self), self.trained.state_dict()
        save(Path(path), self.config, trained, self.backbone, self.extractor, example, self.decoding)
