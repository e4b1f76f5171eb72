"""Real commands that are killed at a moment, in the middle of a write too, and resumed; what they end with."""

import json
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from calling import SMALL

from metalora import cli
from metalora.adapters.config import AdapterConfig
from metalora.experiments.job_files import JOBS, running_jobs
from metalora.runs.failures import KILLED
from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import CHECKPOINT, EVENTS, RunState
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.files import read_state

ROOT = Path(__file__).parents[1]
FAULT, FAULTS = "METALORA_TEST_FAULT", ROOT / "tests" / "resilience" / "faults"
PATIENCE = 600  # seconds: commands import torch on a machine that may be busy
TIMES = {"ms_per_step", "images_per_second", "seconds_left", "waiting"}  # which no two runs share


@dataclass(frozen=True)
class After:
    """A kill so many seconds after so many steps."""

    steps: int
    seconds: float


@dataclass(frozen=True)
class Write:
    """A kill while a file is written: "torn" (half of it on the disk), "whole" (without its name) or "named".

    With "full" the disk is full instead, for this file and from then on.
    """

    file: str
    moment: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.file} {self.moment} {self.count}"


def wait_for(condition: Any, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def start(words: list[str], log: Path, fault: Write | None = None, **environment: str) -> subprocess.Popen:
    """Start a command in a group of processes of its own."""
    paths = [str(FAULTS), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    environment |= {FAULT: str(fault)} if fault else {}
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=out, stderr=out, start_new_session=True
        )


def step_of(checkpoint: Path) -> int:
    return read_state(checkpoint)["step"] if checkpoint.exists() else 0


def without_times(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: without_times(value) for name, value in node.items() if name not in TIMES}
    return [without_times(value) for value in node] if isinstance(node, list) else node


class Train:
    """`metalora train` in a folder."""

    steps = 60
    writes = ("checkpoint.safetensors", "run.json", "result.json", "adapter.safetensors", "events.jsonl")

    def __init__(self, root: Path):
        root.mkdir(parents=True)
        self.folder, self.log = root / "run", root / "log.txt"

    @property
    def words(self) -> list[str]:
        options = [*SMALL, "--steps", str(self.steps), "--rank", "2", "--dropout", "0.1", "--validate-every", "20"]
        return ["train", str(self.folder), *options]

    def start(self, fault: Write | None = None) -> None:
        self.process = start(["-m", "metalora", *self.words], self.log, fault)

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(PATIENCE)

    def done(self) -> int:
        """Return how many steps are done."""
        file = self.folder / EVENTS
        whole = [line for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []
        return json.loads(whole[-1])["step"] if whole else 0

    def saved(self) -> int:
        """Return how many of them a resumed run does not do again."""
        return step_of(self.folder / CHECKPOINT)

    def outcome(self) -> dict[str, Any]:
        """Return what the run ended with: contents of files, apart from times."""
        files = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
        events = [without_times(json.loads(line)) for line in (self.folder / EVENTS).read_text().splitlines()]
        bits = {name: (self.folder / name).read_bytes() for name in ("result.json", "adapter/adapter.safetensors")}
        return {"files": files - {"log.txt"}, "events": events, **bits}


class Compare(Train):
    """`metalora compare` in two processes: three trainings, one of which has a reader of factors."""

    steps = 40
    methods = ("lora", "lora@4-inverted", "metalora-tr", "metalora-tr-shuffled")
    with_reader = ("lora",)  # trainings that take as many steps again
    writes = ("lora-*.safetensors", "metalora-tr*.json", "*.reader.safetensors", "*.steps", "comparison.json")

    @property
    def words(self) -> list[str]:
        options = [*SMALL, "--steps", str(self.steps), "--rank", "2", "--backbone", "resnet20", "--jobs", "2"]
        options += [word for method in self.methods for word in ("--method", method)]
        return ["compare", "--out", str(self.folder), *options]

    @property
    def jobs(self) -> Path:
        return self.folder / JOBS

    def done(self) -> int:
        running = running_jobs(self.jobs.parent)
        steps = [self.steps * (2 if job.name.startswith(self.with_reader) else 1) for job in running]
        return self.finished() + sum(round(job.fraction * n) for job, n in zip(running, steps, strict=True))

    def finished(self) -> int:
        return self.steps * len(list(self.jobs.glob("[!.]*.json")))

    def saved(self) -> int:
        unfinished = [
            file
            for file in self.jobs.glob("[!.]*.safetensors")
            if file.suffixes[:-1] in ([], [".reader"])  # not embeddings
            and not any((self.jobs / f"{key}.json").exists() for key in (file.stem, file.stem.rpartition(".")[0]))
        ]
        return self.finished() + sum(map(step_of, unfinished))

    def outcome(self) -> dict[str, Any]:
        results = {file.name: without_times(json.loads(file.read_text())) for file in self.jobs.glob("*.json")}
        table = without_times(json.loads((self.folder / "comparison.json").read_text()))
        return {"files": {file.name for file in self.jobs.iterdir()}, **results, "table": table}


class Study(Compare):
    """`metalora study` with a small study of this test's."""

    with_reader = ()
    writes = ("lora*.safetensors", "metalora-tr*.json", "comparison.json", "comparison.md", "images.txt")
    code = """
import sys
from metalora.cli import main
from metalora.experiments import studies
studies.STUDIES["small"] = studies.Study("Does it survive?", {"one": studies.ComparisonConfig.from_dict({CONFIG})})
main(sys.argv[1:])
"""

    @property
    def jobs(self) -> Path:
        return self.folder / "work" / "development" / "small" / "one" / JOBS

    def start(self, fault: Write | None = None) -> None:
        config = {
            "suite": {"name": "digits", "image_size": 8, "max_queries": 40},
            "backbones": ["resnet20"],
            "methods": list(self.methods[::2]),
            "rank": 2,
            "training": {"steps": self.steps, "batch_size": 16, "device": "cpu"},
        }
        place = ["--out", str(self.folder / "out"), "--work", str(self.folder / "work"), "--jobs", "2"]
        code = self.code.replace("{CONFIG}", repr(config))
        self.process = start(["-c", code, "study", "small", *place], self.log, fault)

    def outcome(self) -> dict[str, Any]:
        out = self.folder / "out" / "small" / "one"
        results = {file.name: without_times(json.loads(file.read_text())) for file in self.jobs.glob("*.json")}
        table = without_times(json.loads((out / "comparison.json").read_text()))
        return {"files": {file.name for file in self.jobs.iterdir()}, **results, "table": table}


class Worker(Train):
    """A run of the app, by its queue."""

    def __init__(self, root: Path):
        self.workspace = Workspace(root / "workspace")
        self.visitor = self.workspace.new_visitor()
        config = RunConfig(
            suite=SuiteConfig(image_size=8, max_queries=40),
            adapter=AdapterConfig("metalora-tr", rank=2, dropout=0.1),
            training=TrainingConfig(steps=self.steps, batch_size=16, device="cpu", validate_every=20),
        )
        self.run = self.workspace.prepare_run(self.visitor, config)
        self.folder = self.workspace.run_folder(self.visitor, self.run)
        self.queue = RunQueue(self.workspace)

    def start(self, fault: Write | None = None) -> None:
        before = os.environ.get("PYTHONPATH")
        os.environ.update({FAULT: str(fault) if fault else "", "PYTHONPATH": str(FAULTS)})
        try:
            self.queue.submit(self.visitor, self.run)
            wait_for(lambda: self.queue._active[self.folder].process is not None if self.queue._active else False)
            self.process = self.queue._active[self.folder].process
        finally:
            del os.environ[FAULT]
            os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)

    def alive(self) -> bool:
        return self.queue.status(self.visitor, self.run).state.active

    def end(self) -> int:
        wait_for(lambda: not self.alive())
        status = self.queue.status(self.visitor, self.run)
        if status.state is RunState.FINISHED:
            self.queue.close()
            return 0
        assert (status.state, status.reason) == (RunState.FAILED, KILLED)
        return -signal.SIGKILL


SUBJECTS: dict[str, type[Train]] = {"train": Train, "compare": Compare, "study": Study, "worker": Worker}


class Forked:
    """A process forked from one that has imported what a command needs, so that it starts in no time.

    It is used like one of subprocess; it has one thread, and so may have no processes of its own.
    """

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killing", "metalora.runs.execute", "sklearn.datasets"])

    def __init__(self, words: list[str], log: Path, fault: Write | None):
        self.process = self.context.Process(target=call, args=(words, log, fault))
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, seconds: float) -> int | None:
        self.process.join(seconds)
        return self.process.exitcode


