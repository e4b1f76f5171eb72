"""What exports weigh and take: a row for every form and batch, each compared with the network it was made from."""

import importlib.util
import json

import pytest
import torch

import metalora
from metalora.cli import main
from metalora.experiments import bench_exports
from metalora.experiments.bench_config import ExportBenchConfig
from metalora.experiments.bench_exports import FORMS, Form, run_export_bench
from metalora.models.exporting import TOLERANCE, open_export
from metalora.util.errors import InputError

NAME = "mixer_nano/metalora-cp"


@pytest.fixture(scope="module")
def rows():
    (found,) = run_export_bench(ExportBenchConfig(adapters=(NAME,), batches=(1, 3), rounds=2))
    return found


def test_there_is_a_row_for_every_form_and_batch(rows):
    assert [(row["batch_size"], row["form"]) for row in rows] == [(batch, form) for batch in (1, 3) for form in FORMS]
    assert all(row["ms"] > 0 and row["ms_iqr"] >= 0 and row["cpu_ms"] > 0 for row in rows)
    assert all(row["adapter"] == NAME and row["image_size"] == 32 for row in rows)


def test_every_form_gives_what_the_network_gives(rows):
    assert all(row["difference"] < TOLERANCE for row in rows)
    assert all(row["difference"] == 0 for row in rows if row["form"] == "torch")


def test_sizes_are_of_files_and_folded_ones_hold_the_backbone_alone(rows):
    sizes = {row["form"]: row["file_mb"] for row in rows}
    backbone = metalora.load_backbone("mixer_nano")
    alone = sum(tensor.numel() * tensor.element_size() for tensor in backbone.state_dict().values()) / 1e6
    assert alone < sizes["torch, folded"] < 1.05 * alone
    assert sizes["torch, folded"] < sizes["torch"] and sizes["ONNX, folded"] < sizes["ONNX"]


def test_a_form_that_gives_something_else_has_its_difference_in_the_row(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(2_000_000))
    forms = {"off": Form(lambda x: 1.1 * x, lambda x: x, file)}
    (row,) = bench_exports._rows(forms, torch.ones(2, 3), rounds=3)
    assert row["difference"] == pytest.approx(0.1) and row["file_mb"] == 2.0


def test_forms_are_measured_in_turns(tmp_path):
    file, calls = tmp_path / "file", []
    file.touch()

    def named(name):
        return lambda x: calls.append(name) or x

    list(bench_exports._rows({n: Form(named(n), lambda x: x, file) for n in "ab"}, torch.ones(2, 3), rounds=2))
    assert "".join(calls) == "ab" + "aabb" * 2  # each turn after a pass that is not timed


def test_onnx_runs_on_as_many_threads_as_torch(monkeypatch, tmp_path):
    import onnxruntime

    seen = []

    class Session:
        def __init__(self, file, options, providers):
            seen.append(options.intra_op_num_threads)

        def get_inputs(self):
            return [type("Input", (), {"name": "images"})]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    open_export(tmp_path / "network.onnx")
    assert seen == [3]
    with pytest.raises(InputError, match=r"neither \.onnx nor \.pt2"):
        open_export(tmp_path / "network.bin")


def test_without_onnxruntime_it_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    with pytest.raises(InputError, match=r"^ONNX needs onnxruntime: pip install 'metalora\[onnx\]'\.$"):
        next(run_export_bench(ExportBenchConfig()))


def test_the_command_writes_what_it_printed(rows, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(bench_exports, "run_export_bench", lambda config: asked.append(config) or iter([rows]))
    file = tmp_path / "exports.json"
    with pytest.raises(SystemExit, match="0"):
        main(["bench", "--exports", "--adapter", NAME, "--batch-size", "1", "--rounds", "2", "--json", str(file)])
    assert asked == [ExportBenchConfig(adapters=(NAME,), batches=(1,), rounds=2)]
    told = json.loads(file.read_text())
    assert told["rows"] == rows and told["versions"]["onnxruntime"]
    assert "ONNX, folded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--exports", "--model", "resnet20"), "leave --model out"),
        (("--exports", "--quick"), "leave --quick out"),
        (("--exports", "--batch-size", "0"), "batch_size is 0"),
        (("--exports", "--adapter", "resnet20/none"), "none"),
        (("--adapter", NAME), "add --exports"),
    ],
)
def test_wrong_input_is_one_sentence(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *words])
    (said,) = capsys.readouterr().err.strip().split("Error: ")[1:]
    assert message in said
