"""The kept head: what it predicts, where it is read, and that it belongs to the state that is kept."""

from dataclasses import replace

import pytest
import torch

import metalora
from metalora.evaluation import linear_head
from metalora.evaluation.linear_head import LinearHead, measure_head
from metalora.training import fit as fitting
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit

QUICK = TrainingConfig(steps=3, batch_size=16, device="cpu")


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=40)


def finish(events):
    """Return what a generator returns."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def train(digits, config, **settings):
    torch.manual_seed(0)
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), metalora.AdapterConfig("lora", rank=1))
    return finish(fit(model, digits, config, **settings))


def test_a_head_names_the_class_of_its_largest_output():
    head = LinearHead(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, 0.5]), torch.tensor([3, 7]))
    assert head.predict(torch.tensor([[2.0, 1.0], [2.0, 1.6], [0.0, 0.0]])).tolist() == [3, 7, 7]


def test_it_is_read_where_it_knows_all_classes(digits):
    queries = digits.splits["seen query"]
    head = LinearHead(torch.zeros(2, 1), torch.tensor([0.0, 1.0]), torch.arange(10)[[4, 2]])
    known = replace(digits, splits={"seen query": queries[(queries.labels == 2) | (queries.labels == 4)]})
    ((place, _, predicted),) = measure_head(known, lambda split: torch.zeros(len(known.splits[split]), 1), head)
    assert place == {"task_split": "seen", "gallery": linear_head.LINEAR_HEAD, "k": 0}
    assert (predicted == 2).all()
    assert not list(measure_head(digits, lambda split: torch.zeros(len(digits.splits[split]), 1), head))


def test_training_hands_out_the_head_that_it_ends_with(digits, tmp_path):
    head = train(digits, QUICK, checkpoint=tmp_path / "c")
    assert head.weight.shape == (10, 64) and head.classes.tolist() == list(range(10))
    again = train(digits, QUICK, checkpoint=tmp_path / "c")  # resumed after its last step
    assert torch.equal(again.weight, head.weight)
    assert train(digits, QUICK, loss=lambda embeddings, batch: embeddings.square().mean()) is None


@pytest.mark.parametrize(("accuracies", "best"), [((0.1, 0.4, 0.3), 2), ((0.9, 0.1, 0.1), 0)])
def test_the_head_of_the_best_state_is_kept(digits, monkeypatch, accuracies, best):
    values = iter([0.0, *accuracies])  # of the original network, before training, and of the steps
    monkeypatch.setattr(fitting, "validate", lambda *args: next(values))
    config = replace(QUICK, steps=4, keep_best=True, validate_every=2)
    head = train(digits, config)
    if not best:
        assert head is None  # it was never trained
        return
    monkeypatch.undo()
    assert torch.equal(head.weight, train(digits, replace(config, keep_best=False, validate_every=0, steps=4)).weight) \
        is False  # fmt: skip