def call(words: list[str], log: Path, fault: Write | None) -> None:
    """Execute a command line in this process, which leads a group of its own."""
    os.setsid()
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    if fault is not None:
        runpy.run_path(str(FAULTS / "sitecustomize.py"))["install"](str(fault))
    torch.set_num_threads(1)
    cli.main(words)


class ForkedTrain(Train):
    steps = 24

    def start(self, fault: Write | None = None) -> None:
        self.process = Forked(self.words, self.log, fault)


class ForkedCompare(Compare):
    steps, methods, with_reader = 16, ("metalora-tr", "metalora-tr-constant"), ()

    def start(self, fault: Write | None = None) -> None:
        self.process = Forked([*self.words, "--jobs", "1"], self.log, fault)


def random_moments(subject: type[Train], count: int, seed: int) -> list[After | Write]:
    """Draw moments of a subject, ever later: every other one while a file is written, a checkpoint first."""
    rng = random.Random(seed)
    files = [subject.writes[0], *rng.sample(subject.writes[1:], len(subject.writes) - 1)]
    writes = [Write(file, rng.choice(("torn", "whole", "named"))) for file in files]
    steps = sorted(rng.sample(range(subject.steps), -(-count // 2)))
    times = [After(step, rng.random()) for step in steps]
    return [moment for pair in zip(times, writes * count, strict=False) for moment in pair][:count]


def survive(kind: type[Train], root: Path, moments: list[After | Write]) -> tuple[list[int], list[dict[str, Any]]]:
    """Run a subject to its end through kills at these moments, in new folders where it ends before the next one.

    Returns:
        The steps lost by each kill, and the outcome of each folder.
    """
    lost, outcomes, subject = [], [], kind(root / "0")
    for moment in moments:
        while not killed(subject, moment):
            outcomes.append(subject.outcome())
            subject = kind(root / str(len(outcomes)))
            assert len(outcomes) <= len(moments), f"{moment} never comes"
        lost.append(max(0, subject.done() - subject.saved()))  # what is done is known a little late
    subject.start()
    assert subject.end() == 0
    return lost, [*outcomes, subject.outcome()]


def killed(subject: Train, moment: After | Write) -> bool:
    """Run a subject up to a moment, and kill it; return whether the moment came before its end."""
    subject.start(moment if isinstance(moment, Write) else None)
    if isinstance(moment, After):
        wait_for(lambda: subject.done() >= moment.steps or not subject.alive())
        time.sleep(moment.seconds)
        if subject.alive():
            subject.kill()
    code = subject.end()
    assert code in (0, -signal.SIGKILL)
    return code != 0
