"""The other way round: settings written down as a command line, as Python and as JSON."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from metalora.adapters.config import AdapterConfig
from metalora.cli.compare import OPTIONS
from metalora.cli.options import ADAPTER_OPTIONS, SUITE_OPTIONS, TRAINING_OPTIONS, Option, without
from metalora.experiments.config import ComparisonConfig
from metalora.runs.run_config import RunConfig


def as_command(config: RunConfig) -> str:
    """`python -m metalora train …` with every option that is not at its default."""
    words = ["python", "-m", "metalora", "train"]
    if config.backbone != RunConfig().backbone:
        words += ["--backbone", config.backbone]
    if config.start is not None:
        words += ["--start", config.start]
    groups = ((config.adapter, ADAPTER_OPTIONS), (config.suite, SUITE_OPTIONS), (config.training, TRAINING_OPTIONS))
    for settings, options in groups:
        words += _options(settings, options)
    if config.ks != RunConfig().ks:
        words += [word for k in config.ks for word in ("--k", str(k))]
    return shlex.join(words)


def as_compare_command(config: ComparisonConfig) -> str:
    """`python -m metalora compare …` with every option that is not at its default."""
    own = OPTIONS | {"method": replace(OPTIONS["method"], field="methods")}
    training = without(TRAINING_OPTIONS, "set_size", "seed", "validate_every")
    parts = ((config, own), (config.suite, SUITE_OPTIONS), (config.training, training))
    return shlex.join(["python", "-m", "metalora", "compare", *(word for part in parts for word in _options(*part))])


def as_study_command(name: str, config: ComparisonConfig) -> str:
    """`python -m metalora study …` behind the results called STUDY/PART."""
    study, part = name.split("/")
    return shlex.join(
        ["python", "-m", "metalora", "study", study, "--part", part, "--seeds", str(config.seeds), "--final"]
    )


def _options(settings: Any, options: Mapping[str, Option]) -> list[str]:
    default, words = type(settings)(), []
    for name, option in options.items():
        value = getattr(settings, option.field or name)
        if value == getattr(default, option.field or name):
            continue
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            value = [f"{pattern}={rank}" for pattern, rank in value.items()]
        if value is True:
            words.append(flag)
        else:
            for item in value if isinstance(value, tuple | list) else [value]:
                words += [flag, str(item)]
    return words


def as_python(config: RunConfig) -> str:
    """A script that adapts the backbone and trains it on the suite, with what is not at its default."""
    adapter = _call("metalora.AdapterConfig", config.adapter)
    model = f"adapt({config.backbone!r}, {adapter})" if config.start is None else f"load({config.start!r})"
    training = _call("metalora.TrainingConfig", config.training)
    suite = asdict(config.suite)
    default = asdict(type(config.suite)())
    given = "".join(f", {key}={suite[key]!r}" for key in suite if key != "name" and suite[key] != default[key])
    return "\n".join(
        [
            "import metalora",
            "",
            f"model = metalora.{model}",
            f"suite = metalora.load_suite({config.suite.name!r}{given}, seed={config.training.seed})",
            f"for event in metalora.fit(model, suite, {training}):",
            "    print(event.step, event.metrics)",
            "model.save('my-adapter')",
        ]
    )


def _call(name: str, settings: Any) -> str:
    default = type(settings)()
    given = [
        f"{field.name}={getattr(settings, field.name)!r}"
        for field in fields(settings)
        if getattr(settings, field.name) != getattr(default, field.name)
    ]
    if isinstance(settings, AdapterConfig) and not any(text.startswith("method=") for text in given):
        given.insert(0, f"method={settings.method!r}")
    return f"{name}({', '.join(given)})"


def as_json(config: RunConfig) -> str:
    """All settings."""
    return json.dumps(config.to_dict(), indent=1)
