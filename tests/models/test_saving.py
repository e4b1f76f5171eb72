"""Adapters on disk: what comes back, and the message when it cannot."""

import errno
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.models.bundled import FOLDER, NAMES
from metalora.models.loading import restore, settings_of
from metalora.models.saving import CONFIG, FORMAT_VERSION, WEIGHTS
from metalora.util import files
from metalora.util.errors import InputError


def flattening(width=5, seed=3):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 9, width))
    module.num_features = width
    return module


def adapt(net, randomise, example=None, **settings):
    model = metalora.adapt(net, AdapterConfig(**{"rank": 2, **settings}), example=example)
    randomise(model.trained, scale=0.05)
    return model


def test_a_named_backbone_with_its_weights_comes_back(randomise, tmp_path):
    model = adapt("resnet20", randomise, alpha=4.0)
    images = torch.rand(3, 3, 40, 32)
    model.standardise(images)
    model.save(tmp_path / "run")
    loaded = metalora.load(tmp_path / "run")
    assert torch.equal(loaded(images), model(images))
    assert model(images).isfinite().all()
    assert loaded.config == model.config
    assert not loaded.training
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [WEIGHTS, CONFIG]


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "original"},
        {"method": "lora"},
        {"method": "multi-lora"},
        {"method": "metalora-cp"},
        {"method": "metalora-tr"},
        {"method": "metalora-tr", "core": "constant"},
        {"method": "metalora-tr", "rank_pattern": {"conv": 1}, "dropout": 0.5, "targets": "conv|head"},
    ],
    ids=str,
)
def test_a_foreign_backbone_comes_back_sized_by_its_first_batch(
    settings, double, small_net, images, randomise, tmp_path
):
    model = metalora.adapt(small_net, AdapterConfig(**{"rank": 2, **settings}))
    with pytest.raises(InputError, match="Sizes are known after a first batch"):
        model.save(tmp_path / "run")
    model(images)
    randomise(model.trained)
    if double:
        model, images = model.double(), images.double()
    model.save(tmp_path / "run")
    loaded = metalora.load(tmp_path / "run", small_net)
    assert torch.equal(loaded(images), model(images))
    assert next(small_net.parameters()).dtype == torch.float32


def test_a_named_backbone_in_another_precision_comes_back(randomise, tmp_path):
    model = adapt("resnet20", randomise).bfloat16()
    model.save(tmp_path / "run")
    images = torch.rand(2, 3, 32, 32).bfloat16()
    assert torch.equal(metalora.load(tmp_path / "run")(images), model(images))
    assert model(images).isfinite().all()


def test_a_backbone_with_a_shared_layer_comes_back(randomise, tmp_path):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.again = nn.Linear(6, 6)

        def forward(self, x):
            return self.again(self.first(x).relu())

    net, x = Shared(), torch.rand(2, 6)
    model = metalora.adapt(net, AdapterConfig(rank=2), example=x)
    randomise(model.trained)
    model.save(tmp_path / "run")
    assert torch.equal(metalora.load(tmp_path / "run", net)(x), model(x))


def test_an_extractor_module_is_passed_in_and_checked(small_net, images, randomise, tmp_path):
    model = adapt(small_net, randomise, images, extractor=flattening())
    model.save(tmp_path / "run")
    loaded = metalora.load(tmp_path / "run", small_net, extractor=flattening())
    assert torch.equal(loaded(images), model(images))
    with pytest.raises(InputError, match="made with an extractor module: pass it"):
        metalora.load(tmp_path / "run", small_net)
    with pytest.raises(InputError, match="other weights of its extractor"):
        metalora.load(tmp_path / "run", small_net, extractor=flattening(seed=4))


def test_a_named_extractor_works_in_another_precision(small_net, randomise, tmp_path):
    images = torch.rand(2, 3, 10, 9).double()
    model = adapt(small_net.double(), randomise, images, extractor="resnet20")
    model.save(tmp_path / "run")
    assert torch.equal(metalora.load(tmp_path / "run", small_net)(images), model(images))


@pytest.fixture
def saved(small_net, images, tmp_path):
    model = metalora.adapt(small_net, AdapterConfig(rank=2), example=images)
    model.save(tmp_path / "run")
    return tmp_path / "run"


def edit(change):
    def apply(folder):
        config = json.loads((folder / CONFIG).read_text())
        change(config)
        (folder / CONFIG).write_text(json.dumps(config))

    return apply


def rewrite(change):
    def apply(folder):
        tensors, _ = files.read_tensors(folder / WEIGHTS)
        change(tensors)
        files.write_tensors(folder / WEIGHTS, tensors)

    return apply


