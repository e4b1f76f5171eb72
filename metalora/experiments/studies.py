"""Studies: named lists of comparisons, one behind every figure and table of the README's "What we found".

A study is developed on seen tasks and validation images only, see `develop`. Its final run is scored on tasks and
pictures that no choice has seen; every such run is logged beside its results:

assets/results/STUDY/PART/comparison.json   rows over seeds with their configuration, after every training
assets/results/STUDY/PART/comparison.md     the same as a table to read
assets/results/STUDY/final.jsonl            when the final run was called, with which version and settings
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd

from metalora.experiments.comparison import RESULTS, Comparison
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.results import FOLDER, as_jobs, load_comparison
from metalora.experiments.runner import JobDone, job_file, jobs_of, read_comparison, run_comparison
from metalora.experiments.table_writers import to_markdown
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError, choices
from metalora.util.files import write_text
from metalora.version import __version__

LOG = "final.jsonl"
TABLE = "comparison.md"
UNSEEN = 16  # of the 48 compositions, others for every seed
NAMED = tuple(f"metalora-tr-factors@{size}" for size in (1, 8, "all"))
_USES = ("", "-routed", "-bn-adapted")
STATIC = ("lora-equal-budget", *(f"lora-equal-budget@{size}{set_use}" for size in (8, "all") for set_use in _USES))


@dataclass(frozen=True)
class Study:
    """A named list of comparisons.

    Attributes:
        question: what it answers.
        parts: comparisons by name, the ones that decide first.
    """

    question: str
    parts: dict[str, ComparisonConfig]


def _compositions(*methods: str, **settings: object) -> ComparisonConfig:
    """CIFAR-10 under compositions of rotation, channel order and inversion, on the ResNet, steps of 128 images.

    Args:
        settings: of the comparison and of its training, where they are others.
    """
    trained = {field.name for field in fields(TrainingConfig)}
    own = {name: settings.pop(name) for name in trained & settings.keys()}
    training = {"steps": 1200, "lr": 6e-3} | own
    base = ComparisonConfig(
        suite=SuiteConfig("cifar10-compositions", draw_unseen=UNSEEN, max_queries=3000),
        backbones=("resnet20",),
        methods=methods,
        seeds=8,
        rank=3,
        hidden=16,
        training=TrainingConfig(batch_size=128, precision="bfloat16", **training),
    )
    return replace(base, **settings)


def _on_mixer(config: ComparisonConfig) -> ComparisonConfig:
    """The same on the network without convolutions, which has no BatchNorm to renormalise."""
    methods = tuple(name for name in config.methods if not name.endswith("-bn-adapted"))
    return replace(config, backbones=("mixer_nano",), methods=methods)


def _on(suite: str, *methods: str, hold_out: tuple[str, ...] = (), **settings: object) -> ComparisonConfig:
    """Another suite, three seeds, 600 steps."""
    config = SuiteConfig(suite, hold_out=hold_out, max_queries=3000)
    return _compositions(*methods, steps=600, suite=config, **{"seeds": 3, **settings})


# How free codes were trained before today's defaults. Sets learn in either way; with single images most trainings
# from wide first cores fall behind a constant core.
_UNBOUNDED = {"code_norm_limit": 0.0}
_ALWAYS = {"identity_core_prob_sets": 0.0, **_UNBOUNDED}  # sets always got their own core
_WIDE, _NARROW = (
    {"head_init_std": 0.1, "identity_core_prob": 0.0, **_ALWAYS},
    {"head_init_std": 0.01, "identity_core_prob": 0.0, **_UNBOUNDED},
)
_FREE = ("original", *STATIC, "metalora-tr-constant", "metalora-tr", "metalora-tr@8", "metalora-tr@all")
_WITHIN = ("original", "lora-equal-budget", "metalora-tr-constant", "metalora-tr", "metalora-tr@8")
_ONE = ("lora-equal-budget", "metalora-tr-factors@8", "metalora-tr-constant", "metalora-tr")
_UNDONE = ("original@8-inverted", "original@all-inverted", "lora-equal-budget@8-inverted")
OMNIGLOT = "folder:omniglot_small1.zip"  # B. Lake et al., Science 2015; below --data
ALPHABETS = ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")
_CEILING = ("metalora-tr-factors-oracle", "metalora-tr-factors-shuffled@8")
_PAIR = ("lora-equal-budget", *NAMED)
_SIZES = tuple(f"metalora-tr-factors@{size}" for size in (1, 2, 4, 8, 32, "all"))
_BREADTH = {
    "corruptions": _on("cifar10-corruptions", *_FREE, "metalora-tr-factors@8", "metalora-tr-factors@all", **_WIDE),
    "shifts": _on("cifar10", *_FREE, **_WIDE),
    "rules": _on("cifar10-rules", *_WITHIN, **_WIDE),
    "digits": _on("digits", *_FREE, "metalora-tr-factors@8", "metalora-tr-factors@all", **_WIDE),
    **{f"omniglot-{name.lower()}": _on(OMNIGLOT, *_WITHIN, hold_out=(name,), **_ALWAYS) for name in ALPHABETS},
}
# Free codes by today's defaults.
_SETS = ("lora-equal-budget", "metalora-tr-constant", "metalora-tr", "metalora-tr@8", "metalora-tr@all")
_BESIDE_NAMED = (*_SETS, "metalora-tr-factors@8")  # whose budget the equal one gets, as where it competes
_BY_DEFAULT = {
    "corruptions-free": _on("cifar10-corruptions", *_BESIDE_NAMED),
    "shifts-free": _on("cifar10", "original", *_SETS),
    "rules-free": _on("cifar10-rules", "original", *_SETS),
    "digits-free": _on("digits", *_BESIDE_NAMED),
    **{f"omniglot-{name.lower()}-free": _on(OMNIGLOT, *_SETS, hold_out=(name,)) for name in ALPHABETS},
}
_TASKS = {seen: SuiteConfig("cifar10-compositions", draw_unseen=48 - seen, max_queries=3000) for seen in (2, 8)}

STUDIES = {
    "primary": Study(
        "Where images' tasks conflict, by how much does a generated adapter beat a static one of equal budget?",
        {
            "main": _compositions(
                *("original", *STATIC, *NAMED, *_CEILING, "metalora-tr-constant", "metalora-tr@8", "metalora-tr@all"),
                **_WIDE,
            ),
            "one": _compositions(*_ONE, seeds=6, **_NARROW),
            "free": _compositions(*_BESIDE_NAMED, seeds=3),
            "more": _compositions(
                "original@8-bn-adapted",
                *_UNDONE,
                "lora",
                "multi-lora",
                "lora-factors",
                "metalora-tr",
                "metalora-tr-factors@8",  # whose budget the equal one gets
                "metalora-cp-factors@8",
                "film-factors@8",
                "film-factors@all",
                seeds=3,
                **_WIDE,
            ),
            # Fine-tuning wants a smaller rate than adapters do.
            "full": _compositions("full", "full@8", "full@8-routed", lr=1e-3, seeds=3),
            **{f"steps-{n}": _compositions(*_PAIR, steps=n, seeds=3) for n in (2400, 4800)},
        },
    ),
    "mixer": Study(
        "Does the same hold on a network without convolutions?",
        {
            "mixer": _on_mixer(
                _compositions(
                    *("original", *STATIC, *NAMED, *_CEILING, "metalora-tr-constant", "metalora-tr"), seeds=6, **_WIDE
                )
            ),
            "one": _on_mixer(_compositions(*_ONE, seeds=1, **_UNBOUNDED)),
            "free": _on_mixer(_compositions(*_SETS, seeds=3)),
        },
    ),
    "map": Study(
        "How does the gain depend on steps, budget, number of tasks and size of the set?",
        {
            "steps-1200": _compositions("lora-equal-budget", *_SIZES, rank=2, seeds=3),
            **{f"steps-{n}": _compositions(*_PAIR, steps=n, rank=2, seeds=3) for n in (600, 2400)},
            # Parameters in all; steps-1200 has 40 k, the first part of the primary study 80 k.
            "budget-20k": _compositions(*_PAIR, rank=1, seeds=3),
            "budget-10k": _compositions(*_PAIR, rank=1, hidden=4, seeds=3),
            **{f"tasks-{n}": _compositions(*_PAIR, rank=2, seeds=3, suite=suite) for n, suite in _TASKS.items()},
        },
    ),
    "breadth": Study(
        "Does generation pay on other suites, and does it fail to where no pixel tells the task?",
        # A shift that cannot be undone: what is claimed rests on it, so it gets the seeds that a star needs.
        _BREADTH
        | {"corruptions": replace(_BREADTH["corruptions"], seeds=6)}
        | {"corruptions-one": _on("cifar10-corruptions", *_ONE, seeds=6, **_NARROW)}
        | _BY_DEFAULT
        | {
            f"{name.removesuffix('-free')}-mixer": _on_mixer(replace(part, methods=_WITHIN))
            for name, part in _BY_DEFAULT.items()
        },
    ),
}


def study(name: str) -> Study:
    """The study called so; an unknown name is an InputError that lists them."""
    if name not in STUDIES:
        raise InputError(f"Unknown study {name!r}: use {choices(name, STUDIES)}.")
    return STUDIES[name]


def settings(
    config: ComparisonConfig, *, data: str, final: bool, seeds: int | None = None, download: bool = False
) -> ComparisonConfig:
    """A part's comparison as it is run: data below a folder, development or final, fewer seeds where asked."""
    suite = replace(config.suite, data=data, development=not final, download=download)
    head, colon, path = suite.name.partition(":")
    if colon:
        suite = replace(suite, name=f"{head}:{Path(data) / path}")
    return replace(config, suite=suite, seeds=min(config.seeds, seeds or config.seeds))


