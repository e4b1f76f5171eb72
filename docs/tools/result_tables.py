"""The tables of the documentation, computed from assets/results: a header and rows of cells each."""

import statistics
from functools import cache
from typing import Any

import pandas as pd

from metalora.experiments.contexts import context_table
from metalora.experiments.paper_table import paper_table
from metalora.experiments.results import bundled_results, load_bundled
from metalora.experiments.table import NOT_RUN, Cell, Table, format_count, format_percent
from metalora.models.bundled import NAMES, bundled_folder
from metalora.models.saving import WEIGHTS
from metalora.runs.bundled_adapters import read_card

SPLITS = ("seen", "unseen")
GAINS = ("primary", "mixer", "breadth", "field")  # studies of the overview
FACTOR, LATENT, CONSTANT, LORA = "metalora-tr-factors", "metalora-tr", "metalora-tr-constant", "lora-equal-budget"
ALPHABETS = ("balinese", "early_aramaic", "greek", "korean", "latin")
TITLES = {  # of parts of studies
    "primary": "compositions, ResNet-20",
    "mixer": "compositions, Mixer",
    "corruptions": "corruptions",
    "shifts": "ten domain transforms",
    "digits": "digits",
    "rules": "label rules",
    "omniglot": "alphabets",
    "field/corruptions": "15 corruptions",
    "field/rotations": "digits in rotations",
    "field/imagenet": "15 corruptions at 96 pixels",
}
BACKBONES = {"resnet20": "ResNet-20", "mixer_nano": "Mixer", "tf_efficientnet_lite0": "EfficientNet-Lite0"}
HEADLINE = (  # what the mapping net is given, part, row
    ("8 unlabelled images of one task, rotated and recoloured ¹", "primary/main", f"{FACTOR}@8"),
    ("the same, factors of tasks not named in training", "primary/main", f"{LATENT}@8"),
    ("all images of the task ¹", "primary/main", f"{FACTOR}@all"),
    ("one image, corruptions (visible in any image)", "breadth/corruptions-default", LATENT),
    ("one image, rotations and colours (it rarely tells)", "primary/one", LATENT),
    ("8 images, tasks that differ in labels only", "breadth/rules-free", f"{LATENT}@8"),
)


def points(gain: float) -> str:
    """Format a gain in points, with its sign."""
    return f"{100 * gain:+.1f}".replace("-", "−")


@cache
def means_of(part: str, k: int = 5) -> pd.DataFrame:
    """Return the summary of a part on its primary gallery, by (method, task_split)."""
    comparison = load_bundled(part)
    found = comparison.summary.query("gallery == @comparison.primary and k == @k")
    return found.set_index(["method", "task_split"])


@cache
def gains_of(part: str, over_sets: bool = False) -> pd.DataFrame:
    """Return the gains of a part on its primary gallery, by (method, task_split)."""
    comparison = load_bundled(part)
    gains: Any = comparison.set_gains if over_sets else comparison.gains
    found = gains[(gains["k"] == comparison.config.ks[0]) & (gains["gallery"] == comparison.primary)]
    return found.set_index(["method", "task_split"])


def _star(gain: pd.Series) -> str:
    return "\\*" if gain["star"] == "*" else ""


def headline() -> list[list[str]]:
    """Return the table of README: gains over the best static row, in points."""
    table = [["you give it", "tasks seen in training", "new tasks", "seeds"]]
    for title, part, method in HEADLINE:
        gains = [gains_of(part).loc[(method, split)] for split in SPLITS]
        cells = [f"**{points(g['gain'])}**" if g["star"] == "*" else points(g["gain"]) for g in gains]
        table.append([title, *cells, str(load_bundled(part).config.seeds)])
    return table


