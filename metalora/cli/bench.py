"""`bench`: what adapters cost compared with the plain model."""

from typing import Annotated, Any

import typer

from metalora.cli.messages import Bar, print_table, write_json
from metalora.cli.options import Json, Options, verb
from metalora.experiments.bench_config import QUICK, BenchConfig

OPTIONS = Options(BenchConfig, renamed={"models": "model", "batches": "batch_size"})


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "bench", bench, OPTIONS)


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="ResNet-18 at 224 pixels, 32 images: minutes.")] = False,
    json: Json = None,
    **given: Any,
) -> None:
    r"""Measure times and memory of plain, frozen, PEFT's and our models, interleaved, as ratios.

    Needs the package peft: pip install .\[bench]
    """
    from metalora.experiments.bench import machine, run_bench

    config = OPTIONS.read(given, QUICK if quick else None)
    rows: list[dict[str, Any]] = []
    total = len(config.models) * len(config.batches)
    with Bar("Measuring") as bar:
        bar.update(0, total, config.models[0])
        for done, measured in enumerate(run_bench(config), 1):
            rows += measured.rows
            bar.update(done, total, f"{measured.model}, batch {measured.batch_size}", line=True)
    write_json(json, {**machine(config), "rows": rows})
    _print_rows(rows)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    columns = {"ms": ".1f", "ms_iqr": ".1f", "ratio_to_plain": ".2f", "ratio_to_peft": ".2f", "peak_mb": ".0f"}
    for model, batch in dict.fromkeys((row["model"], row["batch_size"]) for row in rows):
        group = [row for row in rows if (row["model"], row["batch_size"]) == (model, batch)]
        first = group[0]
        title = f"{model}, {first['image_size']} pixels, batch {batch}, {first['precision']} on {first['device']}"
        header = ("variant", "pass", *(name.replace("_", " ") for name in columns))
        print_table(title, header, [(row["variant"], row["pass"], *_numbers(row, columns)) for row in group])


def _numbers(row: dict[str, Any], columns: dict[str, str]) -> list[str]:
    return [format(row[name], how) for name, how in columns.items()]
