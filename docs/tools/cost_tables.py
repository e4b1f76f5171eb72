"""Tables of what forms of adapters weigh and take, and of times and errors on a GPU."""

import json

import pandas as pd

from metalora.experiments.results import FOLDER

EXPORTS = "exports.json"
GPU = FOLDER / "gpu"
GENERATED = "metalora-cp", "metalora-tr"
NONE_YET = "none yet"


def exports() -> list[list[str]]:
    """Return what every form of the bundled adapters weighs and takes: `bench --exports`."""
    rows = pd.DataFrame(json.loads((FOLDER / EXPORTS).read_text(encoding="utf-8"))["rows"])
    batches = sorted(rows["batch_size"].unique())
    table = [["adapter", "form", "MB", *(f"CPU ms, batch {batch}" for batch in batches), "largest difference"]]
    for (adapter, form), group in rows.groupby(["adapter", "form"], sort=False):
        times = group.set_index("batch_size")["cpu_ms"]  # of one thread, on a machine that did other work too
        difference = group["difference"].max()
        cells = [f"{group['file_mb'].iloc[0]:.2f}", *(f"{times[batch]:.1f}" for batch in batches)]
        table.append([f"`{adapter}`", form, *cells, f"{difference:.0e}" if difference else "–"])
    return table


def gpu_times() -> list[list[str]]:
    """Return times on a GPU, of tests/gpu/run.sh, by model, batch and way: of a pass, of a training step."""
    header = [
        "model",
        "images",
        "way",
        "forward, ms",
        "best frozen",
        "PEFT LoRA",
        "LoRA",
        "CP",
        "TR",
        "TR, from the image",
    ]
    table = [[*header, "PEFT's step, ms", "LoRA", "CP", "TR"]]
    for file in sorted((GPU / "times").glob("*.json"), key=lambda file: (file.stem.split("-")[-1], file.stem)):
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        ms = {(row["variant"], row["pass"]): row["ms"] for row in rows}
        first, plain, step = rows[0], ms["plain", "forward"], ms["peft-lora", "train"]

        def ratio(variant: str, kind: str, reference: float, ms: dict = ms) -> str:
            return f"{ms[variant, kind] / reference:.2f}" if (variant, kind) in ms else "–"

        way = f"{first['precision']}, compiled" if all(row["compiled"] for row in rows) else first["precision"]
        of_plain = [ratio(name, "forward", plain) for name in ("best-frozen", "peft-lora", "lora", *GENERATED)]
        of_peft = [ratio(name, "train", step) for name in ("lora", *GENERATED)]
        cells = [first["model"], str(first["batch_size"]), way, f"{plain:.2f}", *of_plain]
        table.append([*cells, ratio("metalora-tr", "pipeline", plain), f"{step:.2f}", *of_peft])
    return table if len(table) > 1 else [*table, [NONE_YET, *["–"] * (len(table[0]) - 1)]]


def gpu_errors() -> list[list[str]]:
    """Return how far a GPU is from the reference, of tests/gpu/run.sh: the largest relative error of each test."""
    table = [["compared", "precision", "cases", "largest error", "of gradients"]]
    file = GPU / "tests.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in rows:
        if "errors" in row or "error" in row:
            errors = row.get("errors", {"output": row.get("error")})
            groups.setdefault((row["test"], row.get("precision", "float32")), []).append(errors)
    for (test, precision), found in groups.items():
        outputs = [error for errors in found for name, error in errors.items() if name in ("output", "loss")]
        others = [error for errors in found for name, error in errors.items() if name not in ("output", "loss")]
        cells = [f"{max(outputs):.0e}", f"{max(others):.0e}" if others else "–"]
        table.append([test, precision, str(len(found)), *cells])
    return table if len(table) > 1 else [*table, [NONE_YET, *["–"] * 4]]
