"""Methods that embed images given their set, each against a plain reference."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

import metalora
from metalora.adapters.forward_context import forward_context
from metalora.adapters.methods import RIVALS
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import assign_sets, embed
from metalora.models.context import reader_of
from metalora.models.peft_format import save_peft
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

SETS = torch.tensor([5, 2, 5, 2, 2, 5, 7])  # of three sets, one of them a single image
TRAINING = TrainingConfig(steps=24, batch_size=32, set_size=4, lr=3e-3, device="cpu")


@pytest.fixture
def images():
    return torch.rand(len(SETS), 3, 16, 16, dtype=torch.float64, generator=seeded_generator(0))


@pytest.fixture
def make(images):
    """Return a function from a method to a model of it, every trained number moved, in evaluation mode."""

    def made(method, **settings):
        backbone = metalora.load_backbone("resnet20", image_size=16).double()
        model = metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2, hidden=8, **settings))
        if reader_of(model) is not None:
            model.standardise(images)
        with torch.no_grad():
            for i, parameter in enumerate(model.trained.parameters()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded_generator(i)))
        return model

    return made


@pytest.fixture
def lora(make):
    """Return a function from a model with a context to plain LoRA with the same updates of layers."""

    def plain(model):
        twin = make("lora")
        twin.trained.adapters.load_state_dict(model.trained.adapters.state_dict())
        return twin

    return plain


def test_arm_bn_is_a_network_in_training_mode_that_gets_each_set_by_itself(make, lora, images):
    model = make("arm-bn")
    stored = copy.deepcopy(model.frozen.state_dict())
    found = model(images, groups=SETS)
    twin = lora(model)
    norms = [module for module in twin.backbone.modules() if isinstance(module, _BatchNorm)]
    wanted = torch.empty_like(found)
    with forward_context(exact=True):
        for norm in norms:
            norm.train()
        for number in SETS.unique():
            wanted[number == SETS] = twin.backbone(images[number == SETS])
    torch.testing.assert_close(found, wanted)
    gradients = (torch.autograd.grad(out.square().sum(), m.trained.adapters.parameters()) for out, m in
                 ((found, model), (wanted, twin)))  # fmt: skip
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.frozen.state_dict().items())


def test_arm_cml_concatenates_the_mean_context_map_of_the_set(make, lora, images):
    model = make("arm-cml")
    net = model.context.net
    assert [type(layer) for layer in net] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2 + [nn.Conv2d]
    inputs = lora(model).backbone.preprocess(images)
    maps = net(inputs)
    shared = torch.stack([maps[number == SETS].mean(0) for number in SETS])
    # The authors' form: twice as many channels, the context's with the weights of the image's.
    plain = lora(model).fold()[1]
    first = plain.conv1
    plain.conv1 = nn.Conv2d(6, 16, 3, padding=1, bias=False)
    plain.conv1.weight = nn.Parameter(torch.cat([first.weight, first.weight], dim=1))
    wanted = plain.eval()(torch.cat([inputs, shared], dim=1))
    torch.testing.assert_close(model(images, groups=SETS), wanted)
    torch.testing.assert_close(model(images), model(images, groups=torch.arange(len(images))))


def test_icrm_is_a_causal_transformer_with_a_loss_at_every_position(make, lora, images):
    model = make("icrm")
    context, embeddings = model.context, lora(model)(images)

    def reference(sequence):
        """Read embeddings (L, D) by torch's own layers; return what is added to the last one."""
        tokens = context.read_in(sequence)[None]
        for block in context.blocks[:-1]:
            layer = nn.TransformerEncoderLayer(8, 4, 32, 0.0, "gelu", batch_first=True, norm_first=True).double()
            layer.load_state_dict(
                {
                    "self_attn.in_proj_weight": block.qkv.weight,
                    "self_attn.in_proj_bias": block.qkv.bias,
                    "self_attn.out_proj.weight": block.projection.weight,
                    "self_attn.out_proj.bias": block.projection.bias,
                    "linear1.weight": block.layers[0].weight,
                    "linear1.bias": block.layers[0].bias,
                    "linear2.weight": block.layers[2].weight,
                    "linear2.bias": block.layers[2].bias,
                    "norm1.weight": block.attention_norm.weight,
                    "norm1.bias": block.attention_norm.bias,
                    "norm2.weight": block.norm.weight,
                    "norm2.bias": block.norm.bias,
                }
            )
            mask = nn.Transformer.generate_square_subsequent_mask(len(sequence), dtype=torch.float64)
            tokens = layer(tokens, src_mask=mask)
        return context.read_out(context.blocks[-1](tokens))[0, -1]

    rows = {int(number): (number == SETS).nonzero().flatten().tolist() for number in SETS.unique()}
    found, along = model(images, groups=SETS), model.train()(images, groups=SETS)
    for members in rows.values():
        for position, row in enumerate(members):
            others = [other for other in members if other != row]
            torch.testing.assert_close(found[row], embeddings[row] + reference(embeddings[[*others, row]]))
            before = members[: position + 1]
            torch.testing.assert_close(along[row], embeddings[row] + reference(embeddings[before]))
    torch.testing.assert_close(model.eval()(images), model(images, groups=torch.arange(len(images))))


