"""A running app under watch, and saved adapters and runs that are made hostile."""

import contextlib
import itertools
from pathlib import Path

import psutil
import pytest
from attack.images import PNG
from attack.target import Target
from attack.watched_app import CANARY

import metalora
from metalora.cli.train import run_settings
from metalora.models.peft_format import save_peft
from metalora.runs.execute import execute
from metalora.runs.run_folder import create_run


@pytest.fixture(scope="module")
def attacked(serve, tmp_path_factory):
    """(target, log, what was watched) of an app of its own."""
    folder = tmp_path_factory.mktemp("attacked")
    log, watched, canary = folder / "app.log", folder / "watched", folder / f"{CANARY}.png"
    canary.write_bytes(PNG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WATCHED", str(watched))
        process, address = serve(folder / "workspace", log, ("tests/attack/watched_app.py",))
    yield Target(address, psutil.Process(process.pid), str(canary)), log, watched
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of an adapter, and of a LoRA of PEFT."""
    folder = tmp_path_factory.mktemp("adapters")
    few = {"rank": 2, "targets": ("layer1.0",)}
    metalora.adapt("resnet20", metalora.AdapterConfig("metalora-tr", **few)).save(folder / "own")
    save_peft(metalora.adapt("resnet20", metalora.AdapterConfig("lora", **few)), folder / "peft")
    return folder / "own", folder / "peft"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """Folder of a run that was stopped after three of six steps."""
    few = {"image_size": 8, "max_queries": 40, "batch_size": 16, "device": "cpu", "steps": 6, "rank": 2}
    run = create_run(tmp_path_factory.mktemp("stopped") / "run", run_settings(few))
    with contextlib.closing(execute(run)) as steps:
        list(itertools.islice(steps, 4))
    return run.path
