"""Settings written as a command line, as Python and as JSON are read back as they were."""

import json
import shlex

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.cli.as_code import as_command, as_json, as_python, as_study_command
from metalora.experiments.studies import STUDIES
from metalora.models.loading import settings_of
from metalora.runs.run_config import RunConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig

CONFIG = RunConfig(
    "mixer_nano",
    SuiteConfig("folder:my pictures", max_queries=60, hold_out=("rotate-90+plain", "it's")),
    AdapterConfig("metalora-cp", rank=5, alpha=2.5, targets=(r"mlp\.fc1$",), rank_pattern={"fc1": 3}, seed=7),
    TrainingConfig(steps=12, lr=1e-3, set_size=(0, 1, 8), seed=7),
    ks=(3,),
)


def test_the_defaults_need_no_options():
    assert as_command(RunConfig()) == "python -m metalora train --steps 64"


@pytest.mark.parametrize("config", [RunConfig(), CONFIG])
def test_the_command_line_reads_its_command_back(config, monkeypatch):
    from typer.testing import CliRunner

    from metalora.cli import app, train

    read = []
    monkeypatch.setattr(train, "run_settings", lambda given, build=train.run_settings: read.append(build(given)))
    CliRunner().invoke(app, shlex.split(as_command(config))[3:])
    assert read == [config]


def test_sizes_of_sets_are_given_one_by_one():
    assert "--set-size 0 --set-size 1 --set-size 8" in as_command(CONFIG)


def test_json_is_what_a_run_keeps():
    assert RunConfig.from_dict(json.loads(as_json(CONFIG))) == CONFIG


def test_the_script_makes_the_same_settings():
    made = []
    script = as_python(CONFIG)
    names = {
        "adapt": lambda *given: made.append(given),
        "load_suite": lambda *given, **named: made.append((given, named)),
    }
    fake = type("metalora", (), {**names, "AdapterConfig": AdapterConfig, "TrainingConfig": TrainingConfig})
    fake.fit = staticmethod(lambda model, suite, config: made.append(config) or [])
    lines = [line for line in script.splitlines() if not line.startswith(("import", "model.save"))]
    exec("\n".join(lines), {"metalora": fake})
    assert made[0] == ("mixer_nano", CONFIG.adapter)
    assert made[1][0] == ("folder:my pictures",) and made[1][1]["seed"] == 7 and made[1][1]["max_queries"] == 60
    assert made[2] == CONFIG.training


def test_a_start_is_written_and_read_back(monkeypatch):
    from typer.testing import CliRunner

    from metalora.cli import app, train

    backbone, adapter = settings_of("mixer_nano/lora")
    config = RunConfig(backbone, adapter=adapter, start="mixer_nano/lora")
    read = []
    monkeypatch.setattr(train, "run_settings", lambda given, build=train.run_settings: read.append(build(given)))
    for options in (shlex.split(as_command(config))[3:], ["train", "--start", "mixer_nano/lora", "--steps", "64"]):
        CliRunner().invoke(app, options)
    assert read == [config, config]
    assert "metalora.load('mixer_nano/lora')" in as_python(config)


def test_results_of_a_study_name_its_command():
    written = as_study_command("primary/main", STUDIES["primary"].parts["main"])
    assert written == "python -m metalora study primary --part main --seeds 8 --final"
