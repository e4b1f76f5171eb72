"""`AdaptedModel`: a frozen backbone, its adapters, and the generator of their cores."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from metalora.adapters.config import AdapterConfig
from metalora.adapters.cores import Cores
from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.inputs import NONE, split_inputs
from metalora.adapters.methods import method
from metalora.adapters.targets import Selection, leave_out, select_layers, stem_of
from metalora.adapters.trained_copy import modules_to_save
from metalora.models.backbones import Backbone
from metalora.models.budget import budget
from metalora.models.calibration import check_survey, learn_width
from metalora.models.extractors import OutputExtractor, StageExtractor, make_extractor, report_head, report_stages
from metalora.models.folding import is_reset, remove_folds
from metalora.models.insertion import insert_adapters, insert_copies, relink
from metalora.models.mapping_net import ConstantCore, MappingNet
from metalora.models.plain_network import plain_network
from metalora.models.saving import save
from metalora.models.survey import Survey, survey
from metalora.models.task_net import GivenCondition, UnknownTask
from metalora.suites.decoding import AS_DECLARED
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

CHECKPOINTING = ("grad_checkpointing", "gradient_checkpointing")  # as timm and transformers call it


class AdaptedModel(nn.Module):
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
        super().__init__()
        checkpoints = any(
            getattr(module, flag, False) is True for module in backbone.modules() for flag in CHECKPOINTING
        )
        if checkpoints and method(config.method).generated:
            raise InputError("The backbone checkpoints activations, which loses the cores: switch that off first.")
        self.config = config
        self.decoding = AS_DECLARED  # of the images that it was trained on
        stem = next(iter(backbone.stages), None) if config.extractor == "stem" and config.generates else None
        adapts = method(config.method).format is not None
        unsuited = seen.unsuited(generated=method(config.method).generated) if seen else None
        selection = select_layers(backbone.net, config, stem, unsuited) if adapts else Selection({})
        copied = modules_to_save(backbone.net, config.modules_to_save)
        selection = leave_out(selection, copied, stem_of(backbone.net, stem))
        self.left_out = selection.left_out
        report_stages(backbone)
        report_head(backbone, seen.head if seen else None)
        extractor = _extractor(config, backbone, download=download) if config.generates else None
        self.frozen = nn.ModuleDict({"backbone": backbone})
        if extractor is not None:
            self.frozen["extractor"] = extractor.to(next(backbone.parameters()))
        self.frozen.eval().requires_grad_(False)
        # BatchNorms with statistics: where these are reset later, they are about to be estimated again.
        self._norms = [m for m in self.frozen.modules() if isinstance(m, _BatchNorm) and not is_reset(m)]
        self.trained = nn.Module()
        rows = backbone.rows_by_image
        self.layers = insert_adapters(backbone.net, selection.ranks, config, self.trained, rows_by_image=rows)
        self.saved_modules = insert_copies(backbone.net, copied, config, self.trained)
        self._seen, self._further = seen, NONE
        # A buffer follows the model to other devices and precisions.
        self.register_buffer("example", None, persistent=False)

    def _replicate_for_data_parallel(self) -> "AdaptedModel":
        replica = super()._replicate_for_data_parallel()
        replica._linked = False
        return replica

    def _link(self) -> None:
        """Connect the parts of a replica of `nn.DataParallel`, whose connections lead to the original's parts."""
        self.layers, self.saved_modules = relink(self.backbone.net, self.trained)
        extractor = self.extractor
        if isinstance(extractor, StageExtractor | OutputExtractor):
            extractor._backbone = (extractor.own if extractor.own is not None else self.backbone,)
        for backbone in (module for module in self.modules() if isinstance(module, Backbone)):
            backbone.folds = []
        remove_folds(self.frozen)
        self._linked = True

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone, its layers adapted."""
        return cast(Backbone, self.frozen["backbone"])

    @property
    def extractor(self) -> Any:
        """What the mapping net's features come from; None where nothing is generated."""
        return self.frozen["extractor"] if self.config.generates else None

    @property
    def mapping(self) -> MappingNet:
        """The mapping net of a method that generates; a `TaskNet` where tasks are told."""
        return cast(MappingNet, self.trained.mapping)

    @property
    def constant(self) -> ConstantCore:
        """The core that is learned for all images, where settings ask for one."""
        return cast(ConstantCore, self.trained.constant)

    @property
    def generated(self) -> bool:
        """Whether the format has a core, generated or constant."""
        return method(self.config.method).generated

    def train(self, mode: bool = True) -> "AdaptedModel":
        """Set the mode of the trained part; the frozen part stays in evaluation mode.

        A BatchNorm whose statistics were reset follows the mode, so that `torch.optim.swa_utils.update_bn` works.
        """
        super().train(mode)
        self.frozen.eval()
        for norm in self._norms:
            norm.train(mode and is_reset(norm))
        return self

    def prepare(self, images: Tensor) -> None:
        """Learn from a first batch what only data show: the width of features, and whether the layers can be adapted.

        Raises:
            InputError: the output is not (N, D), or an adapted layer is not called by the forward pass
                or called with something else than the batch on its leading axis.
        """
        if self.example is not None:
            return
        if images.shape[0] == 0:
            raise InputError("The first batch is empty, so sizes stay unknown: begin with one image or more.")
        # What is learnt here outlives an inference_mode around the first batch.
        further = current.further.one(images.shape[0])
        with torch.inference_mode(False), torch.no_grad(), forward_context(further=further):
            example, self._further = images[:1].detach().clone(), further
            seen = self._seen or survey(self.backbone, example)
            check_survey(seen, self.backbone, self.layers, generated=self.generated)
            self.backbone.fold(seen.pairs)
            report_head(self.backbone, seen.head)
            for name, layer in self.layers.items():
                layer.rows_by_image |= seen.rows.get(name, 1) > 1
            known = isinstance(self.extractor, StageExtractor | GivenCondition) and self.mapping.materialised
            if self.config.generates and not known:
                learn_width(self.extractor, self.mapping, example)
            self.example, self._seen = example, None

    def _cores_of(self, images: Tensor) -> Cores | None:
        return self.generate(images) if self.generated else None

    def features(self, images: Tensor) -> Tensor:
        """Return the extractor's features of images: (N, F), with a gradient where the images require one."""
        self._must_generate()
        return current.further.call_known(self.extractor, images)

    def standardise(self, images: Tensor, chunk: int = 256) -> None:
        """Take the statistics of the training images' features, by which features are standardised.

        Args:
            images: a sample of the training images.
            chunk: number of images in a pass.
        """
        self.prepare(images[:2])
        with torch.no_grad():
            self.mapping.standardise(torch.cat([self.features(part) for part in images.split(chunk)]))

    def codes(self, images: Tensor, *, features: Tensor | None = None) -> Tensor:
        """Return the code of every image: (N, code).

        Args:
            images: (N, …).
            features: (N, F), where `features(images)` is known already.
        """
        self._must_generate()
        if not self.mapping.materialised:
            self.prepare(images)
        return self.mapping.codes(self.features(images) if features is None else features)

    def cores(self, codes: Tensor) -> Cores:
        """Map codes (N, code) to Cores of N samples: Gaussian ones are drawn in training mode, else their means."""
        self._must_generate()
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
        if further is not NONE:
            with forward_context(cores=current.cores, further=further):
                return self.generate(images, groups=groups, shuffle=shuffle, features=features, condition=condition)
        features = self._given(features, condition)
        if self.generated and not self.config.generates:
            return self.constant.cores().expand(images.shape[0])
        codes = self.codes(images, features=features)
        if groups is not None:
            codes = self.mapping.pool(codes, groups)
        if shuffle is not None:
            codes = codes[torch.randperm(len(codes), generator=seeded_generator(shuffle)).to(codes.device)]
        return self.cores(codes)

    def _must_generate(self) -> None:
        if not self.config.generates:
            kind = "has one learned core" if self.generated else "has one adapter" if self.layers else "is the same"
            raise InputError(f"{method(self.config.method).title} {kind} for every image: nothing is generated.")

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
            groups: as in `generate`.
            features: as in `codes`.
            condition: (N, `config.condition`), what cores are generated from instead of the images, such as numbers of
                a user; of methods that are told the task, 1 for each image's task and 0 for the others.
        """
        images, further = split_inputs(images, args, kwargs)
        if further is not NONE:
            with forward_context(cores=current.cores, further=further):
                return self(images, cores=cores, groups=groups, features=features, condition=condition)
        if not self._linked:
            self._link()
        if not current.enabled:
            return self.backbone(images)
        features = self._given(features, condition)
        if self.example is None:
            if torch.compiler.is_compiling():
                raise InputError("Sizes are known after a first batch: call the model once before it is exported.")
            self.prepare(images)
        if not self.generated:
            if cores is not None or groups is not None:
                self._must_generate()
            return self._run(images, None)
        if cores is not None:
            self._check_cores(cores)
            if groups is not None:
                raise InputError(
                    "Groups say which images share generated cores, and cores are given: leave either out."
                )
            if cores.samples not in (1, images.shape[0]):
                count = f"{cores.samples} cores for {images.shape[0]} images"
                raise InputError(f"There are {count}: give one, or one for each.")
            return self._run(images, cores)
        if not self.config.generates:
            return self._run(images, self.constant.cores())
        if self.config.extractor == "stem" and features is None:
            return self._run_from_stem(images, groups)
        return self._run(images, self.generate(images, groups=groups, features=features))

    def _given(self, features: Tensor | None, condition: Tensor | None) -> Tensor | None:
        """Return what the mapping net reads, where that is given."""
        if condition is None:
            return features
        width = self.config.condition if self.config.generates else 0
        if condition.ndim != 2 or condition.shape[1] != width:
            takes = f"takes {width} numbers for each image" if width else "takes none: make it with condition="
            raise InputError(f"The condition is {tuple(condition.shape)}, but this adapter {takes}.")
        return condition

    def _check_cores(self, cores: Cores) -> None:
        for name, layer in self.layers.items():
            wanted, found = layer.adapter.format.core_shape, tuple(cores[name].shape[1:])
            if found != wanted:
                raise InputError(
                    f"The core of layer {name!r} is {found} for each image, {self.config.method} of its rank needs "
                    f"{wanted}: generate cores by this model, or one of its method and ranks."
                )

    def _run(self, images: Tensor, cores: Cores | None) -> Tensor:
        with forward_context(cores=cores):
            return self.backbone(images)

    def _run_from_stem(self, images: Tensor, groups: Tensor | None) -> Tensor:
        """Embed images in one pass, in which the stem's output becomes the cores of the layers behind it."""

        def generate(name: str, output: Tensor) -> None:
            if name in self.extractor.stages:
                features = self.extractor.describe(images, {name: self.extractor.read(name, output)})
                codes = self.mapping.codes(features)
                current.cores = self.cores(codes if groups is None else self.mapping.pool(codes, groups))

        with forward_context(stage_hook=generate):
            return self.backbone(images)

    @contextlib.contextmanager
    def applied(self, cores: Cores | None = None) -> Iterator[nn.Module]:
        """Give the network itself, which uses these cores in this thread inside the context.

        For its own methods, such as `generate` of a language model, with beams and caches: rows may be several for each
        sample of cores, sample by sample, as beams are.

        Args:
            cores: of the samples; None for a static method or constant cores.

        Raises:
            InputError: a generated method without cores.
        """
        if self.generated and cores is None and self.config.generates:
            raise InputError("This method's update depends on the input: give the cores that generate() returns.")
        if self.generated and cores is None:
            cores = self.constant.cores()
        with forward_context(cores=cores, spread=True):
            yield self.backbone.net

    def print_trainable_parameters(self) -> None:
        """Print how many parameters are trained, of how many, as PEFT does."""
        trained = sum(parameter.numel() for parameter in self.trained.parameters())
        frozen = sum(parameter.numel() for parameter in self.frozen.parameters())
        share = 100 * trained / max(1, trained + frozen)
        print(f"trainable params: {trained:,} || all params: {trained + frozen:,} || trainable%: {share:.4f}")

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
        if not self.generated:
            if cores is not None:
                self._must_generate()
            return None
        if cores is None and not self.config.generates:
            cores = self.constant.cores()
        if cores is None:
            raise InputError("This method's update depends on the image: give the cores that generate() returns.")
        return cores[name]

    def fold(self, cores: Cores | None = None) -> nn.Module:
        """Build an ordinary module with the update of one sample's cores in the weights, its parameters frozen.

        Raises:
            InputError: not exactly one sample's cores for a generated method.
        """
        if cores is not None and len(cores) != 1:
            raise InputError(f"One core can be folded at a time, not {len(cores)}: choose one, as in cores[0].")
        return plain_network(self.backbone, self.layers, {name: self.core_of(name, cores) for name in self.layers})

    def budget(self) -> pd.DataFrame:
        """Count parameters and FLOPs (one image) of every layer, of the generator, and in all.

        Raises:
            InputError: sizes are only known from data, and there was none yet.
        """
        example = self._sized_example()
        # The stem is read in the embedding's own pass.
        generator = {
            "mapping": self.mapping if self.config.generates else None,
            "extractor": None if self.config.extractor == "stem" else self.extractor,
        }
        copies = {name: wrapper.copy for name, wrapper in self.saved_modules.items()}
        with torch.no_grad(), forward_context(further=self._further):
            cores = self._cores_of(example)
            return budget(self.backbone, self.layers, self.left_out, example, cores=cores, saved=copies, **generator)

    def save(self, path: str | Path) -> None:
        """Write a folder with config.json and adapter.safetensors; see `metalora.load`.

        Raises:
            InputError: sizes are not known yet, a part is unfrozen that is not saved, the folder holds something else,
                or the disk refuses.
        """
        unfrozen = [name for name, parameter in self.frozen.named_parameters() if parameter.requires_grad]
        if unfrozen:
            name = unfrozen[0].removeprefix("backbone.net.")
            more = f" (and {len(unfrozen) - 1} more)" if len(unfrozen) > 1 else ""
            raise InputError(
                f"{name} of the frozen part{more} requires a gradient, and would not be saved: name its module in "
                "modules_to_save, or freeze it with requires_grad_(False)."
            )
        example, trained = self._sized_example(), self.trained.state_dict()
        save(Path(path), self.config, trained, self.backbone, self.extractor, example, self.decoding)

    def _sized_example(self) -> Tensor:
        if self.example is None:
            raise InputError("Sizes are known after a first batch: call the model once, or give adapt() an example.")
        return self.example.to(next(self.backbone.parameters())) if self.example.is_floating_point() else self.example


def _extractor(config: AdapterConfig, backbone: Backbone, *, download: bool) -> nn.Module:
    """Return what cores are read from."""
    if config.told:
        return UnknownTask(config.condition)
    if config.condition:
        return GivenCondition(config.condition)
    return make_extractor(config.extractor, backbone, download=download)
