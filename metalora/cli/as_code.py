"""Settings written as a command line, as Python and as JSON."""

import json
import shlex
from dataclasses import fields
from typing import Any

from metalora.cli.compare import COMPARISON, COMPARISON_TRAINING
from metalora.cli.options import ADAPTER, SUITE, TRAINING
from metalora.cli.train import RUN
from metalora.experiments.config import ComparisonConfig
from metalora.runs.run_config import RunConfig


def as_command(config: RunConfig) -> str:
    """Write `python -m metalora train …` with the steps or minutes and every option that is not at its default."""
    words = [*RUN.write(config), *ADAPTER.write(config.adapter), *SUITE.write(config.suite)]
    steps = () if config.minutes is not None else ("--steps", str(config.training.steps))
    return _command("train", *words, *steps, *TRAINING.without("steps").write(config.training))


def as_compare_command(config: ComparisonConfig) -> str:
    """Write `python -m metalora compare …` with the steps and every option that is not at its default."""
    words = [*COMPARISON.write(config), *SUITE.write(config.suite), "--steps", str(config.training.steps)]
    return _command("compare", *words, *COMPARISON_TRAINING.without("steps").write(config.training))


def as_study_command(name: str, config: ComparisonConfig) -> str:
    """Write the `python -m metalora study …` that gives the results called STUDY/PART."""
    study, part = name.split("/")
    return _command("study", study, "--part", part, "--seeds", str(config.seeds), "--final")


def as_python(config: RunConfig) -> str:
    """Write a script that adapts the backbone and trains it on the suite, with every setting not at its default."""
    method = f"method={config.adapter.method!r}"
    adapter = f"metalora.AdapterConfig({', '.join([method, *_arguments(config.adapter, 'method')])})"
    model = f"adapt({config.backbone!r}, {adapter})" if config.start is None else f"load({config.start!r})"
    suite = ", ".join([repr(config.suite.name), *_arguments(config.suite, "name"), f"seed={config.training.seed}"])
    return "\n".join(
        [
            "import metalora",
            "",
            f"model = metalora.{model}",
            f"suite = metalora.load_suite({suite})",
            f"training = metalora.TrainingConfig({', '.join(_arguments(config.training))})",
            "for event in metalora.fit(model, suite, training):",
            "    print(event.step, event.metrics)",
            "model.save('my-adapter')",
        ]
    )


def as_json(config: RunConfig) -> str:
    """Write all settings as JSON."""
    return json.dumps(config.to_dict(), indent=1)


def _command(*words: str) -> str:
    return shlex.join(["python", "-m", "metalora", *words])


def _arguments(settings: Any, *left_out: str) -> list[str]:
    default = type(settings)()
    values = {entry.name: getattr(settings, entry.name) for entry in fields(settings) if entry.name not in left_out}
    return [f"{name}={value!r}" for name, value in values.items() if value != getattr(default, name)]
