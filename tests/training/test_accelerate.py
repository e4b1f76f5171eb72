"""Adapted models under Hugging Face Accelerate: prepared, checkpointed, unwrapped and saved."""

import pytest
import torch

import metalora

accelerate = pytest.importorskip("accelerate")


@pytest.fixture
def prepared():
    """Accelerator, adapted model and optimizer, prepared, after a step."""
    accelerator = accelerate.Accelerator(cpu=True)
    model = metalora.adapt("resnet20", metalora.AdapterConfig("metalora-cp", rank=2))
    optimizer = torch.optim.SGD(model.trained.parameters(), lr=0.1, momentum=0.9)
    model, optimizer = accelerator.prepare(model, optimizer)
    step(accelerator, model, optimizer)
    yield accelerator, model, optimizer
    accelerator.free_memory()


def images(seed=0):
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def step(accelerator, model, optimizer):
    accelerator.backward(model(images()).square().mean())
    optimizer.step()
    optimizer.zero_grad()


def test_a_checkpoint_goes_on_where_it_was_made(prepared, tmp_path):
    accelerator, model, optimizer = prepared
    accelerator.save_state(tmp_path / "state")
    step(accelerator, model, optimizer)
    wanted = model(images(1)).detach()
    step(accelerator, model, optimizer)
    assert not torch.allclose(model(images(1)), wanted, atol=1e-5)
    accelerator.load_state(tmp_path / "state")
    step(accelerator, model, optimizer)
    torch.testing.assert_close(model(images(1)), wanted)


def test_only_the_trained_part_moves_and_it_is_saved_unwrapped(prepared, tmp_path):
    accelerator, model, _ = prepared
    frozen = metalora.load_backbone("resnet20")
    unwrapped = accelerator.unwrap_model(model)
    assert isinstance(unwrapped, metalora.AdaptedModel)
    with unwrapped.disabled():
        torch.testing.assert_close(unwrapped(images()), frozen(images()), rtol=1e-4, atol=1e-5)
    unwrapped.save(tmp_path / "adapter")
    torch.testing.assert_close(metalora.load(tmp_path / "adapter")(images(1)), model(images(1)), rtol=1e-4, atol=1e-5)
