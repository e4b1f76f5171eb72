"""Options: named after settings, with their defaults, in a help that needs no torch."""

import subprocess
import sys

import pytest
from calling import run

import metalora
from metalora import cli
from metalora.cli import options
from metalora.evaluation.embedding import EmbedConfig
from metalora.experiments.config import ComparisonConfig
from metalora.runs.run_config import RunConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig


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
        options.PROTOCOL: EmbedConfig(),
        options.RUN: RunConfig(),
    }
    groups = (options.ADAPTER_OPTIONS, options.TRAINING_OPTIONS, options.SUITE_OPTIONS, cli.compare.OPTIONS)
    for name, option in (pair for group in groups for pair in group.items() if pair[1].home):
        field = {"method": "methods"}.get(name, name) if option.home == options.COMPARISON else name
        actual = getattr(homes[option.home], option.field or field)
        assert options.default(option.home, option.field or field) in (actual, None)


def test_version():
    assert metalora.__version__ in run("--version").output
