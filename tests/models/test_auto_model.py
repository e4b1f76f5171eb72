"""Transformers by name, from a cache that the tests write: nothing is fetched, and what is missing is said."""

import huggingface_hub
import pytest
import torch
from torch import nn

import metalora
from metalora.models import auto_model
from metalora.models.auto_model import load_auto_model
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::metalora.util.errors.LayersLeftOut")  # embeddings
COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = torch.randint(4, 50, (2, 7), generator=seeded_generator(0))


def bert(kind):
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return kind(transformers.BertConfig(vocab_size=50, max_position_embeddings=32, **sizes)).eval()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """cache(name, model): put a model into the cache of this machine; gives its folder there."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(name, model):
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(COMMIT)
        model.save_pretrained(repository / "snapshots" / COMMIT)
        return repository / "snapshots" / COMMIT

    return put


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch):
    def refuse(*words, **settings):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)


def test_a_cached_transformer_is_adapted_by_its_name(cache):
    network = bert(transformers.BertModel)
    cache("me/tiny", network)
    config = metalora.AdapterConfig("metalora-tr", rank=2)
    model = metalora.adapt("hf:me/tiny", config, example={"input_ids": IDS})
    assert model.config.generates and len(model.layers) > 4
    torch.testing.assert_close(model(input_ids=IDS).last_hidden_state, network(IDS).last_hidden_state)


def test_its_adapter_is_loaded_with_the_name_again(cache, randomise, tmp_path):
    folder = cache("me/tiny", bert(transformers.BertForMaskedLM))  # which has no pooler: its weights are made up
    config = metalora.AdapterConfig("metalora-cp", rank=2)
    model = metalora.adapt("hf:me/tiny", config, example={"input_ids": IDS})
    randomise(model.trained, scale=0.1)
    model.save(tmp_path / "adapter")
    again = metalora.load(tmp_path / "adapter", "hf:me/tiny")
    torch.testing.assert_close(again(IDS).pooler_output, model(IDS).pooler_output)
    by_folder = metalora.load(tmp_path / "adapter", f"hf:{folder}")
    torch.testing.assert_close(by_folder(IDS).pooler_output, model(IDS).pooler_output)
    with pytest.raises(InputError, match="'bert' is no transformer: write hf:NAME, or leave backbone out"):
        metalora.load(tmp_path / "adapter", "bert")


def test_loading_leaves_the_random_numbers_of_the_program_alone(cache):
    cache("me/tiny", bert(transformers.BertForMaskedLM))
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    load_auto_model("hf:me/tiny")
    torch.testing.assert_close(torch.rand(3), wanted)


def test_a_model_that_is_not_cached_is_not_fetched(cache):
    with pytest.raises(InputError, match=r"^hf:me/none is not on this machine as safetensors: .*download=True\.$"):
        metalora.adapt("hf:me/none", example={"input_ids": IDS})


def test_weights_that_are_pickled_are_not_read(cache):
    folder = cache("me/old", bert(transformers.BertModel))
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="hf:me/old is not on this machine as safetensors"):
        load_auto_model("hf:me/old")


def test_a_folder_without_a_model_is_named(tmp_path, cache):
    with pytest.raises(InputError, match=r"^hf:.* cannot be loaded \(.*\): name a model with safetensors"):
        load_auto_model(f"hf:{tmp_path}")
    folder = cache("me/tiny", bert(transformers.BertModel))
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="hf:me/tiny cannot be loaded"):
        load_auto_model("hf:me/tiny")


def test_it_is_fetched_only_when_a_person_asks(monkeypatch):
    asked = []

    def from_pretrained(source, **settings):
        asked.append((source, settings["local_files_only"], settings["use_safetensors"]))
        return nn.Sequential(nn.Linear(3, 3))

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", from_pretrained)
    metalora.adapt("hf:me/tiny", metalora.AdapterConfig("lora", rank=2), example=torch.ones(1, 3))
    metalora.adapt("hf:me/tiny", metalora.AdapterConfig("lora", rank=2), example=torch.ones(1, 3), download=True)
    assert asked == [("me/tiny", True, True), ("me/tiny", False, True)]


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(auto_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^hf:me/tiny needs transformers: pip install transformers\.$"):
        metalora.adapt("hf:me/tiny")
