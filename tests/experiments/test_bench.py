"""The benchmark: its rows, the agreement of its networks, and what it says without PEFT."""

import functools
import importlib.util
import json
from dataclasses import replace

import pytest
import torch

from metalora.cli import main
from metalora.experiments import bench
from metalora.experiments.bench import BenchConfig, run_bench
from metalora.util.errors import InputError

PASSES = {
    "plain": {"forward", "train"},
    "best-frozen": {"forward"},
    "peft-lora": {"forward", "train"},
    "lora": {"forward", "train"},
    **{name: {"forward", "generate", "pipeline", "train"} for name in ("metalora-cp", "metalora-tr")},
    **{name: {"generate", "pipeline", "train"} for name in ("metalora-cp-self", "metalora-tr-self")},
}


@pytest.fixture(scope="module")
def measured():
    return next(run_bench(BenchConfig(models=("resnet20",), batches=(2,), rounds=2)))


def test_there_is_a_row_for_every_network_and_pass(measured):
    found = {}
    for row in measured.rows:
        found.setdefault(row["variant"], set()).add(row["pass"])
        assert row["ms"] > 0 and row["ms_iqr"] >= 0 and row["peak_mb"] >= 0
        assert not row["compiled"]
        assert (row["model"], row["image_size"], row["batch_size"], row["precision"]) == ("resnet20", 32, 2, "float32")
    assert found == PASSES


def test_ratios_are_of_the_same_pass_or_of_the_forward_pass(measured):
    times = {(row["variant"], row["pass"]): row["ms"] for row in measured.rows}
    for row in measured.rows:
        kind = row["pass"] if row["pass"] == "train" else "forward"
        assert row["ratio_to_plain"] == pytest.approx(row["ms"] / times["plain", kind])
        assert row["ratio_to_peft"] == pytest.approx(row["ms"] / times["peft-lora", kind])


def calls(backbone):
    """What is timed of a backbone, by network and pass."""
    images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    cases = bench._cases(bench._networks(backbone), images, labels)
    return {case: functools.partial(call, network) for case, (network, call) in cases.items()}


def test_all_forward_passes_compute_the_plain_features_at_the_start():
    cases = calls(bench.load_backbone("resnet20"))
    plain = cases["plain", "forward"]()
    for name, kind in cases:
        if kind in ("forward", "pipeline"):
            torch.testing.assert_close(cases[name, kind](), plain, rtol=1e-4, atol=1e-5)


def test_training_moves_no_batch_norm_and_no_frozen_weight():
    backbone = bench.load_backbone("resnet20")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    losses = {name: [call() for _ in range(3)] for (name, kind), call in calls(backbone).items() if kind == "train"}
    assert all(values[0] != values[2] for name, values in losses.items() if name != "plain")
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_networks_are_compiled_where_that_is_asked_for(monkeypatch):
    taken = []

    def stands_for_a_compiler(network, mode):
        taken.append(network)
        return lambda *images, **given: network(*images, **given)

    monkeypatch.setattr(torch, "compile", stands_for_a_compiler)
    config = BenchConfig(models=("resnet20",), batches=(2,), rounds=1, compile=True, variants=("metalora-tr",))
    rows = next(run_bench(config)).rows
    assert all(row["compiled"] for row in rows)
    assert len(taken) == len(rows)


def test_chosen_variants_are_measured_beside_those_that_ratios_are_of(monkeypatch):
    seen = []
    monkeypatch.setattr(bench, "_milliseconds", lambda call, device: (call(), 1.0)[1])
    monkeypatch.setattr(bench.Backbone, "forward", spied(bench.Backbone.forward, seen))
    config = BenchConfig(models=("resnet20",), batches=(5,), rounds=1, channels_last=True, variants=("metalora-cp",))
    rows = next(run_bench(config)).rows
    assert {row["variant"] for row in rows} == {"plain", "peft-lora", "metalora-cp"}
    assert all(row["channels_last"] for row in rows)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images in seen if len(images) == 5)
    with pytest.raises(InputError, match=r"'metalora-cq'.*metalora-cp"):
        next(run_bench(replace(config, variants=("metalora-cq",))))


def spied(forward, seen):
    def spy(self, images):
        seen.append(images)
        return forward(self, images)

    return spy


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install .\[bench\]"):
        next(run_bench(BenchConfig()))


def test_the_command_writes_what_it_printed(tmp_path, capsys):
    file = tmp_path / "bench.json"
    with pytest.raises(SystemExit, match="0"):
        main(["bench", "--model", "resnet20", "--batch-size", "1", "--rounds", "1", "--json", str(file)])
    told = json.loads(file.read_text())
    assert {row["variant"] for row in told["rows"]} == set(PASSES)
    assert told["threads"] >= 1 and told["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    "wrong", [("--batch-size", "0"), ("--rounds", "0"), ("--threads", "0"), ("--model", "resnet2O")]
)
def test_wrong_input_is_one_sentence(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--quick", *wrong])
    assert len(capsys.readouterr().err.strip().split("Error: ")) == 2


def test_peft_trains_as_many_parameters_as_ours():
    backbone = bench.load_backbone("resnet20")
    ours = bench.adapt(backbone, bench.AdapterConfig("metalora-cp", rank=8, extractor="stem"))
    theirs = bench._peft(backbone, tuple(ours.layers), rank=8)
    trained = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert trained == sum(p.numel() for p in ours.trained.adapters.parameters())
