"""A configuration before training: layers, budgets, kinds of layers."""

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.models.adapt import adapt
from metalora.models.backbones import load_backbone
from metalora.plots.diagram import network
from metalora.runs.presets import PRESETS
from metalora.runs.visitor_limits import missing_data
from metalora.suites.config import SuiteConfig
from metalora.util.errors import InputError
from metalora.views.configure import kind_of, missing_weights, only_kind, summarise_adapter


def test_a_summary_counts_the_models_parameters():
    summary = summarise_adapter("resnet20", AdapterConfig("metalora-tr", rank=3))
    model = summary.model
    trained = sum(p.numel() for p in model.trained.parameters())
    assert summary.layers["adapter"].sum() == summary.budget.loc["total", "adapter_parameters"]
    total = summary.budget.loc["total"]
    assert total["adapter_parameters"] + total["generator_parameters"] == trained
    assert list(summary.layers.index) == list(model.layers)
    assert summary.layers.loc["layer1.0.conv1", "weight"] == "16×16×3×3"
    assert "21 layers adapted" in summary.headline and "in the generator" in summary.headline
    assert summary.table().shape == (21, 7)


@pytest.mark.parametrize("settings", [{}, {"method": "lora"}, {"core": "constant"}, {"extractor": "resnet20"}])
def test_a_network_that_is_not_bundled_takes_no_memory_and_counts_the_same(settings):
    config, name = AdapterConfig(**settings), "test_resnet"
    summary = summarise_adapter(name, config)
    assert all(parameter.is_meta for parameter in summary.model.backbone.parameters())
    counted = adapt(load_backbone(name, pretrained=False), config).budget()
    assert summary.budget.drop(columns="note").equals(counted.drop(columns="note"))
    assert network(summary.model, next(iter(summary.model.layers))).startswith("<svg")


def test_a_static_method_has_no_generator():
    summary = summarise_adapter("mixer_nano", AdapterConfig("lora", rank=2))
    assert summary.layers["generator"].sum() == 0
    assert "generator" not in summary.headline


def test_layers_left_out_are_in_the_notes():
    summary = summarise_adapter("resnet20", AdapterConfig("lora", rank=20))
    assert any("conv1" in note for note in summary.notes)


@pytest.mark.parametrize(("kind", "count"), [("convolutions", 1), ("linear layers", 32)])
def test_only_one_kind_of_layer(kind, count):
    chosen = only_kind("mixer_nano", kind)
    assert len(adapt("mixer_nano", AdapterConfig("lora", rank=2, **chosen)).layers) == count


def test_a_kind_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match="no linear layers"):
        only_kind("resnet20", "linear layers")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_every_method_at_comparable_budgets(name):
    preset = PRESETS[name]
    static = {}
    for method in ("lora", "multi-lora", "metalora-cp", "metalora-tr"):
        summary = summarise_adapter("resnet20", preset.adapter(method))
        static[method] = summary.budget.loc["total", "adapter_parameters"]
    assert max(static.values()) < 1.25 * min(static.values())
    training = preset.training()
    assert training.steps == preset.steps and 5 <= training.steps // training.validate_every <= 10


@pytest.mark.parametrize("kind", ["convolutions", "linear layers"])
def test_the_kind_is_found_from_settings(kind):
    assert kind_of("mixer_nano", AdapterConfig("lora", **only_kind("mixer_nano", kind))) == kind


def test_all_layers_of_a_backbone_with_two_kinds_are_no_kind():
    assert kind_of("mixer_nano", AdapterConfig("lora")) is None


def test_other_layers_are_no_kind():
    assert kind_of("resnet20", AdapterConfig("lora", targets="layer1")) is None


def test_a_backbone_without_its_weights_is_said_to_be_missing(monkeypatch):
    assert missing_weights("resnet20") == ""
    monkeypatch.setenv("METALORA_DOWNLOAD", "0")
    assert missing_weights("resnet18.a1_in1k").endswith("cannot be trained here: use resnet20 or mixer_nano.")
    monkeypatch.setenv("METALORA_DOWNLOAD", "1")
    assert missing_weights("resnet18.a1_in1k").endswith("here: fetch them, or use resnet20 or mixer_nano.")
    with pytest.raises(InputError, match="Unknown backbone"):
        missing_weights("resnet2000")


def test_data_that_is_not_here_is_said_to_be_missing(tmp_path):
    assert missing_data(SuiteConfig("digits")) == ""
    assert "CIFAR-10 is not on this machine" in missing_data(SuiteConfig("cifar10-rules", data=str(tmp_path)))
    (tmp_path / "cifar10.zip").touch()
    assert missing_data(SuiteConfig("cifar10-rules", data=str(tmp_path))) == ""


def test_the_same_adapter_is_summarised_once():
    config = AdapterConfig("lora", rank=2)
    assert summarise_adapter("resnet20", config) is summarise_adapter("resnet20", AdapterConfig("lora", rank=2))
    assert summarise_adapter("resnet20", config) is not summarise_adapter("mixer_nano", config)