def run_part(
    config: ComparisonConfig, out: Path, work: Path, primary: str, n_jobs: int | None, notes: Sequence[str] = ()
) -> Iterator[JobDone]:
    """Run what is missing of a part; write `out`/comparison.json from what is there, and after every training.

    Args:
        out: folder of the results; trainings that an earlier run left there are neither repeated nor lost, those of
            more seeds included.
        work: folder of the single trainings.
        primary: the suite's gallery that counts.
        notes: sentences to stand below the table.

    Raises:
        InputError: see `stored_results`; as `run_comparison` says.
    """
    kept = config
    if (found := stored_results(config, out / RESULTS)) is not None:
        kept = replace(config, seeds=max(config.seeds, found.config.seeds))
        for job, result in as_jobs(found):
            if not job_file(work, job).exists():
                write_text(job_file(work, job), json.dumps(result) + "\n")

    def write() -> None:
        write_results(read_comparison(kept, work, primary, notes, partial=True), out)

    if any(job_file(work, job).exists() for job in jobs_of(kept)):
        write()
    for job in run_comparison(config, work, n_jobs=n_jobs):
        if job.ran:
            write()
        yield job


def write_results(comparison: Comparison, out: Path) -> None:
    """Write the rows; of single tasks only those of the primary gallery at the first K, to keep the file small."""
    tasks = comparison.tasks
    if len(tasks):
        tasks = tasks[(tasks["gallery"] == comparison.primary) & (tasks["k"] == comparison.config.ks[0])]
    small = replace(comparison, tasks=tasks, confusion=pd.DataFrame())
    write_text(out / RESULTS, json.dumps(small.to_dict()) + "\n")
    write_text(out / TABLE, to_markdown(small.table()))