def title_of(part: str) -> str:
    """Return suite and backbone of a part in words."""
    study, _, name = part.partition("/")
    start = name.partition("-")[0]
    title = TITLES.get(study) or TITLES.get(f"{study}/{start}") or TITLES[start]
    if study not in TITLES:
        title += f" ({name.split('-')[1].replace('_', ' ')})" if name.startswith("omniglot") else ""
        title += f", {BACKBONES[load_bundled(part).config.backbones[0]]}"
    steps = load_bundled(part).config.training.steps
    return f"{title}, {steps:,} steps"


def overview(study: str = "") -> list[list[str]]:
    """Return the gains of every part of the studies over its best static row, seen / unseen."""
    table = [["results", "suite, backbone", "seeds", "codes", "one image", "sets of 8", "all images"]]
    parts = [part for part in bundled_results() if load_bundled(part).gains is not None and "omniglot" not in part]
    shown = [part for part in parts if part.startswith(study or GAINS)]
    for part in sorted(shown, key=lambda part: GAINS.index(part.split("/")[0])):
        gains = gains_of(part)
        for codes, method in (("factor", FACTOR), ("latent", LATENT)):
            rows = (f"{method}@1" if codes == "factor" else method, f"{method}@8", f"{method}@all")
            cells = [_pair(gains, row) for row in rows]
            if set(cells) != {"–"}:
                where = [f"`{part}`", title_of(part), str(load_bundled(part).config.seeds)]
                table.append([*where, codes, *cells])
    return table


def _pair(gains: pd.DataFrame, row: str) -> str:
    if (row, "seen") not in gains.index:
        return "–"
    found = [gains.loc[(row, split)] for split in SPLITS if (row, split) in gains.index]
    return " / ".join(points(gain["gain"]) + _star(gain) for gain in found)


def rows_of_part(part: str) -> list[list[str]]:
    """Return the accuracies of every row of a part, mean ± standard deviation; the best of a column is bold."""
    comparison = load_bundled(part)
    measured = set(comparison.summary["task_split"])  # a suite may have no unseen tasks
    columns_of = [(split, k) for split in SPLITS if split in measured for k in comparison.config.ks]
    table = [["row", "trained parameters", *(f"{split} K={k}" for split, k in columns_of)]]
    variants = [str(variant) for variant in comparison.config.variants]
    eligible = [row for row in variants if not row.endswith("oracle")]  # which is told the answer
    columns = [(means_of(part, k), split) for split, k in columns_of]
    best = [max(means.loc[(row, split), "mean"] for row in eligible) for means, split in columns]
    for row in variants:
        cells = [means.loc[(row, split)] for means, split in columns]
        texts = [format_percent(cell["mean"], cell["std"]) for cell in cells]
        shown = [
            f"**{text}**" if row in eligible and cell["mean"] >= top else text
            for text, cell, top in zip(texts, cells, best, strict=True)
        ]
        table.append([f"`{row}`", _budget(cells[0]), *shown])
    return table


def _budget(row: pd.Series) -> str:
    counts = [count for count in (row["static_parameters"], row["generator_parameters"]) if count]
    return " + ".join(format_count(count) for count in counts) or "0"


def intervals(part: str, *rows: str) -> list[list[str]]:
    """Return gains with their 95 % intervals: over the best static row, and over the best one with the same sets."""
    table = [["row", "tasks", "over", "gain", "95 % interval"]]
    for over_sets in (False, True):
        if over_sets and load_bundled(part).set_gains is None:
            continue
        gains = gains_of(part, over_sets)
        for row in rows or dict.fromkeys(gains.index.get_level_values(0)):
            for split in SPLITS:
                if (row, split) in gains.index:
                    gain = gains.loc[(row, split)]
                    span = f"{points(gain['low'])} to {points(gain['high'])}"
                    table.append([f"`{row}`", split, f"`{gain['against']}`", points(gain["gain"]) + _star(gain), span])
    return table


WORST_PARTS = (
    "primary/main",
    "primary/one",
    "primary/free",
    "mixer/mixer",
    "breadth/corruptions-one",
    "breadth/corruptions-default",
)


