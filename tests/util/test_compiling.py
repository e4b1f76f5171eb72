"""Compiling: the same numbers where it works, the network itself and a warning where it does not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import metalora
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.util.compiling import compiled


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def eager_backend(monkeypatch):
    """Stands for a compiler: the graphs are taken and run as they are."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, mode: compile(network, backend="aot_eager"))


def test_what_compiles_is_compiled_and_tried_without_moving_the_random_numbers(eager_backend):
    net, x, tried = nn.Linear(3, 2), torch.rand(4, 3), []
    torch.manual_seed(0)
    fast = compiled(net, lambda network: tried.append(network(x) + torch.rand(1)))
    assert fast is not net
    assert len(tried) == 1
    assert torch.equal(torch.rand(1), torch.manual_seed(0) and torch.rand(1))
    torch.testing.assert_close(fast(x), net(x))


def test_a_network_that_cannot_be_compiled_runs_as_it_is_with_a_warning(monkeypatch):
    def broken(network, mode):
        def call(x):
            raise RuntimeError("no compiler here\nand much more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    net = nn.Linear(3, 2)
    with pytest.warns(
        UserWarning, match=r"torch.compile fails here \(RuntimeError: no compiler here\), so the network"
    ):
        assert compiled(net, lambda network: network(torch.rand(4, 3))) is net


@pytest.mark.filterwarnings("default:The .grad attribute of a Tensor:UserWarning")  # the compiler's own
@pytest.mark.parametrize("settings", [{}, {"set_size": 8}])
@pytest.mark.parametrize("method", ["lora", "metalora-cp", "metalora-tr"])
def test_training_compiled_is_training(eager_backend, tiny_resnet, method, settings):
    digits = metalora.load_suite("digits", image_size=16, max_queries=60, max_train_images=4)
    config = TrainingConfig(steps=3, batch_size=16, device="cpu", **settings)
    losses = []
    for compile in (False, True):
        model = tiny_resnet(method=method, targets="layer3.0.conv")
        events = fit(model, digits, replace(config, compile=compile), validate_last=False)
        losses.append([event.metrics["loss"] for event in events])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
def test_the_real_compiler_trains_alike(tiny_resnet):
    """`bash tests/run.sh -m slow tests/test_compiling.py`: minutes, of a C++ compiler."""
    test_training_compiled_is_training(None, tiny_resnet, "metalora-tr", {})
