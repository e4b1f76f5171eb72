"""What holds for every method there is: its start, saving, folding, counting, and what it says where it cannot."""

import copy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import metalora
from metalora.adapters.formats import format_class
from metalora.adapters.methods import METHODS, VISION_TRANSFORMER
from metalora.inspection.inspect_images import inspect_images
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

ADAPTING = [name for name, entry in METHODS.items() if entry.format is not None]
TOLD = [name for name, entry in METHODS.items() if entry.told]
NOT_WEIGHTS = {
    "molora": "by its own input",
    "condconv": "by its own input",
    "bottleneck": "not linear",
    "vpt-deep": "change no weight",
    "llama-adapter": "changes no weight",
    "arm-bn": "statistics of the images of a set",
    "arm-cml": "a context of its set",
    "icrm": "reads the embeddings of a set",
    "late-fusion": "beside the embedding",
}


@pytest.fixture(params=ADAPTING)
def model(request, randomise):
    """A model of every method, on a network of convolutions where that will do."""
    if METHODS[request.param].needs == VISION_TRANSFORMER:
        net = VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=0)
        made = metalora.adapt(
            net.double(), metalora.AdapterConfig(request.param, rank=2), example=torch.rand(1, 3, 16, 16).double()
        )
        made.frozen_backbone = (net,)
        return made
    backbone = metalora.load_backbone("resnet20", image_size=16).double()
    made = metalora.adapt(backbone, metalora.AdapterConfig(request.param, rank=2).with_tasks(3))
    made.frozen_backbone = (backbone,)
    return made


@pytest.fixture
def pictures():
    return torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=seeded_generator(0))


def move(model):
    with torch.no_grad():
        for i, parameter in enumerate(model.trained.parameters()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=seeded_generator(i)))
    return model


def test_it_starts_as_the_original_network_and_learns_from_the_first_step(model, pictures):
    if (
        format_class(model.config.method).starts_as_original and model.config.method != "arm-bn"
    ):  # with its own statistics
        original = model.frozen_backbone[0](pictures)
        torch.testing.assert_close(model(pictures)[:, : original.shape[1]], original)
        assert not model(pictures)[:, original.shape[1] :].any()  # what late fusion puts beside it
    model.train()
    model(pictures).square().sum().backward()
    assert any(p.grad is not None and p.grad.count_nonzero() for p in model.trained.parameters())


def test_it_is_saved_loaded_and_copied(model, pictures, tmp_path):
    move(model).save(tmp_path / "adapter")
    named = model.backbone.name is not None
    loaded = metalora.load(tmp_path / "adapter", None if named else model.frozen_backbone[0])
    assert loaded.config == model.config
    torch.testing.assert_close(loaded(pictures), model(pictures))
    torch.testing.assert_close(copy.deepcopy(model)(pictures), model(pictures))
    state = metalora.adapt(model.frozen_backbone[0], model.config, example=pictures)
    state.load_state_dict(model.state_dict())
    torch.testing.assert_close(state(pictures), model(pictures))


def test_it_is_folded_or_says_why_not(model, pictures):
    move(model)
    cores = model.generate(pictures)[1] if model.generated else None
    reason = NOT_WEIGHTS.get(model.config.method)
    if reason:
        with pytest.raises(InputError, match=f"cannot be folded into weights, since .*{reason}"):
            model.fold(cores)
        return
    wanted = model(pictures, cores=cores) if model.generated else model(pictures)
    torch.testing.assert_close(model.fold(cores)(pictures), wanted)
    assert not torch.allclose(wanted, model.frozen_backbone[0](pictures), atol=1e-4)


def test_it_is_counted_and_inspected(model, pictures):
    budget = move(model).budget().loc["total"]
    counted = sum(p.numel() for p in model.trained.parameters())
    assert budget["adapter_parameters"] + budget["generator_parameters"] == counted
    strength = inspect_images(model, pictures).strength
    assert strength.shape == (3, len(model.layers)) and (strength.to_numpy() > 0).all()


def test_batches_and_single_images_agree(model, pictures):
    together = move(model)(pictures)
    torch.testing.assert_close(torch.cat([model(one) for one in pictures.split(1)]), together)


