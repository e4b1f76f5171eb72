"""Folders of PEFT: what we write gives the same in PEFT, and what PEFT writes gives the same here."""

import copy
import json

import peft
import pytest
import torch
from torch import nn

import metalora
from metalora.adapters.methods import METHODS
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

NO_LORA = ("molora", "condconv", "bottleneck", "film", "linear-probe", "arm-cml", "icrm", "late-fusion")
ADAPTING = [name for name, entry in METHODS.items() if entry.format is not None and not entry.needs]


class Net(nn.Module):
    """A stride, a padding, names of which one is the end of another's, and a head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.block = nn.ModuleDict({"conv": nn.Conv2d(6, 8, (3, 1)), "linear": nn.Linear(8, 10)})
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.block["conv"](self.conv(x).relu()).relu().mean((2, 3))
        return self.head(self.norm(self.block["linear"](x).relu()))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().double().eval()


@pytest.fixture
def images():
    return torch.rand(4, 3, 9, 9, dtype=torch.float64, generator=seeded_generator(0))


def adapted(net, images, method, **settings):
    config = metalora.AdapterConfig(method, rank=2, **settings).with_tasks(2)
    model = metalora.adapt(net, config, example=images)
    with torch.no_grad():
        for i, parameter in enumerate(model.trained.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded_generator(i)).to(parameter))
    return model


@pytest.mark.parametrize("method", [name for name in ADAPTING if name not in NO_LORA])
def test_a_core_is_a_lora_that_peft_reproduces(method, net, images, tmp_path):
    model = adapted(net, images, method, alpha=3.0)
    cores = model.generate(images)[1] if model.generated else None
    wanted = model(images, cores=cores) if model.generated else model(images)
    metalora.save_peft(model, tmp_path / "lora", cores)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(net), tmp_path / "lora")
    torch.testing.assert_close(loaded(images), wanted, atol=1e-10, rtol=1e-10)
    rank = {"metalora-tr": 4, "metalora-cp": 2}.get(method)
    assert rank is None or json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["r"] == rank
    back = metalora.load(tmp_path / "lora", net)
    assert back.config.method == "lora"
    torch.testing.assert_close(back(images), wanted, atol=1e-10, rtol=1e-10)


def test_ranks_of_their_own_and_trained_heads_come_along(net, images, tmp_path):
    settings = {"rank_pattern": {"^conv$": 1}, "modules_to_save": "^(norm|head)$"}
    model = adapted(net, images, "metalora-cp", **settings)
    cores = model.generate(images)[2]
    metalora.save_peft(model, tmp_path, cores)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(net), tmp_path)
    wanted = model(images, cores=cores)
    torch.testing.assert_close(loaded(images), wanted, atol=1e-10, rtol=1e-10)
    back = metalora.load(tmp_path, net)
    assert {name: layer.adapter.format.rank for name, layer in back.layers.items()}["conv"] == 1
    torch.testing.assert_close(back(images), wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("rslora", [False, True])
def test_a_folder_of_peft_is_loaded_as_lora(rslora, net, images, tmp_path):
    names = ["conv", "linear", "head"]
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=names,
        rank_pattern={"linear": 3},
        alpha_pattern={"linear": 5},
        use_rslora=rslora,
        init_lora_weights=False,
    )
    theirs = peft.get_peft_model(net, config).eval()
    wanted = theirs(images)
    theirs.save_pretrained(tmp_path)
    torch.manual_seed(0)
    ours = metalora.load(tmp_path, Net().double().eval())
    torch.testing.assert_close(ours(images), wanted, atol=1e-10, rtol=1e-10)
    assert set(ours.layers) == {"conv", "block.conv", "block.linear", "head"}


def test_the_core_of_a_bundled_adapter_runs_on_the_network_alone(tmp_path):
    model, images = metalora.load("resnet20/metalora-tr"), torch.rand(2, 3, 16, 16, generator=seeded_generator(1))
    cores = model.generate(images)[0]
    metalora.save_peft(model, tmp_path, cores)
    backbone = metalora.load_backbone("resnet20", image_size=16)
    loaded = peft.PeftModel.from_pretrained(backbone.net, tmp_path)
    wanted = model(images, cores=cores)
    torch.testing.assert_close(loaded(backbone.preprocess(images)), wanted, atol=1e-5, rtol=1e-4)
    assert metalora.load(tmp_path).backbone.name == "resnet20"


@pytest.mark.parametrize("method", NO_LORA)
def test_what_is_no_lora_is_refused(method, net, images, tmp_path):
    model = adapted(net, images, method)
    with pytest.raises(InputError, match=r" LoRA, since .*: (save it with save\(\)|use it as it is)"):
        metalora.save_peft(model, tmp_path / "lora", model.generate(images)[0] if model.generated else None)
    assert not (tmp_path / "lora").exists()


@pytest.mark.parametrize("geometry", [{"groups": 3}, {"dilation": 2}, {"padding": 1, "padding_mode": "reflect"}])
def test_convolutions_that_peft_computes_another_way_are_refused(geometry, images, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 6, 3, **geometry), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    model = adapted(net, images, "lora", targets="^0$")
    with pytest.raises(InputError, match="PEFT computes the LoRA of layer '0' another way"):
        metalora.save_peft(model, tmp_path / "lora")


def test_cores_must_be_of_one_sample(net, images, tmp_path):
    model = adapted(net, images, "metalora-cp")
    with pytest.raises(InputError, match="A LoRA holds one core, not 4"):
        metalora.save_peft(model, tmp_path / "lora", model.generate(images))
    with pytest.raises(InputError, match="give the cores that generate"):
        metalora.save_peft(model, tmp_path / "lora")
    with pytest.raises(InputError, match="has no adapter to save"):
        metalora.save_peft(metalora.adapt(net, metalora.AdapterConfig("original")), tmp_path / "lora")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "is no LoRA of PEFT but IA3"),
        ({"use_dora": True}, "made with use_dora, which is another equation"),
        ({"bias": "all"}, "made with bias, which is another equation"),
        (None, "cannot be read"),
    ],
)
def test_folders_that_cannot_be_loaded_say_why(change, said, net, images, tmp_path):
    metalora.save_peft(adapted(net, images, "lora"), tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text("{" if change is None else json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=said):
        metalora.load(tmp_path, net)


def test_a_lora_of_another_network_is_refused(net, images, tmp_path):
    metalora.save_peft(adapted(net, images, "lora"), tmp_path)
    with pytest.raises(InputError, match="does not name its backbone"):
        metalora.load(tmp_path)
    net.head = nn.Linear(10, 7).double()
    with pytest.raises(InputError, match=r"layer 'head' in .* does not fit the backbone"):
        metalora.load(tmp_path, net)
