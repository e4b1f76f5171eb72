"""Wrong input, of every verb: one sentence, exit code 2, nothing left behind."""

import json
import re

import pytest
import torch
from calling import COMPARE, QUICK, SMALL, refused, run
from PIL import Image

import metalora

TRAIN = ["train", "RUN", *SMALL]
BAD = {
    "method": ([*TRAIN, "--method", "metalora-tq"], "Unknown method 'metalora-tq'"),
    "row": ([*COMPARE, "--method", "lore"], "Unknown method 'lore'"),
    "backbone": ([*TRAIN, "--backbone", "resnet21"], "Unknown backbone 'resnet21'"),
    "backbone of compare": ([*COMPARE, "--backbone", "resnet21"], "Unknown backbone 'resnet21'"),
    "suite": ([*TRAIN, "--suite", "digit"], "Unknown suite 'digit'"),
    "target": ([*TRAIN, "--targets", "layer9"], "'layer9' matches no layer"),
    "target of compare": ([*COMPARE, "--targets", "layer9"], "'layer9' matches no layer"),
    "exclude": ([*TRAIN, "--exclude", "nothing"], "'nothing' matches no layer"),
    "no expression": ([*TRAIN, "--targets", "("], "not a regular expression"),
    "rank 0": ([*TRAIN, "--rank", "0"], "rank is 0"),
    "rank -1": ([*TRAIN, "--rank", "-1"], "rank is -1"),
    "rank 999": ([*TRAIN, "--rank", "999", "--targets", "layer1"], "Rank 999"),
    "rank of compare": ([*COMPARE, "--rank", "99"], "lora on resnet20, rank 99: Rank 9801 exceeds"),
    "rank pattern": ([*TRAIN, "--rank-pattern", "layer1"], "is not REGEX=RANK"),
    "rank pattern without a layer": ([*TRAIN, "--rank-pattern", "layer9=2"], "'layer9' matches no layer"),
    "K": ([*TRAIN, "--k", "5000"], "K = 5000 is too large: the gallery"),
    "K of compare": ([*COMPARE, "--k", "5000"], "K = 5000 is too large: the gallery"),
    "K 0": ([*COMPARE, "--k", "0"], "K is 0"),
    "missing folder": ([*TRAIN, "--suite", "folder:EMPTY/none"], "There is no folder"),
    "empty folder": ([*TRAIN, "--suite", "folder:EMPTY"], "holds no image"),
    "one class": ([*TRAIN, "--suite", "folder:ONE"], "two are needed"),
    "giant": ([*TRAIN, "--suite", "folder:GIANT"], "over 120 megapixels"),
    "unknown task": ([*TRAIN, "--hold-out", "mirrored"], "mirrored"),
    "device": ([*TRAIN, "--device", "cuda:99"], "no device 'cuda:99'"),
    "device of compare": ([*COMPARE, "--device", "cuda:99"], "no device 'cuda:99'"),
    "precision": ([*COMPARE, "--precision", "int8"], "Unknown precision"),
    "seeds": ([*COMPARE, "--seeds", "0"], "seeds is 0"),
    "head_init_std": ([*COMPARE, "--method", "lora", "--head-init-std", "-1"], "head_init_std is -1"),
    "max_grad_norm": ([*TRAIN, "--max-grad-norm", "-1"], "max_grad_norm is -1.0: use a number above 0"),
    "code_norm_limit": ([*COMPARE, "--code-norm-limit", "-1"], "code_norm_limit is -1"),
    "radius of train": ([*TRAIN, "--code-norm-limit", "nan"], "code_norm_limit is nan"),
    "core_distribution": ([*TRAIN, "--method", "lora", "--core-distribution", "gaussian"], "LoRA generates no core"),
    "kl_weight": ([*TRAIN, "--kl-weight", "-1"], "kl_weight is -1.0: use a weight of 0 or more"),
    "jobs": ([*COMPARE, "--jobs", "0"], "--jobs is 0"),
    "steps": ([*TRAIN, "--steps", "0"], "steps is 0"),
    "start": ([*TRAIN, "--start", "EMPTY/none"], "holds no adapter"),
    "original": ([*TRAIN, "--method", "original"], "nothing to train"),
    "folder for JSON": ([*TRAIN, "--json", "EMPTY"], "EMPTY is a folder: name a file"),
    "pretrain": (["pretrain", "resnet18", "--data", "EMPTY"], "Unknown backbone 'resnet18'"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_sentence_and_leaves_nothing(case, tmp_path):
    arguments, said = BAD[case]
    for name in ("EMPTY", "ONE/a", "GIANT/a"):
        (tmp_path / name).mkdir(parents=True)
    if "folder:ONE" in arguments:
        for i in range(8):
            Image.new("RGB", (9, 9)).save(tmp_path / "ONE/a" / f"{i}.png")
    if "folder:GIANT" in arguments:
        Image.new("1", (12_100, 10_000)).save(tmp_path / "GIANT/a/1.png")
    places = {"RUN": tmp_path / "run", **{f"folder:{x}": f"folder:{tmp_path / x}" for x in ("EMPTY", "ONE", "GIANT")}}
    places |= {"folder:EMPTY/none": f"folder:{tmp_path}/EMPTY/none", "EMPTY": tmp_path / "EMPTY"}
    before = sorted(tmp_path.rglob("*"))
    out = [] if arguments[0] == "train" else ["--out", tmp_path / "out"]
    assert said in refused(*(places.get(x, x) for x in arguments), *out)
    assert sorted(tmp_path.rglob("*")) == before


def test_all_tasks_held_out_is_refused(tmp_path):
    tasks = metalora.load_suite("digits", image_size=8).tasks
    refused("train", tmp_path / "run", *SMALL, *(word for task in tasks for word in ("--hold-out", task)))


@pytest.mark.parametrize("call", [["train", "FOLDER", *QUICK], [*COMPARE, "--out", "FOLDER"]])
def test_a_folder_of_something_else_is_refused(call, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "something else" in refused(*(tmp_path if word == "FOLDER" else word for word in call))


def test_a_run_of_other_settings_is_refused(trained):
    assert "other settings (adapter.rank 2, now 3" in refused(
        "train", trained, *QUICK, "--targets", "layer1.0", "--rank", "3"
    )


@pytest.mark.parametrize("damage", ["truncated", "version", "missing"])
def test_a_damaged_adapter_is_refused(damage, tmp_path, static, pictures):
    folder = tmp_path / "adapter"
    if damage != "missing":
        folder.mkdir()
        config, weights = (static / name for name in ("config.json", "adapter.safetensors"))
        text = config.read_text()
        if damage == "version":
            text = re.sub(r'"format_version": \d+', '"format_version": 77', text)
        (folder / "config.json").write_text(text)
        (folder / "adapter.safetensors").write_bytes(weights.read_bytes()[: 200 if damage == "truncated" else None])
    said = {"truncated": "not a whole safetensors", "version": "format version 77", "missing": "holds no adapter"}
    assert said[damage] in refused("embed", pictures, "--adapter", folder, "--out", tmp_path / "e.npz")
    assert not (tmp_path / "e.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["PICTURES", "--out", "e.npz"], "Name an adapter or a backbone"),
        (["--backbone", "resnet20", "--out", "e.npz"], "Name images or a suite"),
        (
            ["PICTURES", "--backbone", "resnet20", "--out", "e.csv"],
            "is no .npz or .parquet or .tsv or .safetensors file",
        ),
        (["PICTURES", "--backbone", "resnet20", "--pool", "--out", "e.npz"], "nothing is generated"),
        (["PICTURES/none.png", "--backbone", "resnet20", "--out", "e.npz"], "check the path"),
        (["PICTURES/cat/broken.png", "--backbone", "resnet20", "--out", "e.npz"], "No image can be used"),
    ],
)
def test_wrong_arguments_of_embed_are_refused(arguments, said, pictures):
    notes = run("embed", *(word.replace("PICTURES", str(pictures)) for word in arguments), code=2).stderr
    assert said in notes.splitlines()[-1]


def test_a_loss_that_is_not_finite_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.training.objective.F.cross_entropy", lambda logits, _: logits.sum() * float("nan"))
    assert "lower the learning rate" in refused("train", tmp_path / "run", *QUICK)
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"
    assert not (tmp_path / "run/adapter").exists()


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path, static, pictures, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metalora.util.files.tempfile.mkstemp", full)
    said = refused("embed", pictures / "dog", "--adapter", static, "--out", tmp_path / "e.npz")
    assert "No space left" in said and "free some space" in said
    assert list(tmp_path.iterdir()) == []


NO_MEMORY = [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory")]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["memory", "accelerator", "torch on a cpu"])
def test_memory_that_runs_out_says_what_to_change(error, pictures, static, tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.inspection.user_images.embed", lambda *_: (_ for _ in ()).throw(error))
    said = run("embed", pictures / "dog", "--adapter", static, "--out", tmp_path / "e.npz", code=1).stderr
    assert "lower --batch-size" in said


def test_other_errors_keep_their_traceback(monkeypatch, pictures, static, tmp_path):
    monkeypatch.setattr("metalora.inspection.user_images.embed", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("embed", pictures / "dog", "--adapter", static, "--out", tmp_path / "e.npz")


def test_a_bundled_adapter_that_does_not_exist_is_refused_before_anything_is_made(tmp_path):
    assert "resnet20/lora" in refused("bundle", "resnet20/lorra", "--work", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_usage_errors_leave_with_2():
    assert "No such option" in run("compare", "--methods", "lora", code=2).stderr
    assert "--out" in run("fold", "--adapter", "x", code=2).stderr