@pytest.mark.parametrize("method", TOLD)
def test_a_told_task_decides_the_adapter(method, pictures):
    backbone = metalora.load_backbone("resnet20", image_size=16).double()
    model = move(metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2, condition=3)))
    tasks = torch.eye(3, dtype=torch.float64)
    alone = [model(pictures[:1], condition=tasks[i : i + 1]) for i in range(3)]
    assert not torch.allclose(alone[0], alone[1], atol=1e-4)
    batch = model(pictures[:1].expand(3, -1, -1, -1), condition=tasks)
    torch.testing.assert_close(batch, torch.cat(alone))
    unknown = model(pictures)
    torch.testing.assert_close(unknown, model(pictures, condition=torch.full((3, 3), 1 / 3)))


@pytest.mark.parametrize("method", TOLD)
def test_tasks_that_are_not_counted_are_asked_for(method):
    with pytest.raises(InputError, match="is told the task of every image: set condition to the number of tasks"):
        metalora.adapt("resnet20", metalora.AdapterConfig(method))


@pytest.mark.parametrize("method", TOLD)
def test_tasks_of_a_suite_are_told_in_training_and_measuring(method):
    suite = metalora.load_suite("digits", image_size=8, max_queries=60)
    config = metalora.AdapterConfig(method, rank=1).with_tasks(len(suite.seen))
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), config)
    losses = [
        event.metrics["loss"]
        for event in fit(model, suite, TrainingConfig(steps=40, batch_size=36, lr=3e-3, device="cpu"))
    ]
    assert sum(losses[-8:]) < 0.95 * sum(losses[:8])


def test_cores_come_from_a_condition_of_ones_own(small_net, images):
    config = metalora.AdapterConfig("metalora-cp", rank=2, condition=5)
    model = move(metalora.adapt(small_net, config, example=images))
    users = torch.randn(len(images), 5, generator=seeded_generator(1))
    given = model(images, condition=users)
    assert not torch.allclose(given, model(images, condition=users.flip(0)))
    torch.testing.assert_close(model(images, cores=model.generate(images, condition=users)), given)
    with pytest.raises(InputError, match="come from a condition: give condition=, 5 numbers each image"):
        model(images)
    with pytest.raises(InputError, match=r"The condition is \(3, 4\), but this adapter takes 5 numbers"):
        model(images, condition=torch.zeros(3, 4))
    learned = users.clone().requires_grad_()
    model(images, condition=learned).sum().backward()
    assert learned.grad.count_nonzero()


def test_a_condition_is_refused_where_none_is_taken(small_net, images):
    model = metalora.adapt(small_net, metalora.AdapterConfig("lora", rank=1), example=images)
    with pytest.raises(InputError, match="this adapter takes none: make it with condition="):
        model(images, condition=torch.zeros(len(images), 3))


def test_a_router_reads_every_position_of_a_sequence(randomise):
    net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4), nn.Flatten())
    tokens = torch.randn(4, 5, 6, generator=seeded_generator(2))
    model = metalora.adapt(net, metalora.AdapterConfig("molora", rank=1), example=tokens)
    randomise(model.trained)
    shuffled = tokens[:, torch.randperm(5, generator=seeded_generator(3))]
    same = model(shuffled).view(4, 5, 4).sum(1)
    torch.testing.assert_close(same, model(tokens).view(4, 5, 4).sum(1))


class Scaled(nn.Module):
    """A network with an input beside the images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, images, scale=None):
        out = self.conv(images).mean((2, 3))
        return out if scale is None else out * scale[:, None]


@pytest.mark.parametrize("extractor", ["self", "resnet20"])
def test_inputs_beside_the_images_are_for_the_adapted_network_alone(extractor):
    images, scale = torch.rand(3, 3, 32, 32, generator=seeded_generator(4)), torch.tensor([1.0, 2.0, 3.0])
    config = metalora.AdapterConfig("metalora-cp", rank=2, extractor=extractor)
    model = move(metalora.adapt(Scaled(), config, example=images))
    cores = model.generate(images)
    torch.testing.assert_close(model(images, scale=scale, cores=cores), model(images, cores=cores) * scale[:, None])
    if extractor == "resnet20":
        torch.testing.assert_close(model(images, scale=scale), model(images) * scale[:, None])


@pytest.mark.parametrize("method", ["full", "film", "condconv", "linear-probe"])
def test_a_rank_without_effect_is_not_too_large(method):
    backbone = metalora.load_backbone("resnet20", image_size=16)
    wide, narrow = (metalora.adapt(backbone, metalora.AdapterConfig(method, rank=rank)) for rank in (1000, 1))
    assert wide.layers.keys() == narrow.layers.keys() and not wide.left_out
