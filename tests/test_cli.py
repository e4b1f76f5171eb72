"""The command line: every verb for real, wrong input in one sentence, exit codes."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import metalora
import metalora.execution
import metalora.pictures
from metalora import cli
from metalora.cli import options
from metalora.evaluation.cells import SuiteConfig
from metalora.evaluation.comparison import ComparisonConfig
from metalora.evaluation.embedding import Protocol
from metalora.runs import RunConfig
from metalora.training import TrainingConfig

SMALL = ["--image-size", "8", "--max-queries", "40", "--batch", "16", "--device", "cpu"]
QUICK = [*SMALL, "--steps", "2", "--rank", "2"]


def run(*arguments, code=0):
    """Call the command line in this process; its result, after a look at the exit code."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(*arguments):
    """The one sentence on stderr of a call with wrong input."""
    lines = [line for line in run(*arguments, code=2).stderr.splitlines() if not line.startswith(("Reading", "Train"))]
    assert len(lines) == 1 and lines[0].startswith("Error: "), lines
    return lines[0]


def arrays(path):
    """What an .npz file holds."""
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Processes of their own take seconds to start: run cells in this one."""
    monkeypatch.setattr("metalora.evaluation.running.joblib.cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """PATH/class/picture with one broken file."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(folder / name)
    (folder / "cat/broken.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of Meta-LoRA TR, by the command line."""
    folder = tmp_path_factory.mktemp("runs") / "tr"
    run("train", folder, *QUICK, "--targets", "layer1.0", "--json", folder.parent / "train.json")
    return folder


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """A saved LoRA whose update is not zero."""
    model = metalora.adapt("resnet20", metalora.AdapterConfig("lora", rank=2, targets=("layer1.0",)))
    with torch.no_grad():
        for parameter in model.trained.parameters():
            parameter.add_(0.01)
    model.save(tmp_path_factory.mktemp("static") / "lora")
    return tmp_path_factory.getbasetemp() / "static0" / "lora"


def test_help_needs_no_torch():
    lines = ("import sys", "from metalora.cli import main", "try:", "    main(['compare', '--help'])", "finally:")
    code = "\n".join([*lines, "    print('torch' in sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--method" in done.stdout and done.stdout.strip().endswith("False")


@pytest.mark.parametrize("verb", ["compare", "train", "embed", "inspect", "fold", "pretrain", "info"])
def test_every_verb_has_help(verb):
    assert "--json" in run(verb, "--help").output


def test_options_carry_the_names_of_settings_and_show_their_defaults():
    homes = {
        options.ADAPTER: metalora.AdapterConfig(),
        options.TRAINING: TrainingConfig(),
        options.SUITE: SuiteConfig(),
        options.COMPARISON: ComparisonConfig(),
        options.PROTOCOL: Protocol(),
        options.RUN: RunConfig(),
    }
    groups = (options.ADAPTER_OPTIONS, options.TRAINING_OPTIONS, options.SUITE_OPTIONS, cli.comparing.OPTIONS)
    for name, option in (pair for group in groups for pair in group.items() if pair[1].home):
        field = {"method": "methods"}.get(name, name) if option.home == options.COMPARISON else name
        actual = getattr(homes[option.home], option.field or field)
        assert options.default(option.home, option.field or field) in (actual, None)


def test_version():
    assert metalora.__version__ in run("--version").output


def test_train_writes_a_run_that_can_be_loaded(trained):
    result = json.loads((trained.parent / "train.json").read_text())
    assert len(result["rows"]) == 8 and 0 <= result["validation"] <= 1
    assert metalora.load(trained / "adapter").config.targets == ("layer1.0",)


def test_a_run_goes_on_from_the_adapter_of_another(trained, tmp_path):
    run("train", tmp_path / "on", "--start", trained / "adapter", *SMALL, "--steps", "1")
    assert metalora.load(tmp_path / "on/adapter").config.targets == ("layer1.0",)
    said = refused("train", tmp_path / "other", "--start", trained / "adapter", *SMALL, "--steps", "1", "--rank", "3")
    assert "was made with rank 2, not 3" in said and not (tmp_path / "other").exists()


def test_a_finished_run_says_so(trained):
    assert "finished" in run("train", trained).output
    assert "finished" in run("train", "--run", trained, *QUICK, "--targets", "layer1.0").output


def test_an_interrupted_run_says_how_to_go_on(tmp_path, trained, monkeypatch):
    tell = cli.messages.Bar.tell

    def interrupt(bar, done, *rest, **words):
        tell(bar, done, *rest, **words)
        if bar.title == "Training" and done == 1 and "pictures" not in rest[1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cli.messages.Bar, "tell", interrupt)
        said = run("train", tmp_path / "run", *QUICK, "--targets", "layer1.0", code=1).stderr.splitlines()[-1]
    assert said.startswith("Stopped after step 1 of 2") and f"metalora train {tmp_path / 'run'}" in said
    run("train", tmp_path / "run")
    weights = "adapter/adapter.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (trained / weights).read_bytes()


def test_a_signal_that_comes_with_the_word_to_stop_does_not_disturb_the_saving(tmp_path, monkeypatch):
    save = metalora.AdaptedModel.save

    def late(model, path):
        os.kill(os.getpid(), signal.SIGINT)
        save(model, path)

    monkeypatch.setattr(metalora.AdaptedModel, "save", late)
    monkeypatch.setattr(metalora.execution.Run, "stop_asked", True)
    said = run("train", tmp_path / "run", *QUICK, "--targets", "layer1.0", code=1).stderr.splitlines()[-1]
    assert said.startswith("Stopped after step 1 of 2; it is saved")
    assert metalora.load(tmp_path / "run/adapter").config.targets == ("layer1.0",)


def test_embed_writes_npz_and_csv_and_counts_what_it_cannot_read(tmp_path, trained, pictures):
    out = tmp_path / "e.npz"
    done = run("embed", pictures, "--adapter", trained / "adapter", "--out", out, "--json", tmp_path / "e.json")
    assert "1 pictures could not be used: cat/broken.png" in done.stderr
    found = arrays(out)
    assert found["embeddings"].shape == (3, 64) and found["codes"].shape == (3, 16)
    assert found["labels"].tolist() == ["cat", "cat", "dog"]
    head, *rows = (tmp_path / "e.csv").read_text().splitlines()
    assert head.startswith("name,label,task,side,e0,") and len(rows) == 3
    assert json.loads((tmp_path / "e.json").read_text())["count"] == 3


def test_a_pool_shares_one_core(tmp_path, trained, pictures):
    for name, flags in (("own", []), ("pool", ["--pool"])):
        arguments = [pictures / "cat/1.png", pictures / "cat/2.png", "--adapter", trained / "adapter", *flags]
        run("inspect", *arguments, "--json", tmp_path / f"{name}.json")
    own, pool = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("own", "pool"))
    assert own["images"][0]["cores"] != own["images"][1]["cores"]
    assert pool["images"][0]["cores"] == pool["images"][1]["cores"]
    assert pool["similarity"][0][1] == pytest.approx(1)


def test_embed_a_suite_with_a_backbone(tmp_path):
    run(
        "embed",
        "--suite",
        "digits",
        *SMALL,
        "--max-queries",
        "20",
        "--backbone",
        "resnet20",
        "--out",
        tmp_path / "s.npz",
    )
    found = arrays(tmp_path / "s.npz")
    assert "codes" not in found and len(set(found["tasks"])) > 3
    assert {"seen query", "unseen gallery"} <= set(found["sides"]) and "train" not in found["sides"]


def test_inspect_says_what_the_library_says(tmp_path, trained, pictures):
    file = pictures / "dog/1.png"
    run("inspect", file, "--adapter", trained / "adapter", "--json", tmp_path / "i.json", "--out", tmp_path / "i.npz")
    said = json.loads((tmp_path / "i.json").read_text())
    model = metalora.load(trained / "adapter")
    pixels = metalora.pictures.read_paths([file], model.backbone.image_size).images()
    cores = model.generate(pixels)
    for name, layer in model.layers.items():
        assert np.allclose(said["images"][0]["cores"][name], cores[name][0].tolist(), atol=1e-6)
        strength = model.delta_weight(name, cores)[0].norm() / layer.base.weight.norm()
        assert said["images"][0]["strength"][name] == pytest.approx(strength.item(), rel=1e-5)
    assert arrays(tmp_path / "i.npz")["layers"].tolist() == list(model.layers)


def test_inspect_of_a_static_method_says_that_it_is_constant(static, pictures):
    assert "one constant adapter" in run("inspect", pictures, "--adapter", static).output


def test_fold_gives_weights_of_the_plain_backbone(tmp_path, trained, pictures):
    file, out = pictures / "cat/1.png", tmp_path / "f.safetensors"
    run("fold", file, "--adapter", trained / "adapter", "--out", out)
    card = json.loads((tmp_path / "f.json").read_text())
    assert (card["backbone"], card["images"]) == ("resnet20", ["1.png"])
    plain = metalora.load_backbone(card["backbone"], image_size=card["image_size"])
    plain.net.load_state_dict(load_file(out))
    model = metalora.load(trained / "adapter")
    image = metalora.pictures.read_paths([file], card["image_size"]).images()
    assert torch.allclose(plain(image), model(image), atol=1e-5)


def test_fold_of_a_static_method_needs_no_image(tmp_path, static, trained):
    run("fold", "--adapter", static, "--out", tmp_path / "f.safetensors")
    assert "name one or more pictures" in refused(
        "fold", "--adapter", trained / "adapter", "--out", tmp_path / "g.safetensors"
    )
    assert not (tmp_path / "g.safetensors").exists()


def test_info(tmp_path, trained):
    everything = run("info", "--json", tmp_path / "info.json").output
    assert "2311.11501" in everything and "folder:PATH" in everything
    assert json.loads((tmp_path / "info.json").read_text())["methods"][0]["name"] == "original"
    assert "unseen query" in run("info", "--suite", "digits", *SMALL[:4]).output
    assert "layer1.0.conv1" in run("info", "--backbone", "resnet20").output
    assert "(mapping)" in run("info", "--adapter", trained / "adapter").output


def test_info_works_without_cards(monkeypatch, tmp_path):
    monkeypatch.setattr("metalora.backbones.card", lambda name: (_ for _ in ()).throw(FileNotFoundError(name)))
    assert "no card" in run("info").output


def test_pretrain_writes_a_card_without_paths_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.pretraining.HELD_OUT_PER_CLASS", 1)
    monkeypatch.setattr("metalora.suites.class_folders.HELD_OUT_PER_CLASS", 1)
    rng = np.random.default_rng(0)
    for side, count in (("train", 65), ("test", 1)):
        for label in ("a", "b"):
            (tmp_path / "data" / side / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / side / label / f"{i}.png")
    call = ["pretrain", "resnet20", "--data", tmp_path / "data", "--epochs", "1", "--device", "cpu"]
    run(*call, "--out", tmp_path / "out", "--checkpoint", tmp_path / "state")
    card = json.loads((tmp_path / "out/resnet20.json").read_text())
    assert card["command"] == "python -m metalora pretrain resnet20 --data data --epochs 1 --seed 0 --precision float32"
    assert str(tmp_path) not in json.dumps(card)
    assert (tmp_path / "out/resnet20.safetensors").is_file()


COMPARE = ["compare", *QUICK, "--backbone", "resnet20", "--jobs", "1"]
ROW = {"method", "backbone", "suite", "split", "gallery", "set_size", "k", "accuracy", "std", "n_seeds"}
ROW |= {"static_parameters", "generator_parameters", "ms_per_step"}


def test_compare_writes_table_and_rows_and_keeps_its_cells(tmp_path):
    arms = ["--method", "original", "--method", "metalora-tr@8"]
    first = run(*COMPARE, *arms, "--out", tmp_path / "c", "--json", tmp_path / "c.json")
    assert "8 unlabelled images" in " ".join(first.stdout.split()) and str(tmp_path / "c") in first.stdout
    data = json.loads((tmp_path / "c.json").read_text())
    assert len(data["rows"]) == 2 * 2 * 2 * 2
    assert all(row.keys() >= ROW for row in data["rows"])
    assert data["rows"][0]["std"] is None and data["rows"][0]["ms_per_step"] is None
    assert {path.suffix for path in (tmp_path / "c").glob("comparison.*")} == {".csv", ".json", ".md", ".tex"}
    cells = sorted((tmp_path / "c/cells").iterdir())
    times = [cell.stat().st_mtime_ns for cell in cells]
    run(*COMPARE, *arms, "--method", "lora", "--out", tmp_path / "c")
    assert [cell.stat().st_mtime_ns for cell in cells] == times
    assert len(list((tmp_path / "c/cells").iterdir())) == len(cells) + 1


def test_an_interrupted_comparison_says_what_it_keeps(tmp_path, monkeypatch):
    tell = cli.messages.Bar.tell

    def interrupt(bar, done, *rest, **words):
        tell(bar, done, *rest, **words)
        if bar.title == "Training" and done == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.messages.Bar, "tell", interrupt)
    arms = ["--method", "original", "--method", "lora"]
    said = run(*COMPARE, *arms, "--out", tmp_path / "c", code=1).stderr
    assert "1 finished trainings are kept" in said
    assert len(list((tmp_path / "c/cells").iterdir())) >= 1


TRAIN = ["train", "RUN", *SMALL]
BAD = {
    "method": ([*TRAIN, "--method", "metalora-tt"], "Unknown method 'metalora-tt'"),
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
    "K": ([*TRAIN, "--k", "5000"], "K = 5000 is larger than the gallery"),
    "K of compare": ([*COMPARE, "--k", "5000"], "K = 5000 is larger than the gallery"),
    "K 0": ([*COMPARE, "--k", "0"], "K is 0"),
    "missing folder": ([*TRAIN, "--suite", "folder:EMPTY/none"], "There is no folder"),
    "empty folder": ([*TRAIN, "--suite", "folder:EMPTY"], "holds no picture"),
    "one class": ([*TRAIN, "--suite", "folder:ONE"], "two are needed"),
    "giant": ([*TRAIN, "--suite", "folder:GIANT"], "1 unreadable"),
    "unknown task": ([*TRAIN, "--hold-out", "mirrored"], "mirrored"),
    "device": ([*TRAIN, "--device", "cuda:99"], "no device 'cuda:99'"),
    "device of compare": ([*COMPARE, "--device", "cuda:99"], "no device 'cuda:99'"),
    "precision": ([*COMPARE, "--precision", "int8"], "Unknown precision"),
    "seeds": ([*COMPARE, "--seeds", "0"], "seeds is 0"),
    "spread": ([*COMPARE, "--method", "lora", "--spread", "-1"], "spread is -1"),
    "jobs": ([*COMPARE, "--jobs", "0"], "--jobs is 0"),
    "steps": ([*TRAIN, "--steps", "0"], "steps is 0"),
    "start": ([*TRAIN, "--start", "EMPTY/none"], "holds no adapter"),
    "original": ([*TRAIN, "--method", "original"], "nothing to train"),
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
        Image.new("1", (4100, 4000)).save(tmp_path / "GIANT/a/1.png")
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
def test_a_damaged_adapter_is_told(damage, tmp_path, static, pictures):
    folder = tmp_path / "adapter"
    if damage != "missing":
        folder.mkdir()
        config, weights = (static / name for name in ("config.json", "adapter.safetensors"))
        text = config.read_text()
        if damage == "version":
            text = text.replace('"format_version": 1', '"format_version": 77')
        (folder / "config.json").write_text(text)
        (folder / "adapter.safetensors").write_bytes(weights.read_bytes()[: 200 if damage == "truncated" else None])
    said = {"truncated": "not a whole safetensors", "version": "format version 77", "missing": "holds no adapter"}
    assert said[damage] in refused("embed", pictures, "--adapter", folder, "--out", tmp_path / "e.npz")
    assert not (tmp_path / "e.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["PICTURES", "--out", "e.npz"], "Name an adapter or a backbone"),
        (["--backbone", "resnet20", "--out", "e.npz"], "Name pictures or a suite"),
        (["PICTURES", "--backbone", "resnet20", "--out", "e.csv"], "no .npz file"),
        (["PICTURES", "--backbone", "resnet20", "--pool", "--out", "e.npz"], "nothing is generated"),
        (["PICTURES/none.png", "--backbone", "resnet20", "--out", "e.npz"], "check the path"),
        (["PICTURES/cat/broken.png", "--backbone", "resnet20", "--out", "e.npz"], "No picture can be used"),
    ],
)
def test_wrong_words_for_embed(arguments, said, pictures):
    notes = run("embed", *(word.replace("PICTURES", str(pictures)) for word in arguments), code=2).stderr
    assert said in notes.splitlines()[-1]


def test_a_loss_that_is_not_finite_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.objective.F.cross_entropy", lambda logits, _: logits.sum() * float("nan"))
    assert "lower the learning rate" in refused("train", tmp_path / "run", *QUICK)
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"
    assert not (tmp_path / "run/adapter").exists()


def test_a_full_disk_is_told(tmp_path, static, pictures, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metalora.states.tempfile.mkstemp", full)
    said = refused("embed", pictures / "dog", "--adapter", static, "--out", tmp_path / "e.npz")
    assert "No space left" in said and "free some space" in said
    assert list(tmp_path.iterdir()) == []


NO_MEMORY = [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory")]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["memory", "accelerator", "torch on a cpu"])
def test_memory_that_runs_out_says_what_to_change(error, pictures, static, tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.pictures.embed", lambda *_: (_ for _ in ()).throw(error))
    said = run("embed", pictures / "dog", "--adapter", static, "--out", tmp_path / "e.npz", code=1).stderr
    assert "lower --batch" in said


def test_other_errors_keep_their_traceback(monkeypatch, pictures, static, tmp_path):
    monkeypatch.setattr("metalora.pictures.embed", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("embed", pictures / "dog", "--adapter", static, "--out", tmp_path / "e.npz")


def test_a_bundled_adapter_that_does_not_exist_is_refused_before_anything_is_made(tmp_path):
    assert "resnet20/lora" in refused("bundle", "resnet20/lorra", "--work", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_usage_errors_leave_with_2():
    assert "No such option" in run("compare", "--methods", "lora", code=2).stderr
    assert "--out" in run("fold", "--adapter", "x", code=2).stderr
