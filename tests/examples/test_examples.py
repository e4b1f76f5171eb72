"""Every example runs, at a size that takes seconds."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import metalora

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTED = {
    *("accelerate_loop", "digits_folder", "fit_ranks", "own_dataset", "own_loop"),
    *("per_sample_batch", "quickstart", "serve_many", "text_tasks"),
}


@pytest.fixture(autouse=True)
def examples_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")} == TESTED


def test_a_batch_with_an_adapter_per_image_is_one_pass():
    seconds = import_module("per_sample_batch").main(count=4)
    assert set(seconds) == {"one batch", "one by one"}


def test_a_loop_and_a_loss_of_ones_own_train_the_adapters():
    losses = import_module("own_loop").main(steps=6, sets=3, set_size=2)
    assert sum(losses[-2:]) < sum(losses[:2])


def test_a_loop_under_accelerate_trains_and_saves_an_adapter(tmp_path):
    pytest.importorskip("accelerate")
    losses = import_module("accelerate_loop").main(tmp_path / "adapter", steps=16, batch_size=32)
    assert sum(losses[-4:]) < sum(losses[:4])
    model, start = metalora.load(tmp_path / "adapter"), metalora.load_backbone("resnet20")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(model(images), start(images), atol=1e-3)


def test_ranks_are_fitted_at_a_price():
    rows = import_module("fit_ranks").main(names=("resnet20/metalora-cp",))
    counts, validations = [row[4] for row in rows], [row[5] for row in rows]
    assert counts == sorted(counts, reverse=True) and validations[0] > validations[-1]


def test_cores_from_a_table_are_served_beside_adapters_of_peft():
    times = import_module("serve_many").main(sources=3, batch=4, many=5, rounds=1)
    names = {"the network alone", "cores from a table", "cores from a table of 5", "PEFT, adapters by name"}
    assert set(times) == names


def test_texts_get_adapters_of_their_own():
    pytest.importorskip("transformers")
    rows = import_module("text_tasks").main(base_steps=60, steps=8)
    assert set(rows) == {"original", "Meta-LoRA TR", "cores of other texts", "constant core", "LoRA", "MoLoRA"}
    assert all(0 < value < 100 for pair in rows.values() for value in pair)


def test_a_dataset_of_ones_own_is_a_suite():
    accuracies = import_module("own_dataset").main(count=80, steps=2)
    assert set(accuracies) == {"before", "after"}
    assert accuracies["after"] > 0.5  # of two classes


def test_the_notebook_runs_from_pictures_to_a_folded_model(monkeypatch):
    monkeypatch.chdir(EXAMPLES.parent)
    monkeypatch.setenv("STEPS", "2")
    monkeypatch.setenv("PER_CLASS", "10")
    cells = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]  # what is committed has no output that could be out of date
            exec(compile("".join(cell["source"]), "quickstart.ipynb", "exec"), names)
    assert len(cells) == 10
    assert set(names["comparison"]) == {"lora", "metalora-tr"}
    assert names["difference"] < 1e-3
    assert set(names["comparison"]["lora"]) == {"seen", "unseen"}
    assert "examples" in sys.path[0]


def test_pictures_of_the_example_are_tasks_of_classes(tmp_path):
    folder = import_module("digits_folder").write_pictures(tmp_path / "pictures", per_class=2)
    assert sorted(path.name for path in folder.iterdir()) == ["chalk", "ink", "turned"]
    assert len(list(folder.rglob("*.png"))) == 2 * 10 * 3
