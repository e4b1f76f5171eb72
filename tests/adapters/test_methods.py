"""The registry: its entries, and a method that comes from outside."""

from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint

import pytest
import torch

import metalora
from metalora.adapters.formats import Factorised, Format, format_class, make_format
from metalora.adapters.methods import METHODS, PAPER, Method, method, register
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job import run_job
from metalora.experiments.runner import jobs_of
from metalora.inspection.inspect_images import inspect_images
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util import registry
from metalora.util.errors import InputError


@dataclass(frozen=True)
class Swapped(Factorised):
    """ΔW = Σ_r U[r,..] V[r,:] c_n[r], with other names and axes than the bundled formats."""

    @property
    def core_shape(self):
        return (self.rank,)

    def parameter_shapes(self, kernel, inputs, outputs):
        return {"U": (self.rank, inputs, *kernel), "V": (self.rank, outputs)}

    def factors(self, parameters, scale):
        return {"A": parameters["U"] * scale, "B": parameters["V"]}

    def dense(self, weight, factors, core=None):
        return torch.einsum("ri...,ro,nr->noi...", factors["A"], factors["B"], core)

    def down(self, A):
        return A

    def up(self, B):
        return B

    def mix(self, z, core):
        return z * core[:, None]

    def fold(self, up, core):
        return core[:, :, None] * up


@dataclass(frozen=True)
class Gain(Format):
    """ΔW = g ⊙ W with a learned gain g (O): an update that is no product of two layers."""

    def parameter_shapes(self, kernel, inputs, outputs):
        return {"g": (outputs,)}

    def factors(self, parameters, scale):
        return {"g": parameters["g"] * scale}

    def apply(self, layer, out, x, core, samples):
        shape = (-1, *[1] * (out.ndim - 2))
        bias = layer.output_bias
        product = out if bias is None else out - bias.view(shape)
        return out + layer.factors()["g"].view(shape) * product

    def dense(self, weight, factors, core=None):
        return torch.einsum("o,o...->o...", factors["g"], weight)[None]


SWAPPED = Method("Swapped", Swapped, "a test", "#112233", generated=True, rank_for=lambda rank: rank + 1)


@pytest.fixture(params=[SWAPPED, Method("Gain", Gain, "a test")], ids=["swapped", "gain"])
def toy(request):
    register("toy", request.param)
    yield "toy"
    METHODS.unregister("toy")


@pytest.fixture
def model(toy, small_net, images, adapt, randomise):
    model = adapt(small_net, toy, example=images)
    randomise(model.trained, scale=0.2)
    return model


def test_entries_agree_with_their_formats():
    for name, entry in METHODS.items():
        assert method(name) is entry
        assert len(bytes.fromhex(entry.colour.removeprefix("#"))) == 3
        if entry.format is not None:
            format = make_format(metalora.AdapterConfig(name).with_tasks(2), 3, 5)
            assert type(format) is format_class(name)
            assert bool(format.core_shape) is entry.generated


def test_ranks_of_a_comparison():
    assert {name: entry.rank_for(3) for name, entry in PAPER.items() if entry.format is not None} == {
        "lora": 9,
        "multi-lora": 3,
        "metalora-cp": 9,
        "metalora-tr": 3,
    }
    assert method("multi-lora").rank_for(1) == 1


@pytest.mark.parametrize("name", ["metalora", "", None, 3])
def test_an_unknown_method_is_refused_with_the_names_there_are(name):
    with pytest.raises(InputError, match=r"Unknown method .*: use .*metalora-tr"):
        method(name)


def test_a_registered_method_starts_as_the_original_network(toy, small_net, images, adapt):
    torch.testing.assert_close(adapt(small_net, toy, example=images)(images), small_net.eval()(images))


def test_a_registered_method_is_its_dense_update(model, images):
    cores = model.generate(images) if model.generated else None
    outputs = model(images)
    for i in range(len(images)):
        core = None if cores is None else cores[i]
        torch.testing.assert_close(model.fold(core)(images[i : i + 1]), outputs[i : i + 1])


def test_a_registered_method_is_saved_and_loaded(model, small_net, images, tmp_path):
    model.save(tmp_path / "toy")
    loaded = metalora.load(tmp_path / "toy", small_net)
    assert loaded.config == model.config
    torch.testing.assert_close(loaded(images), model(images))


def test_a_registered_method_is_counted_and_inspected(model, images):
    budget = model.budget()
    assert budget.loc["total", "adapter_parameters"] == sum(
        parameter.numel() for layer in model.layers.values() for parameter in layer.adapter.parameters()
    )
    strength = inspect_images(model, images).strength
    cores = model.generate(images) if model.generated else None
    for name, layer in model.layers.items():
        delta = model.delta_weight(name, cores).flatten(1).norm(dim=1) / layer.weight.norm()
        assert strength[name].tolist() == pytest.approx(delta.expand(len(images)).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (replace(SWAPPED, generated=False), "generated=False.*agree"),
        (replace(SWAPPED, format="no_such_package:Toy"), "cannot be imported"),
        (replace(SWAPPED, format="metalora.adapters.lora:Toy"), "cannot be imported"),
    ],
)
def test_an_entry_that_does_not_fit_its_format_is_refused(entry, message):
    register("toy", entry)
    try:
        with pytest.raises(InputError, match=f"'toy'.*{message}"):
            metalora.adapt("resnet20", metalora.AdapterConfig("toy"))
    finally:
        METHODS.unregister("toy")


def test_what_cannot_be_registered_is_refused():
    with pytest.raises(InputError, match="'lora' is built in"):
        register("lora", SWAPPED)
    with pytest.raises(InputError, match="not a Method"):
        register("toy", Swapped)
    assert "toy" not in METHODS


@pytest.fixture
def plug_ins(monkeypatch):
    """A registry that finds these entry points, name → value."""

    def made(**values):
        points = [EntryPoint(name, value, "metalora.methods") for name, value in values.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        return registry.Registry("metalora.methods", Method, PAPER)

    return made


def test_methods_of_other_packages_are_found_and_loaded_once(plug_ins):
    methods = plug_ins(other=f"{__name__}:SWAPPED")
    assert list(methods) == [*PAPER, "other"]
    assert methods["other"] is methods["other"]
    assert methods["other"].title == "Swapped"


@pytest.mark.parametrize("value", ["no_such_package:METHOD", "json:no_such_name", "json:dumps"])
def test_a_broken_plug_in_is_named_and_leaves_built_in_methods_alone(plug_ins, value):
    methods = plug_ins(broken=value)
    assert methods["lora"] is PAPER["lora"]
    with pytest.raises(InputError, match=f"plug-in 'broken'.*{value}.*cannot be loaded"):
        list(methods)


def test_a_registered_method_is_a_row_of_a_comparison(toy):
    names = (toy, f"{toy}-shuffled") if method(toy).generated else (toy,)
    config = ComparisonConfig(
        suite=SuiteConfig(max_queries=30, image_size=8),
        backbones=("resnet20",),
        methods=names,
        training=TrainingConfig(steps=2, batch_size=16, device="cpu"),
        ks=(1,),
        rank=1,
    )
    (job,) = jobs_of(config)
    assert job.adapter.rank == method(toy).rank_for(1)
    assert {row["method"] for row in run_job(job)["rows"]} == set(names)