def test_late_fusion_concatenates_a_reading_of_the_features(make, lora, images):
    model = make("late-fusion", code=5)
    features = make("metalora-tr").features(images)
    torch.testing.assert_close(model.features(images), features)
    scores = (features - features.mean(0)) / features.std(0, correction=0).clamp(min=1e-3)
    context = model.context
    hidden = F.relu(scores.clamp(-10, 10) @ context.hidden.weight.T + context.hidden.bias)
    readings = hidden @ context.code.weight.T + context.code.bias
    pooled = torch.stack([readings[number == SETS].mean(0) for number in SETS])
    embeddings = lora(model)(images)
    torch.testing.assert_close(model(images, groups=SETS), torch.cat([embeddings, pooled], dim=1))
    torch.testing.assert_close(model(images), torch.cat([embeddings, readings], dim=1))
    torch.testing.assert_close(model(images, features=features), model(images))


@pytest.mark.parametrize("method", RIVALS)
def test_sets_are_embedded_whole_wherever_their_images_stand(make, method):
    suite = metalora.load_suite("digits", image_size=8, max_queries=40)
    model, examples = make(method).float(), suite.splits["seen query"][:30]
    config = EmbedConfig(set_size=4, batch_size=10, device="cpu")
    with torch.inference_mode():
        wanted = model(examples.images(), groups=assign_sets(examples, config))
        torch.testing.assert_close(embed(model, examples, config), wanted, atol=1e-4, rtol=1e-4)
        singles = embed(model, examples, EmbedConfig(batch_size=10, device="cpu"))
        torch.testing.assert_close(singles, model(examples.images()), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(wanted, singles, atol=1e-3)


@pytest.mark.parametrize("method", RIVALS)
def test_the_loss_of_a_rival_falls(method):
    suite = metalora.load_suite("digits", image_size=8, max_queries=60)
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), metalora.AdapterConfig(method, rank=2))
    before = copy.deepcopy(dict(model.context.named_parameters()))
    losses = [event.metrics["loss"] for event in fit(model, suite, TRAINING, validate_last=False)]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert all(not torch.equal(tensor, before[name]) for name, tensor in model.context.named_parameters())


@pytest.mark.parametrize(("method", "reason"), [
    ("arm-bn", "BatchNorm layers take statistics"),
    ("arm-cml", "context of its set"),
    ("icrm", "transformer"),
    ("late-fusion", "features"),
])  # fmt: skip
def test_what_adapters_of_layers_alone_cannot_do_is_refused(make, images, tmp_path, method, reason):
    model = make(method)
    with pytest.raises(InputError, match=f"cannot be folded into weights, since .*{reason}"):
        model.fold()
    with pytest.raises(InputError, match=f"cannot be saved as a LoRA, since .*{reason}"):
        save_peft(model, tmp_path / "peft")
    with pytest.raises(InputError, match="inside its network alone"), model.applied():
        pass
    with pytest.raises(InputError, match="one adapter for every image"):
        model.generate(images)
    with model.disabled():
        assert model(images).shape == (len(images), 64)


def test_backbones_that_do_not_suit_are_refused():
    with pytest.raises(InputError, match="needs BatchNorm layers, mixer_nano has none"):
        metalora.adapt("mixer_nano", metalora.AdapterConfig("arm-bn"))
    tokens = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(InputError, match="convolves images"):
        metalora.adapt(tokens, metalora.AdapterConfig("arm-cml", rank=1), example=torch.rand(2, 6))
    with pytest.raises(InputError, match="is sized by the embedding: give adapt"):
        metalora.adapt(tokens, metalora.AdapterConfig("icrm", rank=1))


def test_a_foreign_network_and_another_extractor_are_read(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    small = images.float()
    for method in RIVALS:
        settings = {"extractor": "resnet20"} if method == "late-fusion" else {}
        model = metalora.adapt(net, metalora.AdapterConfig(method, rank=1, **settings), example=small[:1])
        assert model(small, groups=SETS).shape == (len(small), 4 + 16 * (method == "late-fusion"))
        counted = sum(parameter.numel() for parameter in model.trained.parameters())
        assert model.budget().loc["total", ["adapter_parameters", "generator_parameters"]].sum() == counted


def test_arm_bn_refuses_activation_checkpointing(images):
    backbone = metalora.load_backbone("resnet20", image_size=16)
    model = metalora.adapt(backbone, metalora.AdapterConfig("arm-bn", rank=1))
    model.backbone.net.set_grad_checkpointing()
    with pytest.raises(InputError, match="forgets the sets of ARM-BN"):
        model(images.float(), groups=SETS)
