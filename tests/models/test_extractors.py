"""What the mapping net reads from an image."""

import copy

import pytest
import torch
from torch import nn

from metalora.models.backbones import Backbone, load_backbone
from metalora.models.extractors import OutputExtractor, make_extractor, report_stages, silence_stages
from metalora.models.stage_statistics import input_statistics, stage_statistics
from metalora.util.errors import InputError


class Staged(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)
        self.second, self.last = nn.Conv2d(4, 6, 3), nn.Linear(6, 7)
        self.unused, self.passes = nn.Identity(), 0

    def forward(self, x):
        x = self.second(self.act(self.first(x)))
        self.passes += 1
        return self.last(x.mean((2, 3)))


def staged(**stages):
    torch.manual_seed(0)
    backbone = Backbone(Staged().eval(), stages=stages)
    report_stages(backbone)
    return backbone


def test_stages_are_read_before_later_layers_overwrite_them():
    backbone, images = staged(first=4, second=6), torch.rand(2, 3, 9, 9)
    features = make_extractor("self", backbone)(images)
    first = backbone.net.first(images)
    second = backbone.net.second(first.relu())
    wanted = torch.cat([input_statistics(images), stage_statistics(first, 4), stage_statistics(second, 6)], 1)
    torch.testing.assert_close(features, wanted.detach())


def test_the_stem_is_the_first_stage_and_the_pass_ends_there():
    backbone, images = staged(first=4, second=6), torch.rand(2, 3, 9, 9)
    stem, whole = make_extractor("stem", backbone), make_extractor("self", backbone)
    assert torch.equal(stem(images), whole(images)[:, : 12 + 24])
    assert backbone.net.passes == 0


def test_a_stage_that_is_never_reached_is_an_error():
    backbone = staged(first=4, unused=4)
    with pytest.raises(InputError, match="The stages first, unused are not all part"):
        make_extractor("self", backbone)(torch.rand(1, 3, 9, 9))


def test_a_foreign_backbone_is_read_at_its_output():
    backbone = staged().requires_grad_(False)
    extractor, images = make_extractor("self", backbone), torch.rand(2, 3, 9, 9)
    assert isinstance(extractor, OutputExtractor)
    assert torch.equal(extractor(images), backbone(images))
    assert not extractor(images).requires_grad
    assert extractor(images.requires_grad_()).requires_grad
    with pytest.raises(InputError, match="names no stages, so it has no stem: use extractor self"):
        make_extractor("stem", backbone)


def test_another_backbone_is_named():
    extractor = make_extractor("resnet20", staged())
    assert extractor(torch.rand(2, 3, 40, 40)).shape == (2, 12 + 6 * (16 + 32 + 64))
    assert sum(p.numel() for p in extractor.parameters()) > 200_000
    with pytest.raises(InputError, match="Unknown backbone 'resnet2000'"):
        make_extractor("resnet2000", staged())


def test_a_module_must_have_its_width_and_is_copied():
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    with pytest.raises(InputError, match="The extractor Sequential does not say its width: set its num_features"):
        make_extractor(module, staged())
    module.num_features = 5
    extractor = make_extractor(module, staged())
    assert extractor is not module
    assert extractor.num_features == 5


def test_silencing_removes_our_hooks_and_no_others():
    backbone = load_backbone("resnet20", pretrained=False)
    theirs = backbone.net.layer1.register_forward_hook(lambda module, args, output: None)
    report_stages(backbone)
    net = copy.deepcopy(backbone.net)
    silence_stages(net, backbone.stages)
    assert [len(net.get_submodule(name)._forward_hooks) for name in backbone.stages] == [1, 0, 0]
    theirs.remove()
