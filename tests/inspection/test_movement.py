"""Movement: distances are those of the embeddings that each adapter gives, checked one by one."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

import metalora
from metalora.inspection.movement import CONSTANT, ORIGINAL, OTHER, OWN, STATIC, Playground
from metalora.suites.knobs import shift
from metalora.util.errors import InputError


@pytest.fixture(scope="module")
def make(randomise):
    def one(method="metalora-tr", backbone="resnet20"):
        model = metalora.adapt(metalora.load_backbone(backbone), metalora.AdapterConfig(method, rank=2))
        model.prepare(torch.rand(2, 3, 32, 32))
        return randomise(model.trained, scale=0.2) and model

    return one


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def shifted(images):
    return torch.cat([images[:1], *(shift(images[:1], {"noise": noise}) for noise in (0.1, 0.3))])


def moved_by(playground, image, shifted):
    return playground.move(playground.read(image), shifted)


@torch.inference_mode()
def expected(embed, images, shifted, i):
    """Distance of shift `i` to the image, and in units of that of the other images; each embedded alone."""
    one = lambda image: embed(image[None])[0].double()  # noqa: E731
    clean = one(images[0])
    distance = 1 - cosine_similarity(one(shifted[i]), clean, dim=0)
    others = torch.stack([1 - cosine_similarity(one(image), clean, dim=0) for image in images[1:]])
    return distance.item(), (distance / others.mean()).item()


def test_distances_are_those_of_each_adapter(make, images, shifted):
    model, static = make(), make("lora")
    moved = moved_by(Playground(model, images[1:], donor=1, static=static), images[0], shifted)
    with torch.inference_mode():
        donor = model.generate(images[2:3])
        constant = model.cores(model.codes(images[1:]).mean(0, keepdim=True))

    def original(batch):
        with model.disabled():
            return model(batch)

    ways = {
        ORIGINAL: original,
        STATIC: static,
        OWN: model,
        OTHER: lambda batch: model(batch, cores=donor),
        CONSTANT: lambda batch: model(batch, cores=constant),
    }
    assert list(moved.distance) == list(moved.relative) == list(ways)
    for name, embed in ways.items():
        for i in range(3):
            distance, relative = expected(embed, images, shifted, i)
            assert moved.distance[name][i] == pytest.approx(distance, abs=1e-5)
            assert moved.relative[name][i] == pytest.approx(relative, abs=1e-3)
    assert (moved.relative.iloc[0] < 1e-3).all() and (moved.relative.iloc[2] > 1e-2).all()
    torch.testing.assert_close(moved.codes, model.codes(shifted), atol=1e-5, rtol=1e-4)
    assert len(moved.cores) == 3


def test_another_image_is_at_a_distance_of_one_on_average(make, images):
    moved = moved_by(Playground(make(), images[1:]), images[0], images[1:])
    assert moved.relative[[ORIGINAL, OWN]].mean().to_numpy() == pytest.approx(1, abs=1e-4)
    assert list(moved.relative) == [ORIGINAL, OWN, OTHER, CONSTANT]


def test_a_constant_core_may_be_given(make, images, shifted):
    model = make()
    code = model.codes(images[1:])[0].detach()
    moved = moved_by(Playground(model, images[1:], donor=0, constant=code), images[0], shifted)
    assert moved.distance[CONSTANT].to_numpy() == pytest.approx(moved.distance[OTHER].to_numpy(), abs=1e-6)


def test_a_static_method_has_no_cores(make, images, shifted):
    model = make("lora")
    moved = moved_by(Playground(model, images[1:], static=model), images[0], shifted)
    assert list(moved.distance) == [ORIGINAL, STATIC] and moved.codes is None and moved.cores is None


def test_what_cannot_be_compared_is_a_sentence(make, images):
    model = make()
    with pytest.raises(InputError, match="give one or more"):
        Playground(model, images[:0])
    with pytest.raises(InputError, match="no other image 3"):
        Playground(model, images[1:], donor=3)
    with pytest.raises(InputError, match="different backbones"):
        Playground(model, images[1:], static=make("lora", "mixer_nano"))
