"""Saved adapters and checkpoints with changed bytes: what was saved, or one sentence, and no other exception."""

import contextlib
import itertools
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.models.peft_format import save_peft
from metalora.training.loop import run_loop, warmup_cosine
from metalora.util.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "util"))
from test_file_properties import changed, changes


@pytest.fixture
def saved(small_net, images, adapt, tmp_path):
    """(folder, its network, its state) of a saved adapter."""
    model = adapt(small_net, "metalora-cp", example=images)
    model.save(tmp_path / "saved")
    return tmp_path / "saved", small_net, {name: value.clone() for name, value in model.trained.state_dict().items()}


def copy_with_change(folder, name, change, place):
    """Copy a folder with a change in one of its files."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)
    (place / name).write_bytes(changed((folder / name).read_bytes(), change))
    return place


@given(change=changes())
def test_changed_weights_are_the_same_or_a_sentence(saved, tmp_path, change):
    folder, net, state = saved
    place = copy_with_change(folder, "adapter.safetensors", change, tmp_path / "changed")
    try:
        found = metalora.load(place, net).trained.state_dict()
    except InputError:
        return
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


@given(change=changes())
def test_changed_settings_are_what_they_say_or_a_sentence(saved, tmp_path, change):
    folder, net, state = saved
    place = copy_with_change(folder, "config.json", change, tmp_path / "changed")
    try:
        model = metalora.load(place, net)
    except InputError:
        return
    says = json.loads((place / "config.json").read_text(encoding="utf-8"))
    assert model.config == AdapterConfig.from_dict(says["adapter"])
    assert all(torch.equal(model.trained.state_dict()[name], state[name]) for name in state)


@given(name=st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]), change=changes())
def test_a_changed_lora_of_peft_is_a_model_or_a_sentence(small_net, images, adapt, tmp_path, name, change):
    if not (tmp_path / "peft").exists():
        save_peft(adapt(small_net, "lora", example=images, exclude=("grouped",)), tmp_path / "peft")
    with contextlib.suppress(InputError):
        place = copy_with_change(tmp_path / "peft", name, change, tmp_path / "changed")
        assert metalora.load(place, small_net).config.method == "lora"


def training(seed=0):
    """(step, parts, optimiser, network) of a small regression."""
    torch.manual_seed(seed)
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    schedule = warmup_cosine(optimizer, 6)

    def step(i):
        x = torch.full((2, 3), float(i))
        loss = (net(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return {"loss": loss.item()}

    return step, {"net": net, "optimizer": optimizer, "schedule": schedule}, optimizer, net


def trained(checkpoint, steps=6):
    """The weights after the steps that are left, from a checkpoint if there is one."""
    step, parts, optimizer, net = training()
    with contextlib.closing(run_loop(step, 6, 2, optimizer, parts, {"run": 1}, checkpoint=checkpoint)) as events:
        list(itertools.islice(events, steps))
    return net.weight.detach()


@given(change=changes())
def test_a_changed_checkpoint_is_resumed_exactly_or_a_sentence(tmp_path, change):
    whole = trained(None)
    trained(tmp_path / "part", 3)
    content = (tmp_path / "part").read_bytes()
    (tmp_path / "part").write_bytes(changed(content, change))
    try:
        assert torch.equal(trained(tmp_path / "part"), whole)
    except InputError:
        pass
    finally:
        (tmp_path / "part").unlink()
