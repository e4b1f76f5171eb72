"""Events in trackers, and losses of one's own."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import metalora
from metalora.training.tracking import track
from metalora.util.errors import InputError


@pytest.fixture(scope="module")
def suite():
    return metalora.load_suite("digits", image_size=8, max_queries=60)


def model_of(method="metalora-cp"):
    return metalora.adapt(metalora.load_backbone("resnet20", image_size=8), metalora.AdapterConfig(method, rank=2))


def training(steps=4, **settings):
    return metalora.TrainingConfig(steps=steps, batch_size=16, device="cpu", **settings)


def test_trackers_get_every_step_and_are_closed(suite, monkeypatch):
    said = []
    service = SimpleNamespace(
        init=lambda **settings: said.append(("init", settings)),
        log=lambda values, step: said.append((step, values)),
        finish=lambda: said.append("finish"),
    )
    for name in ("trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, service)
        said.clear()
        events = list(track(metalora.fit(model_of(), suite, training()), name, name="mine", settings={"rank": 2}))
        assert said[0] == ("init", {"project": "metalora", "name": "mine", "config": {"rank": 2}})
        assert [entry[0] for entry in said[1:-1]] == [event.step for event in events] and said[-1] == "finish"
        assert {"loss", "lr/adapters"} <= said[2][1].keys()
    said.clear()
    stream = track(metalora.fit(model_of(), suite, training()), "wandb", name="left")
    next(stream)
    stream.close()
    assert said[-1] == "finish"


def test_tensorboard_gets_scalars(suite, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    list(track(metalora.fit(model_of(), suite, training()), "tensorboard", name="mine", folder=tmp_path))
    found = accumulator.EventAccumulator(str(tmp_path / "mine")).Reload()
    assert [scalar.step for scalar in found.Scalars("loss")] == [1, 2, 3, 4]


def test_a_tracker_that_is_not_there_is_named(suite, monkeypatch):
    with pytest.raises(InputError, match="Unknown tracker 'mlflow': use tensorboard, trackio, wandb"):
        track(iter(()), "mlflow", name="x")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="tracker wandb is not installed: pip install wandb"):
        track(iter(()), "wandb", name="x")


def contrastive(embeddings, batch):
    """Supervised contrastive loss."""
    z = F.normalize(embeddings, dim=1)
    scores = (z @ z.T / 0.1).fill_diagonal_(-1e9)
    same = (batch.labels[:, None] == batch.labels).fill_diagonal_(False)
    return -(scores.log_softmax(1) * same).sum(1).div(same.sum(1).clamp(min=1)).mean()


class Proxies(nn.Module):
    """A proxy for each class, kept afterwards."""

    def __init__(self, classes, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, width, generator=torch.Generator().manual_seed(0)))

    def forward(self, embeddings, batch):
        return F.cross_entropy(10 * F.normalize(embeddings, dim=1) @ F.normalize(self.weight, dim=1).T, batch.labels)


@pytest.mark.parametrize("method", ["lora", "metalora-cp"])
def test_a_loss_of_ones_own_trains_the_adapters(method, suite):
    for loss in (contrastive, Proxies(10, 64)):
        events = list(metalora.fit(model_of(method), suite, training(24, lr=3e-3, validate_every=0), loss=loss))
        losses = [event.metrics["loss"] for event in events if "loss" in event.metrics]
        assert sum(losses[-5:]) < sum(losses[:5])
        assert not any("accuracy" in event.metrics for event in events)


def test_parameters_of_a_loss_are_trained_kept_and_resumed(suite, tmp_path):
    runs = {}
    for name, stop in (("whole", None), ("halves", 3)):
        loss, model, file = Proxies(10, 64), model_of(), tmp_path / name
        before = loss.weight.detach().clone()
        events = metalora.fit(model, suite, training(6), checkpoint=file, loss=loss)
        for event in events:
            if event.step == stop:
                break
        events.close()
        if stop:
            loss, model = Proxies(10, 64), model_of()
            list(metalora.fit(model, suite, training(6), checkpoint=file, loss=loss))
        assert not torch.equal(loss.weight, before)
        runs[name] = loss.weight.detach()
    assert torch.equal(runs["whole"], runs["halves"])


def test_a_checkpoint_of_another_loss_is_refused(suite, tmp_path):
    list(metalora.fit(model_of(), suite, training(2), checkpoint=tmp_path / "c", loss=contrastive))
    with pytest.raises(InputError):
        list(metalora.fit(model_of(), suite, training(2), checkpoint=tmp_path / "c"))