A = "adapters.conv.A"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / CONFIG).unlink(), "holds no adapter: there is no config.json in it"),
        (lambda f: (f / WEIGHTS).unlink(), "There is no file .*adapter.safetensors"),
        (lambda f: (f / CONFIG).write_text("{"), "config.json cannot be read"),
        (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe"), "config.json cannot be read"),
        (lambda f: (f / CONFIG).write_text("[]"), "has format version None"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]), "not a whole safetensors file"),
        (edit(lambda c: c.update(format_version=99)), "format version 99"),
        (edit(lambda c: c.pop("tensors")), "lacks tensors: save the adapter again"),
        (edit(lambda c: c["adapter"].update(wheels=4)), "Unknown setting 'wheels'"),
        (edit(lambda c: c["adapter"].update(rank=1)), r"'adapters.conv.A' is float32 .* where .* is needed"),
        (edit(lambda c: c.update(adapter="text")), "config.json is damaged"),
        (edit(lambda c: c.update(backbone=None)), "config.json is damaged"),
        (edit(lambda c: c.update(tensors=[1])), "config.json is damaged"),
        (rewrite(lambda t: t.pop(A)), "lacks the tensor 'adapters.conv.A'"),
        (rewrite(lambda t: t.update(more=torch.ones(1))), "has a tensor 'more' too many"),
        (rewrite(lambda t: t.update({A: torch.ones(2, 2)})), r"'adapters.conv.A' is float32 \(2, 2\) where"),
        (rewrite(lambda t: t.update({A: t[A].double()})), "'adapters.conv.A' is float64"),
    ],
)
def test_a_damaged_folder_is_refused_with_its_reason(saved, small_net, damage, message):
    damage(saved)
    with pytest.raises(InputError, match=message):
        metalora.load(saved, small_net)


def test_other_backbones_are_refused(saved, small_net, tmp_path):
    with pytest.raises(InputError, match="adapts a module of yours: pass it"):
        metalora.load(saved)
    with torch.no_grad():
        small_net.head.bias[0] += 1
    with pytest.raises(InputError, match="trained on other weights of its backbone"):
        metalora.load(saved, small_net)
    with pytest.raises(InputError, match=r"there is no config\.json"):
        metalora.load(tmp_path / "nowhere")


def test_a_named_backbone_is_not_replaced_by_its_bare_network(tmp_path):
    backbone = metalora.load_backbone("resnet20", pretrained=False)
    metalora.adapt(backbone, AdapterConfig()).save(tmp_path / "run")
    assert metalora.load(tmp_path / "run", backbone).backbone.name == "resnet20"
    for other in (backbone.net, metalora.load_backbone("resnet20", image_size=16)):
        with pytest.raises(
            InputError, match=r"another kind of backbone: pass load_backbone\('resnet20', image_size=32"
        ):
            metalora.load(tmp_path / "run", other)


def test_a_folder_that_holds_something_else_is_left_alone(small_net, images, tmp_path):
    model = metalora.adapt(small_net, AdapterConfig(rank=2), example=images)
    (tmp_path / CONFIG).write_text("somebody else's")
    with pytest.raises(InputError, match="holds something else: choose an empty or a new folder"):
        model.save(tmp_path)
    with pytest.raises(InputError, match="is a file: choose a folder"):
        model.save(tmp_path / CONFIG)
    assert (tmp_path / CONFIG).read_text() == "somebody else's"


@pytest.mark.parametrize("failing", ["save_file", "write_text"])
def test_a_full_disk_leaves_what_was_there(failing, saved, small_net, images, randomise, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    model = metalora.adapt(small_net, AdapterConfig(rank=1), example=images)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files if failing == "save_file" else files.Path, failing, full)
    with pytest.raises(InputError, match="No space left on device; free some space"):
        model.save(saved)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    model.save(saved)
    assert metalora.load(saved, small_net).config.rank == 1


@pytest.mark.parametrize("method", ["lora", "metalora-cp"])
def test_a_new_model_is_trained_on_from_a_saved_one(method, randomise, tmp_path):
    saved = adapt("resnet20", randomise, method=method)
    saved.save(tmp_path / "run")
    fresh = metalora.adapt("resnet20", AdapterConfig(method, rank=2, seed=5, dropout=0.1))
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(fresh(images), saved(images))
    restore(fresh, tmp_path / "run")
    assert torch.equal(fresh(images), saved(images))


@pytest.mark.parametrize(
    ("backbone", "settings", "said"),
    [
        ("resnet20", {"rank": 3}, "was made with rank 2, not 3: set the same, or start at zero"),
        ("resnet20", {"method": "lora"}, "was made with method 'metalora-tr', not 'lora'"),
        ("resnet20", {"targets": "layer1"}, "was made with targets None"),
        ("mixer_nano", {}, "adapts resnet20, not mixer_nano"),
    ],
)
def test_a_model_of_other_settings_is_not_trained_on_from_it(backbone, settings, said, randomise, tmp_path):
    adapt("resnet20", randomise).save(tmp_path / "run")
    model = metalora.adapt(backbone, AdapterConfig(**{"rank": 2, **settings}))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=said):
        restore(model, tmp_path / "run")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_adapter_saved_before_codes_had_a_norm_limit_comes_back_without_one(randomise, tmp_path):
    saved = adapt("resnet20", randomise, code_norm_limit=0.0)
    saved.save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    del config["adapter"]["code_norm_limit"]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(metalora.load(tmp_path)(images), saved(images))
    fresh = metalora.adapt("resnet20", AdapterConfig(rank=2))
    restore(fresh, tmp_path)  # training may continue with a limit
    assert not torch.equal(fresh(images), saved(images))


