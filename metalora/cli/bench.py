"""`bench`: what adapters cost beside the plain model."""

from typing import Annotated, Any

import typer

from metalora.cli.messages import Bar, write_json
from metalora.cli.options import OUTPUT, Flag, Many, Option, Text, Whole, settings, verb

BENCH = "experiments/bench:BenchConfig"
OPTIONS = {
    "model": Option(Many, "Bundled backbone or timm name, with random weights; repeatable.", BENCH, "models"),
    "batch_size": Option(list[int] | None, "Images of a pass; repeatable.", BENCH, "batches"),
    "rounds": Option(Whole, "Times that everything is measured, in turns.", BENCH),
    "threads": Option(Whole, "Threads of the processor; left out: as torch has it.", BENCH),
    "device": Option(Text, "auto, cuda, mps or cpu.", BENCH),
    "precision": Option(Text, "float32 or bfloat16.", BENCH),
    "compile": Option(Flag, "Compile all networks; where that fails, say so and go on.", BENCH, names=("--compile",)),
    "seed": Option(Whole, "Decides weights and images.", BENCH),
}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "bench", bench, OPTIONS, OUTPUT)


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="ResNet-18 at 224 pixels, 32 images: minutes.")] = False,
    **given: Any,
) -> None:
    """Measure times and memory of plain, frozen, PEFT's and our models, in turns, as ratios.

    Needs the package peft: pip install .[bench]
    """
    from metalora.experiments.bench import QUICK, BenchConfig, machine, run_bench

    plural = {"model": "models", "batch_size": "batches"}
    values = {plural.get(name, name): value for name, value in given.items() if name != "json"}
    config = settings(BenchConfig, values, base=QUICK if quick else None)
    rows: list[dict[str, Any]] = []
    total = len(config.models) * len(config.batches)
    with Bar("Measuring") as bar:
        bar.tell(0, total, config.models[0])
        for done, measured in enumerate(run_bench(config), 1):
            rows += measured.rows
            bar.tell(done, total, f"{measured.model}, batch {measured.batch_size}", line=True)
    write_json(given.get("json"), {**machine(config), "rows": rows})
    _tell(rows)


def _tell(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = {"ms": ".1f", "ms_iqr": ".1f", "ratio_to_plain": ".2f", "ratio_to_peft": ".2f", "peak_mb": ".0f"}
    for model, batch in dict.fromkeys((row["model"], row["batch_size"]) for row in rows):
        own = [row for row in rows if (row["model"], row["batch_size"]) == (model, batch)]
        first = own[0]
        title = f"{model}, {first['image_size']} pixels, batch {batch}, {first['precision']} on {first['device']}"
        table = Table(title=title, title_justify="left")
        for name in ("variant", "pass"):
            table.add_column(name, no_wrap=True)
        for name in columns:
            table.add_column(name.replace("_", " "), justify="right")
        for row in own:
            table.add_row(row["variant"], row["pass"], *(format(row[name], how) for name, how in columns.items()))
        Console().print(table)
