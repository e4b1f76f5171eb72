"""Models of Hugging Face's transformers as they come: keywords, masks, their own outputs, and generation."""

import pytest
import torch
from torch import nn

import metalora
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

transformers = pytest.importorskip("transformers")

# Embeddings are left out, which a warning says.
pytestmark = pytest.mark.filterwarnings("ignore::metalora.util.errors.LayersLeftOut")
GENERATING = ("metalora-cp", "metalora-tr")


def tokens(*shape, seed=0, vocabulary=50):
    return torch.randint(4, vocabulary, shape, generator=seeded_generator(seed))


@pytest.fixture
def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=32, **sizes)
    return transformers.BertModel(config).eval()


@pytest.fixture
def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=50, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)
    return transformers.LlamaForCausalLM(config).eval()


def adapted(net, method="metalora-tr", example=None, **settings):
    example = {"input_ids": tokens(2, 7)} if example is None else example
    model = metalora.adapt(net, metalora.AdapterConfig(method, rank=2, **settings), example=example)
    with torch.no_grad():
        for i, parameter in enumerate(model.trained.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded_generator(i)))
    return model


@pytest.mark.parametrize("method", ["original", "lora", *GENERATING])
def test_keywords_and_masks_reach_the_network_and_its_output_comes_back(method, bert):
    ids, mask = tokens(3, 7), torch.ones(3, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    model = metalora.adapt(bert, metalora.AdapterConfig(method, rank=2), example={"input_ids": ids})
    found, wanted = model(input_ids=ids, attention_mask=mask), bert(input_ids=ids, attention_mask=mask)
    assert type(found) is type(wanted)
    torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state)
    torch.testing.assert_close(model(ids, mask).pooler_output, wanted.pooler_output)


@pytest.mark.parametrize("method", GENERATING)
def test_what_the_mask_hides_changes_neither_core_nor_output(method, bert):
    model = adapted(bert, method)
    ids, mask = tokens(2, 7), torch.ones(2, 7, dtype=torch.int64)
    mask[:, 5:] = 0
    other = ids.clone()
    other[:, 5:] = 9
    outputs = [model(input_ids=i, attention_mask=mask).last_hidden_state[:, :5] for i in (ids, other)]
    torch.testing.assert_close(*outputs)
    assert not torch.allclose(model(ids).last_hidden_state, model(other).last_hidden_state)
    cores = [model.generate(input_ids=i, attention_mask=mask) for i in (ids, other)]
    assert all(torch.allclose(core, cores[1][layer], atol=1e-6) for layer, core in cores[0].items())


@pytest.mark.parametrize("method", GENERATING)
def test_each_sequence_has_its_own_core_in_a_batch(method, bert):
    model, ids = adapted(bert, method), tokens(3, 7)
    together = model(ids).last_hidden_state
    alone = torch.cat([model(one).last_hidden_state for one in ids.split(1)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    cores = model.generate(ids)
    swapped = model(ids, cores=cores[[1, 2, 0]]).last_hidden_state
    assert not torch.allclose(swapped, together, atol=1e-4)


def test_gradients_reach_mapping_net_and_adapters(bert):
    model = adapted(bert).train()
    model(input_ids=tokens(3, 7), attention_mask=torch.ones(3, 7)).last_hidden_state.square().mean().backward()
    # BERT's pooler is behind the hidden states that the loss reads.
    without = {n for n, p in model.trained.named_parameters() if p.grad is None or not p.grad.count_nonzero()}
    assert all("pooler" in name for name in without)


def test_a_language_model_generates_with_cores_beams_and_cache(llama):
    model, ids = adapted(llama), tokens(2, 5)
    cores = model.generate(ids)
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    for beams in (1, 3):
        with model.applied(cores) as net:
            together = net.generate(ids, num_beams=beams, **settings)
        for row in range(2):
            plain = model.fold(cores[row])
            wanted = plain.generate(ids[row : row + 1], num_beams=beams, **settings)[0]
            assert together[row, : len(wanted)].tolist() == wanted.tolist()
    with pytest.raises(InputError, match="give the cores that generate"), model.applied():
        pass


def test_a_text_encoder_is_an_extractor(llama, bert):
    class Encoder(nn.Module):
        num_features = 16

        def __init__(self):
            super().__init__()
            self.bert = bert

        def forward(self, input_ids, attention_mask=None):
            return self.bert(input_ids, attention_mask=attention_mask).last_hidden_state.mean(1)

    model = adapted(llama, extractor=Encoder())
    ids = tokens(2, 7)
    assert model.mapping.width == 16
    mask = torch.ones_like(ids)
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, model(ids).logits)


def test_a_text_adapter_is_saved_counted_and_loaded(bert, tmp_path):
    model, ids = adapted(bert), tokens(3, 7)
    model.save(tmp_path / "adapter")
    loaded = metalora.load(tmp_path / "adapter", bert)
    torch.testing.assert_close(loaded(ids).last_hidden_state, model(ids).last_hidden_state)
    counted = sum(parameter.numel() for parameter in model.trained.parameters())
    total = model.budget().loc["total"]
    assert total["adapter_parameters"] + total["generator_parameters"] == counted


def test_the_number_of_trained_parameters_is_printed_as_in_peft(bert, capsys):
    model = adapted(bert, "lora")
    model.print_trainable_parameters()
    trained = sum(parameter.numel() for parameter in model.trained.parameters())
    assert capsys.readouterr().out.startswith(f"trainable params: {trained:,} || all params: ")


def test_a_model_without_any_input_says_so(bert):
    with pytest.raises(InputError, match="There is no input: give the model a batch"):
        adapted(bert)(attention_mask=None)