def worst_tasks() -> list[list[str]]:
    """Return gains on the worst task over the best static row, with their 95 % intervals, beside those of the means."""
    table = [["results", "row", "tasks", "over", "mean over tasks", "worst task", "95 % interval"]]
    for part in WORST_PARTS:
        worst: Any = load_bundled(part).worst_gains
        for gain in worst.itertuples():
            of_means = gains_of(part).loc[(gain.method, gain.task_split), "gain"]
            span = f"{points(gain.low)} to {points(gain.high)}"
            where = [f"`{part}`", f"`{gain.method}`", gain.task_split, f"`{gain.against}`"]
            table.append([*where, points(of_means), points(gain.gain), span])
    return table


LATENT_PARTS = (  # suite, part of before, part by today's defaults
    ("ten domain transforms", "breadth/shifts", "breadth/shifts-free"),
    ("corruptions", "breadth/corruptions", "breadth/corruptions-free"),
    ("compositions, ResNet-20", "primary/main", "primary/free"),
    ("digits", "breadth/digits", "breadth/digits-free"),
    ("label rules", "breadth/rules", "breadth/rules-free"),
    ("compositions, Mixer", "mixer/mixer", "mixer/free"),
)


def latent_codes(size: str) -> list[list[str]]:
    """Return gains of latent codes as they were trained before and as they are by today's defaults."""
    row = LATENT if size == "1" else f"{LATENT}@{size}"
    table = [["suite", "before", "today"]]
    for title, *parts in LATENT_PARTS:
        cells = []
        for part in parts:
            text = _pair(gains_of(part), row)
            cells.append(text if text == "–" else f"{text} (`{part}`, {load_bundled(part).config.seeds} seeds)")
        table.append([title, *cells])
    return table


ALPHABET_ROWS = (LORA, CONSTANT, LATENT, f"{LATENT}@8", f"{LATENT}@all")


def alphabets() -> list[list[str]]:
    """Return accuracies with each alphabet held out in turn, seen / unseen."""
    table = [["held out", *(f"`{row}`" for row in ALPHABET_ROWS), "`@8`, trained as before"]]
    for alphabet in ALPHABETS:
        parts = [(f"breadth/omniglot-{alphabet}-free", row) for row in ALPHABET_ROWS]
        parts.append((f"breadth/omniglot-{alphabet}", f"{LATENT}@8"))
        cells = [_accuracies(part, row) for part, row in parts]
        table.append([alphabet.replace("_", " ").title(), *cells])
    return table


def _accuracies(part: str, row: str) -> str:
    return " / ".join(format_percent(means_of(part).loc[(row, split), "mean"]) for split in SPLITS)


def alphabet_means() -> list[list[str]]:
    """Return the mean over five alphabets of gains over LoRA and over the constant core, with its standard error."""
    table = [["backbone, codes", "row", "accuracy", "over LoRA", "over the constant core"]]
    for title, ending in (("ResNet-20, today", "-free"), ("ResNet-20, before", ""), ("Mixer, today", "-mixer")):
        parts = [f"breadth/omniglot-{alphabet}{ending}" for alphabet in ALPHABETS]
        for row in (LATENT, f"{LATENT}@8", f"{LATENT}@all"):
            if all((row, "seen") in means_of(part).index for part in parts):
                means = " / ".join(format_percent(statistics.mean(_of(parts, row, split))) for split in SPLITS)
                table.append([title, f"`{row}`", means, _over(parts, row, LORA), _over(parts, row, CONSTANT)])
    return table


def _of(parts: list[str], row: str, split: str) -> list[float]:
    return [float(means_of(part).loc[(row, split), "mean"]) for part in parts]


