"""What `bash tests/gpu/run.sh` does beside these tests: tried on the CPU, with small shapes."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from suite_checks import write_images

from metalora.experiments.config import ComparisonConfig
from metalora.experiments.results import load_comparison
from metalora.experiments.studies import Study, run_part, run_settings
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.training.config import TrainingConfig

sys.path.insert(0, str(Path(__file__).parent))
import seeds
import times
import wheels

ROOT = Path(__file__).parents[2]


def test_seeds_that_a_study_lacks_are_trained_and_taken_into_its_results(tmp_path, capsys):
    pytest.importorskip("scipy")  # for the table of the results
    for seed, path in enumerate(("a/cat", "a/dog", "b/cat", "b/dog")):
        write_images(tmp_path / "images" / path, 12, seed)
    suite = SuiteConfig("folder:images", image_size=8)
    training = TrainingConfig(steps=2, batch_size=16, device="cpu")
    settings = {"backbones": ("resnet20",), "methods": ("lora", "metalora-cp"), "rank": 2, "training": training}
    config = ComparisonConfig(suite, seeds=2, **settings)
    absent = replace(config, suite=SuiteConfig("folder:absent.zip"))
    studies = {"mine": Study("", {"part": config, "absent": absent})}
    results, new, old = tmp_path / "results", tmp_path / "new", tmp_path / "old"

    def run(seeds, work):
        part = run_settings(config, data=str(tmp_path), final=True, seeds=seeds)
        return list(run_part(part, results / "mine" / "part", work, load_suite(part.suite), n_jobs=1))

    assert len(run(1, old)) == 2
    pairs = list(seeds.missing(new, str(tmp_path), studies, results))
    assert "mine, absent: 4 trainings are left out" in capsys.readouterr().out
    assert [(job.training.seed, str(job.trained)) for job, _ in pairs] == [(1, "lora"), (1, "metalora-cp")]
    assert all(seeds.attempt(*pair).endswith(": done") for pair in pairs)
    assert not list(seeds.missing(new, str(tmp_path), studies, results))
    assert all(job.ran == 0 for job in run(2, new / "final" / "mine" / "part"))
    assert set(load_comparison(results / "mine" / "part" / "comparison.json").rows["seed"]) == {0, 1}


def test_every_way_that_is_timed_has_a_file_of_its_own(tmp_path):
    pairs = [(config, batch) for config in times.configs("cuda") for batch in config.batches]
    files = {times.file_of(tmp_path, *pair) for pair in pairs}
    assert len(files) == len(pairs) == 36
    assert {batch for _, batch in pairs} == {1, 32, 256}


def test_wheels_have_what_these_tests_import():
    tests = ROOT / "tests"
    files = [
        tests / "conftest.py",
        tests / "suite_checks.py",
        tests / "adapters/cases.py",
        *(tests / "gpu").glob("*.py"),
    ]
    imported = {name.partition(".")[0] for file in files for name in imports(ast.parse(file.read_text("utf-8")))}
    sources = {name: {*map(canonicalize_name, found)} for name, found in packages_distributions().items()}
    carried = {*wheels.needed("3.12"), *wheels.THERE, "metalora"}
    assert [name for name in sorted(imported & sources.keys()) if not sources[name] & carried] == []


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.slow
def test_all_of_it_on_the_cpu_twice(tmp_path):
    environment = os.environ | {"PYTHON": sys.executable, "TOTAL": "2000", "TESTS": "1200", "DATA": str(tmp_path)}
    written = []
    for _ in range(2):
        command = ["bash", "tests/gpu/run.sh", "--device", "cpu", str(tmp_path / "gpu")]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        files = sorted((tmp_path / "gpu" / "times").iterdir())
        written.append([file.stat().st_mtime_ns for file in files])
    assert written[0] == written[1]  # nothing is measured twice
    assert [file.name for file in files] == ["resnet20-1-float32.json", "resnet20-2-float32.json"]
    assert {row["variant"] for row in json.loads(files[0].read_text())["rows"]} == {"plain", "peft-lora", "metalora-tr"}
    rows = [json.loads(line) for line in (tmp_path / "gpu" / "tests.jsonl").read_text().splitlines()]
    assert {"format", "embedding", "training", "resuming"} <= {row["test"] for row in rows}
    assert "0 trainings are missing" in done.stdout
