"""The networks that come with the project: timm's classes at CIFAR size, their weights in `assets/`.

resnet20: He et al., Deep residual learning, 1512.03385, section 4.2 (projection shortcuts);
mixer_nano: Tolstikhin et al., MLP-Mixer, 2105.01601, patches of 4×4, width 96, 8 blocks.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from metalora.models.normalise import preprocess
from metalora.util.paths import ASSETS


@dataclass(frozen=True)
class Bundled:
    """A network that comes with the project, its weights in `assets/`.

    Attributes:
        build: number of classes (0 is no head) → network.
        stages: names of the submodules that become `Backbone.stages`.
        any_size: whether the network takes other sizes than `image_size`.
        mean: of the training images' channels.
        std: of the training images' channels.
        image_size: side of the training images.
    """

    build: Callable[[int], nn.Module]
    stages: tuple[str, ...]
    any_size: bool
    mean: tuple[float, float, float] = (0.491, 0.482, 0.447)
    std: tuple[float, float, float] = (0.247, 0.243, 0.262)
    image_size: int = 32

    def preprocess(self, image_size: int) -> nn.Module:
        """Build what resizes images to this side and normalises them."""
        return preprocess(image_size, self.mean, self.std)


def _resnet20(classes: int) -> nn.Module:
    # A "deep" stem only to start at 16 channels: timm's plain stem is fixed at 64.
    block: Any = BasicBlock  # timm asks for an instance
    net: Any = ResNet(block, (3, 3, 3), classes, stem_type="deep", stem_width=8, channels=(16, 32, 64))
    net.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    net.layer4 = nn.Identity()
    return net


def _mixer_nano(classes: int) -> nn.Module:
    return MlpMixer(classes, img_size=32, patch_size=4, num_blocks=8, embed_dim=96, mlp_ratio=(0.5, 2.0))


BUNDLED = {
    "resnet20": Bundled(_resnet20, ("layer1", "layer2", "layer3"), any_size=True),
    "mixer_nano": Bundled(_mixer_nano, ("blocks.1", "blocks.4", "blocks.7"), any_size=False),
}


def card(name: str) -> dict:
    """Read the card of a bundled backbone: command, data, seed, epochs, accuracies, licence, validation images."""
    return json.loads((ASSETS / f"{name}.json").read_text(encoding="utf-8"))