def _over(parts: list[str], row: str, base: str) -> str:
    cells = []
    for split in SPLITS:
        gains = [a - b for a, b in zip(_of(parts, row, split), _of(parts, base, split), strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        cells.append(f"{points(statistics.mean(gains))} ({100 * error:.1f})")
    return " / ".join(cells)


def below_constant() -> list[list[str]]:
    """Return generated rows that lie below the constant core by more than the standard error over seeds."""
    table = [["part", "row", "seen", "unseen"]]
    for part in bundled_results():
        comparison = load_bundled(part)
        generated = [str(v) for v in comparison.config.variants if v.generated and v.method == "metalora-tr"]
        if (
            CONSTANT not in map(str, comparison.config.variants)
            or "/" not in part
            or part.startswith("map")
            or "omniglot" in part
        ):
            continue
        for row in generated:
            cells = [_below(part, row, split) for split in SPLITS]
            if set(cells) != {"–"}:
                table.append([f"`{part}`", f"`{row}`", *cells])
    return table


def _below(part: str, row: str, split: str) -> str:
    comparison = load_bundled(part)
    place = (comparison.primary, split, comparison.config.ks[0])
    rows = comparison.rows.set_index(["gallery", "task_split", "k"])
    if place not in rows.index:
        return "–"
    by_seed = rows.loc[[place]].pivot_table(index="seed", columns="method", values="accuracy")
    if row not in by_seed or CONSTANT not in by_seed:
        return "–"
    gains = (by_seed[row] - by_seed[CONSTANT]).dropna()
    error = gains.std() / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    if -gains.mean() <= error:
        return "–"
    return points(gains.mean()) + (f" ({100 * error:.1f})" if len(gains) > 1 else "")


def by_backbone(part: str) -> list[list[str]]:
    """Return the mean accuracies of a result's rows on every backbone."""
    comparison = load_bundled(part)
    backbones, ks = comparison.config.backbones, comparison.config.ks
    columns = [(backbone, split, k) for backbone in backbones for split in SPLITS for k in ks]
    table = [["row", *(f"{backbone} {split} K={k}" for backbone, split, k in columns)]]
    found = comparison.summary.query("gallery == @comparison.primary")
    found = found.set_index(["method", "backbone", "task_split", "k"])["mean"]
    variants = [str(variant) for variant in comparison.config.variants]
    best = {column: max(found[(row, *column)] for row in variants) for column in columns}
    for row in variants:
        values = [(found[(row, *column)], best[column]) for column in columns]
        cells = [f"**{format_percent(v)}**" if v >= top else format_percent(v) for v, top in values]
        table.append([f"`{row}`", *cells])
    return table


def paper() -> list[list[str]]:
    """Return the paper's Table I, as printed there."""
    return _as_text(paper_table())


def contexts(part: str, what: str = "mean") -> list[list[str]]:
    """Return accuracies by the images of a set, mean over tasks or of the worst task."""
    comparison = load_bundled(part)
    table = context_table(comparison, comparison.config.backbones[0], worst=what == "worst")
    header = ["training", *(size for _, size in table.columns[1:])]
    rows = [["–" if cell == NOT_RUN else cell for cell in row] for row in _as_text(table)[1:]]
    return [header, *([f"`{name}`", *cells] for name, *cells in rows)]


def _as_text(table: Table) -> list[list[str]]:
    return [table.header, *([_text(cell) for cell in row] for row in table.rows)]


def _text(cell: Cell) -> str:
    text = cell.text.replace("*", "\\*")
    return f"**{text}**" if cell.bold else text


def bundled_adapters() -> list[list[str]]:
    """Return the bundled adapters with what their cards say."""
    table = [["adapter", "trained on", "parameters", "validation", "seen K=5", "unseen K=5"]]
    for name in NAMES:
        if (bundled_folder(name) / WEIGHTS).exists():
            result = read_card(bundled_folder(name))["result"]
            found = {
                row["task_split"]: row["accuracy"]
                for row in result["rows"]
                if row["k"] == 5 and row["gallery"] == result["primary"]
            }
            shown = [format_percent(value) for value in (result["validation"], *(found[split] for split in SPLITS))]
            table.append([f"`{name}`", result["suite"], _budget(pd.Series(result)), *shown])
    return table
