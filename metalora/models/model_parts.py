"""The parts of an adapted model: what is frozen, what is trained, and the modes of both."""

from typing import Any, Self, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.adapters.recomputation import is_flagged
from metalora.models.backbones import Backbone
from metalora.models.context import Context, reads_features
from metalora.models.extractors import report_head, report_stages
from metalora.models.folding import is_reset
from metalora.models.insertion import choose_layers, insert_adapters, insert_copies
from metalora.models.mapping_net import ConstantCore, MappingNet
from metalora.models.survey import Survey
from metalora.models.task_net import extractor_of


class ModelParts(nn.Module):
    """The frozen and the trained part of an adapted model.

    Args:
        backbone: changed in place.
        config: the adapter's settings.
        seen: what a pass of the backbone showed; None before one.
        download: fetch weights of an extractor that are not on this machine.

    Raises:
        InputError: no layers can be adapted so, or the extractor is unknown or not on this machine.
    """

    def __init__(self, backbone: Backbone, config: AdapterConfig, *, seen: Survey | None, download: bool):
        super().__init__()
        self.config = config
        selection, copied = choose_layers(backbone, config, seen)
        self.left_out = selection.left_out
        report_stages(backbone)
        report_head(backbone, seen.head if seen else None)
        self.frozen = nn.ModuleDict({"backbone": backbone})
        if reads_features(config):
            self.frozen["extractor"] = extractor_of(config, backbone, download=download).to(next(backbone.parameters()))
        self.frozen.eval().requires_grad_(False)
        # BatchNorms with statistics: where these are reset later, they are about to be estimated again.
        self._norms = [m for m in self.frozen.modules() if isinstance(m, _BatchNorm) and not is_reset(m)]
        self.trained = nn.Module()
        self.layers = insert_adapters(backbone, selection.ranks, config, self.trained)
        self.saved_modules = insert_copies(backbone.net, copied, config, self.trained)

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone, its layers adapted."""
        return cast(Backbone, self.frozen["backbone"])

    @property
    def extractor(self) -> Any:
        """What the features come from that cores are generated from, or a context reads; None where nothing does."""
        return self.frozen["extractor"] if reads_features(self.config) else None

    @property
    def context(self) -> Context | None:
        """What embeds images given their set, with one adapter for all; None for most methods."""
        return cast(Context | None, getattr(self.trained, "context", None))

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

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the trained part; the frozen part stays in evaluation mode.

        A BatchNorm whose statistics were reset follows the mode, so that `torch.optim.swa_utils.update_bn` works. So
        does a block that checkpoints activations, without the modules in it: transformers' do so in training only.
        """
        super().train(mode)
        self.frozen.eval()
        for norm in self._norms:
            norm.train(mode and is_reset(norm))
        for module in filter(is_flagged, self.frozen.modules()):
            module.training = mode
        return self