def stored_results(config: ComparisonConfig, file: Path) -> Comparison | None:
    """What an earlier run left of a part in `file`, wherever its data lay; None: nothing.

    Raises:
        InputError: the file is damaged, or has trainings that are not of these settings and would be lost.
    """
    if not file.exists():
        return None
    found = load_comparison(file)
    suite = found.config.suite
    if _file_name(suite.name) == _file_name(config.suite.name):
        suite = replace(suite, name=config.suite.name, data=config.suite.data)
    found = replace(found, config=replace(found.config, suite=suite))
    seeds = max(config.seeds, found.config.seeds)
    wanted = {job.key for job in jobs_of(replace(config, seeds=seeds))}
    strange = [job for job, _ in as_jobs(found) if job.key not in wanted]
    if strange:
        raise InputError(
            f"{file} has trainings of other settings, {strange[0].variants[0]} among them: choose another --out, or move "
            "it away."
        )
    return found


def _file_name(suite: str) -> str:
    return suite.rpartition(":")[2].rpartition("/")[2]


def read_map(folder: Path) -> dict[str, Comparison]:
    """The finished parts of the study "map" below a folder, and the first one of "primary", as `gain_map` takes them.

    Raises:
        InputError: a file is damaged.
    """
    places = {part: folder / "map" / part / RESULTS for part in STUDIES["map"].parts}
    places["budget-80k"] = folder / "primary" / "main" / RESULTS
    found = {part: load_comparison(file) for part, file in places.items() if file.exists()}
    return {part: comparison for part, comparison in found.items() if not comparison.missing}


def log_final(name: str, parts: dict[str, ComparisonConfig], folder: Path = FOLDER) -> None:
    """Add a line to the study's log: final tasks and pictures are about to be scored."""
    file = folder / name / LOG
    line = {"date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "version": __version__}
    line["parts"] = {part: {"seeds": c.seeds, "steps": c.training.steps} for part, c in parts.items()}
    earlier = file.read_text(encoding="utf-8") if file.exists() else ""
    write_text(file, earlier + json.dumps(line) + "\n")
