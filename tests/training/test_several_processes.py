"""Two gloo processes compute what one does with the same batches."""

import pytest
import torch
from computed_together import EMBEDDINGS, TRAININGS, compute
from figures import record
from launching import launch
from safetensors.torch import load_file
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.models.adapt import adapt
from metalora.training.config import TrainingConfig
from metalora.training.parts import begin_together
from metalora.util.distributed import Processes
from metalora.util.errors import InputError

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """What one process computes, and what each of two."""
    folder = tmp_path_factory.mktemp("together")
    for code, _, errors in launch(folder, module="computed_together"):
        assert code == 0, errors
    alone, *each = compute(), *(load_file(folder / f"{rank}.safetensors") for rank in range(2))
    record("two processes", tensors=len(alone), largest=largest_difference(alone, each[0]))
    return alone, *each


def largest_difference(alone, shared):
    """The largest difference of a number from what one process computes."""
    differences = ((value.detach().double() - shared[name].double()).abs() for name, value in alone.items())
    return max(float(difference.max()) for difference in differences if difference.numel())


def test_the_largest_difference_is_found():
    one = {"a": torch.ones(4), "b": torch.tensor([3.0, 4.0])}
    assert largest_difference(one, one) == 0
    assert largest_difference(one, one | {"b": torch.tensor([3.0, 4.5])}) == 0.5


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_of_two_processes_ends_where_that_of_one_does(computed, name):
    alone, *each = ({key: value for key, value in all.items() if key.startswith(f"{name}: ")} for all in computed)
    assert len(alone) >= 5
    for found in each:
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=2e-6)


def test_both_processes_have_the_same_bits(computed):
    _, first, second = computed
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_rows_of_two_processes_are_those_of_one(computed, name):
    alone, first, _ = computed
    torch.testing.assert_close(first[name], alone[name], rtol=1e-4, atol=1e-5)


def test_a_shared_batchnorm_is_that_of_the_whole_batch(computed):
    alone, first, _ = computed
    names = [name for name in alone if name.split()[0] in ("gradient", "buffer", "loss", "output")]
    assert len(names) == 9
    for name in names:
        torch.testing.assert_close(first[name], alone[name], rtol=1e-5, atol=5e-6)


def test_a_batchnorm_is_trained_in_one_process_only():
    model = adapt("resnet20", AdapterConfig(rank=1, modules_to_save=["^bn1$"]))
    with pytest.raises(InputError, match=r"bn1 is a BatchNorm, .* leave it out of modules_to_save"):
        begin_together(Processes(count=2), model, nn.Identity(), TrainingConfig(), {})
