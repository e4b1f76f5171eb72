"""A linear probe, prompt tokens and a prefix, against the equations of their papers."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

import metalora
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

TOKENS = 3


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, dtype=torch.float64, generator=seeded_generator(0))


@pytest.fixture(params=[False, True], ids=["plain", "qk_norm"])
def vit(request):
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3, "num_classes": 0}
    return VisionTransformer(**sizes, qk_norm=request.param).double().eval()


def tokens_of(net, images):
    return net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))


def embedding_of(net, tokens):
    return net.forward_head(net.norm(tokens))


def test_prompts_stand_beside_the_tokens_of_every_block_and_are_dropped_behind_it(vit, images):
    model = metalora.adapt(vit, metalora.AdapterConfig("vpt-deep", rank=TOKENS), example=images)
    assert list(model.layers) == ["blocks.0", "blocks.1"]
    tokens = tokens_of(vit, images)
    for i, block in enumerate(vit.blocks):
        prompts = model.layers[f"blocks.{i}"].adapter.P
        assert prompts.shape == (TOKENS, 12) and 0 < prompts.abs().max() <= (6 / (3 * 16**2 + 12)) ** 0.5
        tokens = block(torch.cat([tokens[:, :1], prompts.expand(4, -1, -1), tokens[:, 1:]], dim=1))
        tokens = torch.cat([tokens[:, :1], tokens[:, 1 + TOKENS :]], dim=1)
    torch.testing.assert_close(model(images), embedding_of(vit, tokens))


def test_a_prefix_has_a_softmax_of_its_own_and_a_gate(vit, images):
    model = metalora.adapt(vit, metalora.AdapterConfig("llama-adapter", rank=TOKENS), example=images)
    torch.testing.assert_close(model(images), vit(images))
    tokens = tokens_of(vit, images)
    for i, block in enumerate(vit.blocks):
        adapter, attention = model.layers[f"blocks.{i}.attn"].adapter, block.attn
        with torch.no_grad():
            adapter.g.fill_(0.5 + i)
            adapter.P.normal_(generator=seeded_generator(i))
        x = block.norm1(tokens)
        both = attention.qkv(torch.cat([adapter.P.expand(4, -1, -1), x], dim=1))
        q, k, v = both.view(4, -1, 3, 3, 4).permute(2, 0, 3, 1, 4)
        scores = attention.q_norm(q[:, :, TOKENS:]) @ attention.k_norm(k).mT / 2
        weights = [adapter.g * scores[..., :TOKENS].softmax(-1), scores[..., TOKENS:].softmax(-1)]
        found = (torch.cat(weights, dim=-1) @ v).transpose(1, 2).flatten(2)
        tokens = tokens + F.linear(found, attention.proj.weight, attention.proj.bias)
        tokens = tokens + block.mlp(block.norm2(tokens))
    torch.testing.assert_close(model(images), embedding_of(vit, tokens))


def test_a_probe_is_a_linear_map_of_the_embedding(vit, images):
    model = metalora.adapt(vit, metalora.AdapterConfig("linear-probe", alpha=1.0, rank=1), example=images)
    A = model.layers["probe"].adapter.A
    with torch.no_grad():
        A.normal_(generator=seeded_generator(0))
    embedding = vit(images)
    torch.testing.assert_close(model(images), embedding + embedding @ A)
    with model.disabled():
        torch.testing.assert_close(model(images), embedding)


@pytest.mark.parametrize("method", ["vpt-deep", "llama-adapter"])
@pytest.mark.parametrize("backbone", ["resnet20", "mixer_nano", "swin_tiny_patch4_window7_224"])
def test_other_networks_are_refused(method, backbone):
    net = metalora.load_backbone(backbone, pretrained=False)
    with pytest.raises(
        InputError, match="needs a vision transformer of timm, whose blocks attend to all tokens, which"
    ):
        metalora.adapt(net, metalora.AdapterConfig(method))


def test_masks_are_refused(vit, images):
    model = metalora.adapt(vit, metalora.AdapterConfig("vpt-deep", rank=1), example=images)
    with pytest.raises(InputError, match=r"'blocks\.0' gets an attention mask, which leaves trained tokens out"):
        model.layers["blocks.0"](torch.zeros(1, 2, 12).double(), attn_mask=torch.ones(2, 2).bool())


def test_a_probe_asks_for_an_example(vit):
    with pytest.raises(InputError, match="as wide as the embedding: give adapt"):
        metalora.adapt(vit, metalora.AdapterConfig("linear-probe"))