def test_a_model_of_other_backbone_weights_is_not_trained_on_from_it(randomise, tmp_path):
    adapt("resnet20", randomise).save(tmp_path / "run")
    other = metalora.adapt(metalora.load_backbone("resnet20", pretrained=False), AdapterConfig(rank=2))
    with pytest.raises(InputError, match="was trained on other weights of its backbone"):
        restore(other, tmp_path / "run")


def test_a_bundled_adapter_is_known_by_its_name(tmp_path, monkeypatch):
    backbone, config = settings_of("mixer_nano/metalora-cp")
    assert (backbone, config.method) == ("mixer_nano", "metalora-cp")
    assert metalora.load("mixer_nano/metalora-cp").config == config
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixer_nano" / "metalora-cp").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no adapter"):  # a local folder comes first
        metalora.load("mixer_nano/metalora-cp")


VERSION_1 = Path(__file__).parents[1] / "data" / "adapter-version-1"


def test_an_adapter_of_format_version_1_is_read_as_it_was():
    assert json.loads((VERSION_1 / CONFIG).read_text())["format_version"] == 1
    before, now = metalora.load(VERSION_1), metalora.load("resnet20/metalora-cp")
    assert before.config == now.config
    images = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(before(images), now(images), rtol=0, atol=1e-6)
    assert before.mapping.standardised and now.mapping.standardised


def test_bundled_adapters_are_of_this_format_version():
    configs = list(FOLDER.glob(f"*/{CONFIG}"))
    assert len(configs) == len(NAMES)
    assert {json.loads(config.read_text())["format_version"] for config in configs} == {FORMAT_VERSION}


@pytest.mark.parametrize("standardised", [False, True])
def test_whether_features_were_standardised_is_saved(standardised, small_net, images, tmp_path):
    model = metalora.adapt(small_net, AdapterConfig(rank=2), example=images)
    if standardised:
        model.standardise(images)
    model.save(tmp_path)
    assert metalora.load(tmp_path, small_net).mapping.standardised == standardised


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.linear = nn.Embedding(9, 6), nn.Linear(6, 5)

    def forward(self, tokens):
        return self.linear(self.embedding(tokens)).mean(1)


@pytest.mark.filterwarnings("ignore::metalora.util.errors.LayersLeftOut")  # the embedding
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("method", ["lora", "metalora-cp", "metalora-tr"])
def test_inputs_of_integers_stay_integers(method, dtype, randomise, tmp_path):
    net, tokens = Words(), torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=dtype)
    if dtype == torch.uint8:
        net.embedding.register_forward_pre_hook(lambda module, args: args[0].long())
    model = adapt(net, randomise, example=tokens, method=method)
    model.save(tmp_path)
    loaded = metalora.load(tmp_path, net)
    assert loaded.example.dtype == dtype
    assert torch.equal(loaded(tokens), model(tokens))
    assert loaded.budget().equals(model.budget())


@pytest.mark.parametrize("method", ["lora", "metalora-cp", "metalora-tr"])
def test_the_state_of_a_foreign_model_goes_into_a_fresh_one(method, small_net, images, randomise):
    model = adapt(small_net, randomise, method=method, example=images)
    if model.config.generates:
        model.standardise(images)
    fresh = metalora.adapt(small_net, model.config)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(images), model(images))
    assert torch.equal(fresh(images), model(images))


def test_adapters_of_full_precision_beside_a_backbone_of_half_precision_come_back(randomise, tmp_path):
    model = adapt(metalora.load_backbone("mixer_nano").bfloat16(), randomise)
    model.save(tmp_path / "mixed")
    loaded, images = metalora.load(tmp_path / "mixed"), torch.rand(2, 3, 32, 32)
    assert {p.dtype for p in loaded.trained.parameters()} == {torch.float32}
    assert torch.equal(loaded(images), model(images))
    model.bfloat16().save(tmp_path / "half")
    loaded = metalora.load(tmp_path / "half")
    assert {p.dtype for p in loaded.trained.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded(images), model(images))


def test_settings_of_first_values_may_differ_when_training_goes_on(randomise, tmp_path):
    saved = adapt("resnet20", randomise, head_init_std=0.1)
    saved.save(tmp_path)
    fresh = metalora.adapt("resnet20", AdapterConfig(rank=2, head_init_std=0.03, seed=4))
    restore(fresh, tmp_path)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(fresh(images), saved(images))
