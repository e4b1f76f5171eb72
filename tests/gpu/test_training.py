"""Training on a GPU: what it is on the CPU, without waiting, stopped by a loss that is not finite, and resumed."""

import contextlib
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import metalora
from metalora.evaluation.feature_cache import FeatureCache
from metalora.training import fit as fitting
from metalora.training.config import TrainingConfig
from metalora.training.fit import Trainer, fit
from metalora.util.errors import InputError
from metalora.util.files import read_state

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "adapters"))
import stand_in
from cases import relative_error

GPU, STEPS = torch.cuda.is_available(), 6
# Method, settings of the adapter, settings of the training: every way that a step takes.
WAYS = {
    "static": ("lora", {}, {}),
    "static, predicting": ("lora", {"factors": (2, 2)}, {}),
    "images": ("metalora-tr", {}, {}),
    "sets": ("metalora-cp", {}, {"set_size": 4}),
    "sets without identity cores": ("metalora-cp", {}, {"set_size": 4, "identity_core_prob_sets": 0.0}),
    "factor code": ("metalora-tr", {"factors": (2, 2)}, {"set_size": 4}),
    "stem": ("metalora-tr", {"extractor": "stem"}, {}),
    "gaussian": ("metalora-tr", {"core_distribution": "gaussian"}, {}),
    "told": ("moelora", {}, {}),
    "routed": ("condconv", {}, {}),
    "bfloat16": ("metalora-tr", {}, {"precision": "bfloat16"}),
}


@pytest.fixture
def make(suite, device):
    """make(way, …) → a model, and the settings of its training."""

    def made(way, *, on=device, **settings):
        method, adapter, training = WAYS[way]
        config = metalora.AdapterConfig(method, rank=2, **adapter).with_tasks(len(suite.seen))
        model = metalora.adapt(metalora.load_backbone("resnet20", image_size=16), config)
        size = 64 if GPU else 16
        return model, TrainingConfig(steps=STEPS, batch_size=size, device=str(on), lr=1e-3, **training | settings)

    return made


# How far the last loss and what was learnt may be apart, relatively: ten times what float32 does on the CPU against
# float64, since sums are in another order. Adam's first steps are as long for gradients that are nearly zero.
APART = {"routed": (0.05, 0.05), "bfloat16": (0.05, 0.5)}
USUALLY = 1e-4, 0.03


@pytest.mark.parametrize("way", [way for way in WAYS if way != "gaussian"])  # whose noise is the device's own
def test_a_gpu_trains_as_a_cpu_does(way, suite, make, device, record):
    losses, learnt = [], []
    for on in ("cpu", device):
        model, config = make(way, on=on)
        before = parameters(model)
        losses.append([event.metrics["loss"] for event in fit(model, suite, config, validate_last=False)][-1])
        learnt.append(parameters(model) - before)
    errors = {"loss": abs(losses[1] / losses[0] - 1), "learnt": relative_error(learnt[1], learnt[0])}
    record(test="training", way=way, errors=errors)
    assert all(error < limit for error, limit in zip(errors.values(), APART.get(way, USUALLY), strict=True)), errors


def parameters(model):
    return torch.cat([parameter.detach().double().cpu().flatten() for parameter in model.trained.parameters()])


@pytest.mark.skipif(not GPU, reason="there is no GPU to wait for")
@pytest.mark.parametrize("way", WAYS)
def test_a_step_waits_for_nothing(way, suite, make, record):
    model, config = make(way)
    trainer = Trainer(model, suite, config, FeatureCache(suite), validate_last=False)
    trainer.step(trainer.draw, 0)  # makes what is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        for i in range(1, STEPS - 1):
            trainer.step(trainer.draw, i)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    record(test="waiting", way=way)


@pytest.mark.skipif(GPU, reason="there is a GPU")
@pytest.mark.parametrize("way", [way for way in WAYS if way != "bfloat16"])
def test_a_step_would_wait_for_nothing(way, suite, make, monkeypatch):
    model, config = make(way)
    monkeypatch.setattr(fitting, "pick_device", lambda name: stand_in.DEVICE)
    with stand_in.cuda_on_the_cpu(monkeypatch) as waits:
        trainer = Trainer(model, suite, config, FeatureCache(suite), validate_last=False)
        monkeypatch.setattr(torch.Tensor, "backward", lambda loss: give_gradients(trainer))
        trainer.step(trainer.draw, 0)
        assert waits  # statistics of features were read, and the first loss
        waits.clear()
        for i in range(1, STEPS - 1):
            trainer.step(trainer.draw, i)
        assert not waits


def give_gradients(trainer):
    for parameter in trainer.trained:
        parameter.grad = torch.zeros_like(parameter)


def test_a_loss_that_is_not_finite_ends_a_training_and_spares_its_checkpoint(suite, make, tmp_path):
    factor = 1.0

    def loss(embeddings, batch):
        return factor * embeddings.square().mean()

    def begin():
        model, config = make("images")
        return fit(model, suite, config, checkpoint=tmp_path / "state", validate_last=False, loss=loss)

    events = begin()
    assert [next(events).step for _ in range(2)] == [1, 2]
    events.close()
    factor = float("nan")
    with pytest.raises(InputError, match="not finite"):
        list(begin())
    events = begin()
    with contextlib.suppress(InputError):  # a GPU gives the number of a resumed training's first step at once
        next(events)
    events.close()
    assert read_state(tmp_path / "state")["step"] == 2


@pytest.mark.parametrize("way", ["static", "images", "factor code"])
def test_a_resumed_training_ends_where_an_unbroken_one_does(way, suite, make, tmp_path, record):
    ends = []
    for stop in (None, 3):
        model, config = make(way)
        torch.manual_seed(0)
        events = fit(model, suite, config, checkpoint=tmp_path / f"{stop}", validate_last=False)
        for event in events:
            if event.step == stop:
                events.close()
                model, _ = make(way)
                torch.manual_seed(9)
                list(fit(model, suite, config, checkpoint=tmp_path / f"{stop}", validate_last=False))
                break
        ends.append(parameters(model))
    error = relative_error(ends[1], ends[0])
    record(test="resuming", way=way, error=error)
    assert error < 1e-4  # a GPU adds some gradients up in no fixed order


def test_a_checkpoint_goes_to_the_cpu(suite, make, tmp_path):
    model, config = make("images")
    events = fit(model, suite, config, checkpoint=tmp_path / "state", validate_last=False)
    assert [next(events).step for _ in range(3)] == [1, 2, 3]
    events.close()
    assert all(tensor.device.type == "cpu" for tensor in read_state(tmp_path / "state")["trained"].values())
    model, config = make("images", on="cpu")
    assert next(fit(model, suite, config, checkpoint=tmp_path / "state", validate_last=False)).step == 4


@pytest.mark.skipif(not GPU, reason="there are CUDA graphs on a GPU only")
def test_a_compiled_training_is_the_same(suite, make, record):
    losses = []
    for compile in (False, True):
        model, config = make("images")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="torch.compile fails")
            losses.append([event.metrics["loss"] for event in fit(model, suite, replace(config, compile=compile))])
    errors = [abs(a / b - 1) for a, b in zip(*losses, strict=True)]
    record(test="compiled training", errors=errors)
    assert max(errors) < 0.01
