"""`bench`: what adapters cost compared with the plain model, and what their exports cost."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import Bar, print_table, write_json
from metalora.cli.options import Json, Options, verb
from metalora.experiments.bench_config import QUICK, BenchConfig, ExportBenchConfig
from metalora.util.errors import InputError

OPTIONS = Options(BenchConfig, renamed={"models": "model", "batches": "batch_size", "variants": "variant"})
EXPORTS = Options(ExportBenchConfig, "Exports", renamed={"adapters": "adapter", "batches": "batch_size"})


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "bench", bench, EXPORTS.only("adapters"), OPTIONS)


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="ResNet-18 at 224 pixels, 32 images: minutes.")] = False,
    exports: Annotated[
        bool,
        typer.Option(
            "--exports",
            help="Sizes and times of exported adapters instead; by default batches 1 and 32, 15 rounds.",
            rich_help_panel=EXPORTS.panel,
        ),
    ] = False,
    json: Json = None,
    **given: Any,
) -> None:
    r"""Measure times and memory of plain, frozen, PEFT's and our models, interleaved, as ratios.

    Needs the package peft: pip install .\[bench]; with --exports those of ONNX: pip install .\[onnx]
    """
    if exports:
        _bench_exports(quick, json, given)
        return
    if "adapter" in given:
        raise InputError("--adapter names what is exported: add --exports.")
    from metalora.experiments.bench import machine, run_bench
    from metalora.util.device import pick_device

    config = OPTIONS.read(given, QUICK if quick else None)
    rows: list[dict[str, Any]] = []
    total = len(config.models) * len(config.batches)
    with Bar("Measuring") as bar:
        bar.update(0, total, config.models[0])
        for done, measured in enumerate(run_bench(config), 1):
            rows += measured.rows
            write_json(json, {**machine(config, pick_device(config.device), "peft"), "rows": rows})
            bar.update(done, total, f"{measured.model}, batch {measured.batch_size}", line=True)
    _print_rows(rows)


def _bench_exports(quick: bool, json: Path | None, given: dict[str, Any]) -> None:
    for option in [*(["quick"] if quick else []), *given]:
        if option not in EXPORTS.by_option:
            raise InputError(f"--exports runs adapters on the processor in float32: leave --{option} out.")
    from metalora.experiments.bench import machine
    from metalora.experiments.bench_exports import DEVICE, run_export_bench

    config = EXPORTS.read(given)
    rows: list[dict[str, Any]] = []
    with Bar("Measuring") as bar:
        bar.update(0, len(config.adapters), config.adapters[0])
        for done, (adapter, measured) in enumerate(zip(config.adapters, run_export_bench(config), strict=True), 1):
            rows += measured
            bar.update(done, len(config.adapters), adapter, line=True)
    write_json(json, {**machine(config, DEVICE, "onnxruntime"), "rows": rows})
    _print_exports(rows)


def _print_exports(rows: list[dict[str, Any]]) -> None:
    columns = {"file_mb": ".2f", "ms": ".1f", "ms_iqr": ".1f", "cpu_ms": ".1f", "difference": ".0e"}
    for adapter, batch in dict.fromkeys((row["adapter"], row["batch_size"]) for row in rows):
        group = [row for row in rows if (row["adapter"], row["batch_size"]) == (adapter, batch)]
        header = ("form", *(name.replace("_", " ") for name in columns))
        print_table(f"{adapter}, batch {batch}", header, [(row["form"], *_numbers(row, columns)) for row in group])


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
