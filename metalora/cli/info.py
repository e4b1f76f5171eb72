"""`info`: what is available, and what a suite, a backbone or an adapter consists of."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import Bar, print_skipped, print_table, write_json
from metalora.cli.options import SUITE, TRAINING, Json, verb

BUDGET = ("adapter", "generator", "frozen")  # beginnings of the names of columns


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "info", info, SUITE, TRAINING.only("seed"))


def info(
    backbone: Annotated[str | None, typer.Option(help="Its card and its layers.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Its settings and its budget.")] = None,
    json: Json = None,
    **given: Any,
) -> None:
    """List methods, suites, backbones and adapters, or describe one suite, backbone or adapter."""
    described: dict[str, Any] = {}
    if "suite" in given:
        described["suite"] = describe_suite(given)
    if backbone is not None:
        described["backbone"] = describe_backbone(backbone, given.get("download", False))
    if adapter is not None:
        described["adapter"] = describe_adapter(adapter, given.get("download", False))
    write_json(json, described or describe_all())


def describe_suite(given: dict[str, Any]) -> dict[str, Any]:
    """Print tasks, splits, counts and class balance of a suite, and return them."""
    from metalora.suites.load import load_suite

    with Bar("Reading images") as bar:
        suite = load_suite(SUITE.read(given), seed=given.get("seed", 0), progress=bar.reading)
    print_skipped(suite.skipped)
    seen, unseen = ([suite.tasks[i] for i in tasks] for tasks in (suite.seen, suite.unseen))
    typer.echo(f"{suite.name}: {len(suite.classes)} classes ({', '.join(suite.classes)}).")
    typer.echo(f"{len(suite.names)} images of {suite.image_size} pixels; the primary gallery is {suite.primary}.")
    typer.echo(f"Seen tasks: {', '.join(seen)}.")
    typer.echo(f"Unseen tasks: {', '.join(unseen) or 'none'}.")
    counts = suite.describe()
    print_table("Images of every task and split; of the smallest and largest class", counts.columns, counts.values)
    for note in suite.notes:
        typer.echo(note)
    return {
        "name": suite.name,
        "classes": list(suite.classes),
        "seen": seen,
        "unseen": unseen,
        "image_size": suite.image_size,
        "primary": suite.primary,
        "counts": counts.to_dict("records"),
        "notes": list(suite.notes),
        "skipped": [list(pair) for pair in suite.skipped],
    }


def describe_backbone(name: str, download: bool) -> dict[str, Any]:
    """Print card and layers of a backbone, and return them."""
    from torch import nn

    from metalora.models.backbones import load_backbone

    backbone = load_backbone(name, download=download)
    parameters = sum(p.numel() for p in backbone.parameters())
    typer.echo(f"{name}: {parameters:,} parameters, images of {backbone.image_size} pixels.")
    card = {key: value for key, value in (_card(name) or {}).items() if key != "validation_images"}
    if card:
        print_table("Card", ("", ""), [(key, str(value)) for key, value in card.items()])
    else:
        typer.echo("There is no card.")
    layers = [
        {"name": key, "kind": type(module).__name__, "weight": list(module.weight.shape)}
        for key, module in backbone.net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    rows = [(row["name"], row["kind"], "×".join(map(str, row["weight"]))) for row in layers]
    print_table("Layers that can be adapted", ("layer", "kind", "weight"), rows)
    shape = {"parameters": parameters, "image_size": backbone.image_size, "stages": list(backbone.stages)}
    return {"name": name, **shape, "card": card or None, "layers": layers}


def describe_adapter(path: Path, download: bool) -> dict[str, Any]:
    """Print settings and budget of a saved adapter, and return them."""
    from metalora.experiments.table import format_count
    from metalora.models.loading import load

    model = load(path, download=download)
    config, budget = model.config.to_dict(), model.budget().reset_index()
    print_table(f"Settings, on {model.backbone.name}", ("", ""), [(key, str(value)) for key, value in config.items()])
    for title, kind in (("Parameters", "parameters"), ("FLOPs of one image", "flops")):
        counts = [budget[f"{part}_{kind}"].map(format_count) for part in BUDGET]
        print_table(title, ("layer", "static", *BUDGET[1:]), zip(budget["layer"], *counts, strict=True))
    left_out = budget[budget["note"] != ""]
    if len(left_out):
        print_table("Notes", ("layer", "note"), zip(left_out["layer"], left_out["note"], strict=True))
    return {"backbone": model.backbone.name, "config": config, "budget": budget.to_dict("records")}


def describe_all() -> dict[str, Any]:
    """Print methods, suites, bundled backbones and adapters, versions and device, and return them."""
    import platform

    import timm
    import torch

    from metalora.adapters.methods import METHODS
    from metalora.experiments.variants import CONTROLS, DEFAULT
    from metalora.models.bundled import NAMES, bundled_folder
    from metalora.models.bundled_networks import BUNDLED
    from metalora.models.saving import WEIGHTS
    from metalora.runs.bundled_adapters import read_card
    from metalora.suites.registry import SUITES
    from metalora.util.device import pick_device
    from metalora.version import __version__

    methods = [{"name": name, "title": entry.title, "paper": entry.paper} for name, entry in METHODS.items()]
    backbones: list[dict[str, Any]] = [{"name": name, **_accuracies(name)} for name in BUNDLED]
    present = {name: bundled_folder(name) for name in NAMES if (bundled_folder(name) / WEIGHTS).exists()}
    adapters = [
        {"name": name, "title": METHODS[NAMES[name].method].title, **_result(read_card(folder))}
        for name, folder in present.items()
    ]
    suites = [f"{name}PATH" if name.endswith(":") else name for name in SUITES]
    versions = {
        "metalora": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }
    print_table("Methods", ("name", "title", "paper"), [tuple(entry.values()) for entry in methods])
    typer.echo(f"Rows of compare: {', '.join(DEFAULT)}; controls: {', '.join(CONTROLS)}.")
    typer.echo(f"Suites: {', '.join(suites)}.")
    rows = [(row["name"], _percent(row["test_accuracy"])) for row in backbones]
    print_table("Bundled backbones; any timm name can be used too", ("name", "test accuracy"), rows)
    trained = [(row["name"], row["title"], row["suite"], _percent(row["validation"])) for row in adapters]
    print_table("Bundled adapters", ("name", "method", "trained on", "validation"), trained)
    typer.echo(f"{', '.join(f'{key} {value}' for key, value in versions.items())}; device {pick_device()}.")
    return {
        "methods": methods,
        "rows": [*DEFAULT, *CONTROLS],
        "suites": suites,
        "backbones": backbones,
        "adapters": adapters,
        "versions": versions,
        "device": str(pick_device()),
    }


def _card(name: str) -> dict[str, Any] | None:
    from metalora.models.bundled_networks import card

    try:
        return card(name)
    except FileNotFoundError:
        return None


def _accuracies(name: str) -> dict[str, float | None]:
    card = _card(name) or {}
    return {key: card.get(key) for key in ("test_accuracy", "validation_accuracy")}


def _result(card: dict[str, Any]) -> dict[str, Any]:
    return {key: card["result"][key] for key in ("suite", "validation")}


def _percent(fraction: float | None) -> str:
    return "no card" if fraction is None else f"{100 * fraction:.1f} %"
