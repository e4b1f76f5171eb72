"""Which layers are adapted, at what rank, and the errors otherwise."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from metalora.adapters.config import AdapterConfig
from metalora.adapters.targets import select_layers
from metalora.models.backbones import load_backbone
from metalora.util.errors import InputError


@pytest.fixture(scope="module")
def resnet():
    return load_backbone("resnet20", pretrained=False).net


def select(net, **settings):
    return select_layers(net, AdapterConfig(**settings))


def test_by_default_every_convolution_and_linear_layer_is_adapted(resnet):
    kinds = [name for name, module in resnet.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    selection = select(resnet)
    assert selection.ranks == dict.fromkeys(kinds, 4)
    assert len(kinds) == 21
    assert selection.left_out == {}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"targets": r"layer1\.0"}, ["layer1.0.conv1", "layer1.0.conv2"]),
        ({"targets": [r"^conv1$", r"layer1\.0\.conv2"]}, ["conv1", "layer1.0.conv2"]),
        ({"targets": r"layer1\.0", "exclude": "conv1$"}, ["layer1.0.conv2"]),
    ],
)
def test_patterns_choose_layers(resnet, settings, names):
    assert list(select(resnet, **settings).ranks) == names


def test_a_pattern_gives_its_layers_another_rank(resnet):
    ranks = select(resnet, method="lora", rank_pattern={r"layer1": 2, "conv": 3}).ranks
    assert (ranks["conv1"], ranks["layer1.0.conv1"], ranks["layer2.0.downsample.0"]) == (3, 2, 4)


@pytest.mark.parametrize("setting", ["targets", "exclude", "rank_pattern"])
def test_a_pattern_without_a_layer_names_near_misses(resnet, setting):
    pattern = r"layer1.0.conv7"
    value = {pattern: 2} if setting == "rank_pattern" else pattern
    with pytest.raises(InputError, match=r"'layer1.0.conv7' matches no layer: there are layer1\.0\.conv"):
        select(resnet, **{setting: value})


@pytest.mark.parametrize("settings", [{"targets": "layer1.0.conv1", "rank": 32}, {"rank_pattern": {"r1.0.conv1": 32}}])
@pytest.mark.parametrize("method", ["lora", "metalora-cp", "multi-lora"])
def test_a_rank_above_the_smaller_side_is_refused(resnet, method, settings):
    with pytest.raises(InputError, match=r"Rank 32 exceeds the smaller side of layer1\.0\.conv1: use 16 or less"):
        select(resnet, method=method, **settings)


def test_tr_needs_the_square_of_its_rank(resnet):
    assert select(resnet, targets="layer1.0.conv1", rank=4).ranks == {"layer1.0.conv1": 4}
    with pytest.raises(InputError, match=r"Rank 5 needs a width of 5², .* of layer1\.0\.conv1: use 4 or less"):
        select(resnet, targets="layer1.0.conv1", rank=5)


def test_a_pattern_may_give_tr_what_all_cores_together_reach(resnet):
    assert select(resnet, rank_pattern={"^conv1$": 9}).ranks["conv1"] == 9
    assert select(resnet, rank_pattern={"^conv1$": 20}).ranks["conv1"] == 20  # 27 · 16 numbers, isqrt
    with pytest.raises(InputError, match=r"cores of 21² numbers, .* of conv1 has: use 20 or less"):
        select(resnet, rank_pattern={"^conv1$": 21})


def test_default_targets_leave_small_layers_out_and_say_so(resnet):
    with pytest.warns(
        UserWarning, match=r"Not adapted, since rank 20 exceeds its largest, 16: conv1, layer1\.0\.conv1"
    ):
        selection = select(resnet, method="lora", rank=20)
    assert selection.left_out["conv1"] == "rank 20 exceeds its largest, 16"
    assert len(selection.ranks) + len(selection.left_out) == 21
    assert all(name.startswith(("layer2", "layer3")) for name in selection.ranks)


def test_nothing_left_to_adapt_is_an_error(resnet):
    with pytest.raises(InputError, match=r"Rank 999 exceeds the smaller side of layer3\.0\.conv1"):
        select(resnet, method="lora", rank=999)
    with pytest.raises(InputError, match="No layer is left"):
        select(resnet, exclude=".")
    with pytest.raises(InputError, match="Identity has no Conv2d or Linear layer to adapt"):
        select(nn.Identity())


@pytest.mark.parametrize("kind", [nn.Linear(3, 3), nn.Conv2d(3, 3, 1)])
def test_a_single_layer_is_no_network(kind):
    with pytest.raises(InputError, match=f"The backbone is a single {type(kind).__name__}: wrap it in nn.Sequential"):
        select(kind, rank=1)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 8)


def test_layers_that_attention_reads_are_left_out_by_default_and_refused_by_name():
    with pytest.warns(UserWarning, match=r"read by the attention around it, not called: attention\.out_proj, encoder"):
        selection = select(Attending(), rank=2)
    assert list(selection.ranks) == ["out"]
    inside = ["attention.out_proj", "encoder.self_attn.out_proj", "encoder.linear1", "encoder.linear2"]
    assert list(selection.left_out) == inside
    with pytest.raises(
        InputError, match=r"'attention.out_proj' cannot be adapted, its weight is read by the attention"
    ):
        select(Attending(), rank=2, targets="out")
    assert list(select(Attending(), rank=2, targets="out", exclude="out_proj").ranks) == ["out"]


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: OwnLinear(8, 8), "OwnLinear computes with its weight in a way of its own"),
        (lambda: parametrizations.weight_norm(nn.Linear(8, 8)), "computes with its weight in a way of its own"),
        (lambda: parametrizations.spectral_norm(nn.Conv2d(8, 8, 3)), "computes with its weight in a way of its own"),
        (lambda: nn.LazyLinear(8), "its size is not known yet"),
    ],
    ids=["own forward", "weight norm", "spectral norm", "lazy"],
)
def test_layers_that_compute_otherwise_are_left_out_by_name(make, reason):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), make())
    with pytest.warns(UserWarning, match=f"Not adapted, since .*{reason}.*: 1"):
        selection = select(net, rank=2)
    assert list(selection.ranks) == ["0"]
    with pytest.raises(InputError, match="Layer '1' cannot be adapted"):
        select(net, rank=2, targets="1")


def test_a_kind_of_linear_layer_that_computes_as_one_is_adapted():
    class Named(nn.Linear):
        pass

    assert list(select(nn.Sequential(Named(8, 8)), rank=2).ranks) == ["0"]


def test_layers_up_to_the_stem_stay_unadapted(resnet):
    selection = select_layers(resnet, AdapterConfig(extractor="stem"), "layer1")
    shallow = {name for name in select(resnet).ranks if name.startswith(("conv1", "layer1"))}
    assert set(selection.left_out) == shallow
    assert len(selection.ranks) == 21 - len(shallow)
    with pytest.raises(InputError, match=r"Layer 'layer1\.0\.conv1' belongs to the stem"):
        select_layers(resnet, AdapterConfig(extractor="stem", targets="layer"), "layer1")
