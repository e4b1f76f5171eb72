"""Settings that hypothesis draws survive their way through JSON, the command line and Python; others are a sentence."""

import json
import shlex
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import METHODS
from metalora.cli import app, train
from metalora.cli.as_code import as_command, as_python
from metalora.experiments.config import ComparisonConfig
from metalora.runs.run_config import RunConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError

PATTERNS = st.sampled_from(["layer1", r"^layer2\.\d", "a b", "it's", '"x"', "--odd", "-", "é|ü", r"\\", "$HOME", "a=b"])
LISTS = st.lists(PATTERNS, max_size=3).map(tuple)
COUNTS = st.integers(1, 5_000)
SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = st.floats(0, 0.99)


def some(kind, **values):
    """Settings of which some are drawn."""
    return st.fixed_dictionaries({}, optional=values).map(lambda chosen: kind(**chosen))


ADAPTERS = some(
    AdapterConfig,
    method=st.sampled_from([name for name in METHODS if name != "original"]),
    rank=COUNTS,
    alpha=st.none() | st.floats(1e-6, 1e6),
    targets=st.none() | st.lists(PATTERNS, min_size=1, max_size=3).map(tuple),
    exclude=LISTS,
    modules_to_save=LISTS,
    branches=COUNTS,
    extractor=st.sampled_from(["self", "stem", "resnet20", "a name"]),
    hidden=COUNTS,
    code=COUNTS,
    head_init_std=st.none() | st.floats(0, 10),
    code_norm_limit=st.floats(0, 100),
    rank_pattern=st.dictionaries(PATTERNS, COUNTS, max_size=3),
    dropout=FRACTIONS,
    adapter_dtype=st.sampled_from(["float32", "backbone"]),
)
TRAININGS = some(
    TrainingConfig,
    steps=COUNTS,
    batch_size=COUNTS,
    lr=st.floats(1e-9, 0.99),
    mapping_lr_scale=st.floats(1e-3, 100),
    identity_core_prob=FRACTIONS,
    kl_weight=st.floats(0, 10),
    max_grad_norm=st.floats(1e-3, 100),
    validate_every=COUNTS,
    keep_best=st.booleans(),
    precision=st.sampled_from(["float32", "bfloat16"]),
    device=st.sampled_from(["auto", "cpu", "cuda:3"]),
    seed=SEEDS,
)
SUITES = some(
    SuiteConfig,
    name=st.sampled_from(["digits", "folder:my pictures", "table:it's.csv", "cifar10"]),
    data=st.sampled_from(["data", "a folder", "--odd"]),
    image_size=st.none() | st.integers(8, 1024),
    max_queries=COUNTS,
    max_train_images=st.none() | COUNTS,
    development=st.booleans(),
    label_column=st.sampled_from(["label", "the label"]),
    bands=st.sampled_from([(), (1,), (3, 2, 1)]),
    download=st.booleans(),
)
RUNS = some(
    RunConfig,
    backbone=st.sampled_from(["resnet20", "mixer_nano", "a name"]),
    suite=SUITES,
    adapter=ADAPTERS,
    training=TRAININGS,
    ks=st.lists(COUNTS, min_size=1, max_size=3).map(tuple),
    tune=st.booleans(),
).map(lambda run: replace(run, adapter=replace(run.adapter, seed=run.training.seed)))  # --seed is of both
COMPARISONS = some(
    ComparisonConfig,
    suite=SUITES,
    backbones=st.lists(st.sampled_from(["resnet20", "a name"]), min_size=1, max_size=2, unique=True).map(tuple),
    methods=st.lists(st.sampled_from(["lora", "metalora-tr", "lora@8", "film"]), min_size=1, max_size=3).map(tuple),
    controls=st.booleans(),
    seeds=st.integers(1, 1_000),
    rank=COUNTS,
    training=TRAININGS,
    tune=st.booleans(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(config=RUNS | COMPARISONS)
def test_settings_survive_json(config):
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(config=RUNS)
def test_the_command_line_reads_its_command_back(config):
    read = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "run_settings", lambda given, build=train.run_settings: read.append(build(given)))
        CliRunner().invoke(app, shlex.split(as_command(config))[3:])
    assert read == [config]


@given(config=RUNS)
def test_the_script_makes_the_same_settings(config):
    made = []
    fake = type("metalora", (), {"AdapterConfig": AdapterConfig, "TrainingConfig": TrainingConfig})
    fake.adapt = lambda backbone, adapter: made.append((backbone, adapter))
    fake.load_suite = lambda name, seed, **settings: made.append((SuiteConfig(name, **settings), seed))
    fake.fit = lambda model, suite, training: made.append(training) or []
    lines = [line for line in as_python(config).splitlines() if not line.startswith(("import", "model.save"))]
    exec("\n".join(lines), {"metalora": fake})
    assert made == [(config.backbone, config.adapter), (config.suite, config.training.seed), config.training]


@given(data=st.data())
@pytest.mark.parametrize("kind", [AdapterConfig, RunConfig, ComparisonConfig])
def test_whatever_json_says_is_settings_or_a_sentence(kind, data):
    values = kind().to_dict()
    names = st.sampled_from([field.name for field in fields(kind)]) | st.text(max_size=5)
    for name in data.draw(st.lists(names, max_size=3)):
        values[name] = data.draw(JSON)
    inner = data.draw(st.sampled_from([None, *(name for name in values if isinstance(values[name], dict))]))
    if inner is not None and values[inner]:
        values[inner][data.draw(st.sampled_from(sorted(values[inner])))] = data.draw(JSON)
    try:
        config = kind.from_dict(values)
    except InputError as error:
        assert str(error)
    else:
        assert kind.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(values=JSON)
def test_what_is_no_settings_at_all_is_a_sentence(values):
    if values not in ({},):
        with pytest.raises(InputError):
            RunConfig.from_dict(values)
