"""Numbers of steps: at once on a CPU; one step late on a GPU, where a bad loss must not reach a checkpoint."""

from types import SimpleNamespace

import pytest
import torch

import metalora
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.training.readings import Readings
from metalora.util.errors import InputError
from metalora.util.files import read_state

CPU = torch.device("cpu")


@pytest.fixture
def late(monkeypatch):
    """Readings are late, as on a GPU; the list has what was waited for."""
    waited = []
    event = lambda: SimpleNamespace(record=lambda stream: None, synchronize=lambda: waited.append(None))  # noqa: E731
    monkeypatch.setattr(torch.cuda, "Event", event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(Readings, "late", property(lambda self: True, lambda self, value: None), raising=False)
    return waited


def test_on_a_cpu_every_step_gives_its_own():
    readings = Readings(CPU)
    assert readings.last() == []
    assert readings(torch.tensor(1.5), torch.tensor([0.25])) == [1.5, 0.25]
    assert readings(torch.tensor(0.1, dtype=torch.float64)) == [0.1]
    assert readings.last() == [0.1]


def test_late_ones_are_of_the_step_before_unless_they_are_waited_for(late):
    readings = Readings(CPU)
    assert readings(torch.tensor(1.0)) == [1.0]  # there is none before
    assert readings(torch.tensor(2.0)) == [1.0]
    assert readings(torch.tensor(3.0)) == [2.0]
    assert readings.last() == [3.0]
    assert readings(torch.tensor(4.0), now=True) == [4.0]
    assert readings(torch.tensor(5.0)) == [4.0]
    assert len(late) == 6


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=50)


def losses(digits, **settings):
    """Losses of a training, and what it ended with."""
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), metalora.AdapterConfig(rank=2))
    config = TrainingConfig(steps=5, batch_size=16, device="cpu", **settings)
    found = [event.metrics["loss"] for event in fit(model, digits, config, validate_last=False) if event.step]
    return found, model.trained.state_dict()


def test_a_training_with_late_numbers_is_the_same(digits, late):
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(Readings, "late")
        wanted, end = losses(digits)
    found, late_end = losses(digits)
    assert found == [wanted[0], wanted[0], *wanted[1:3], wanted[4]]  # the last one is waited for
    assert all(torch.equal(tensor, late_end[name]) for name, tensor in end.items())
    assert losses(digits, validate_every=2)[0] == [wanted[0], wanted[1], wanted[1], wanted[3], wanted[4]]


def test_a_bad_loss_that_is_not_read_yet_reaches_no_checkpoint(digits, late, tmp_path):
    factors = iter((1, 1, 1, float("nan"), float("nan"), 1))

    def loss(embeddings, batch):
        return next(factors) * embeddings.square().mean()

    def begin():
        model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), metalora.AdapterConfig(rank=2))
        config = TrainingConfig(steps=9, batch_size=16, device="cpu")
        return fit(model, digits, config, checkpoint=tmp_path / "state", loss=loss, validate_last=False)

    events = begin()
    assert [next(events).step for _ in range(2)] == [1, 2]
    events.close()
    events = begin()
    assert [next(events).step for _ in range(2)] == [3, 4]  # the fourth loss is not a number, which is not read yet
    events.close()
    assert read_state(tmp_path / "state")["step"] == 2
    events = begin()
    with pytest.raises(InputError, match="not finite"):
        list(events)
    assert read_state(tmp_path / "state")["step"] == 2
