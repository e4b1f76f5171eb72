"""Times on a GPU, by `metalora bench`: a file for each model, batch and way; what is there is not measured again.

    python tests/gpu/times.py FOLDER [--seconds SECONDS]

On the CPU everything is small, to try it.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from metalora.experiments.bench import machine, run_bench
from metalora.experiments.bench_config import BenchConfig
from metalora.util.device import pick_device
from metalora.util.files import write_text

MODELS = "resnet18", "resnet50", "vit_base_patch16_224", "mixer_b16_224"
EAGER = BenchConfig(batches=(32, 1, 256), rounds=10, precision="bfloat16", channels_last=True)
# The compiler needs a minute for each: one way of ours, against plain and PEFT's.
COMPILED = replace(EAGER, compile=True, variants=("metalora-tr",))
SMALL = BenchConfig(models=("resnet20",), batches=(1, 2), rounds=1, variants=("metalora-tr",))


def configs(device: str) -> Iterator[BenchConfig]:
    """Yield what is measured, model by model, what matters most first."""
    if device == "cpu":
        yield SMALL
        return
    compiled = [replace(COMPILED, batches=(batch,)) for batch in EAGER.batches]
    for config in (EAGER, *compiled, replace(EAGER, precision="float32")):
        for model in MODELS:
            yield replace(config, models=(model,))


def file_of(folder: Path, config: BenchConfig, batch: int) -> Path:
    """Return where a model's rows at one batch go."""
    way = f"{config.precision}{'-compiled' if config.compile else ''}"
    return folder / "times" / f"{config.models[0]}-{batch}-{way}.json"


def main() -> None:
    """Measure what is missing until the time is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    end, device = time.monotonic() + arguments.seconds, pick_device()
    for config in configs(device.type):
        missing = tuple(batch for batch in config.batches if not file_of(arguments.folder, config, batch).exists())
        if not missing:
            continue
        for measured in run_bench(replace(config, batches=missing)):
            file = file_of(arguments.folder, config, measured.batch_size)
            write_text(file, json.dumps({**machine(config, device, "peft"), "rows": measured.rows}, indent=1) + "\n")
            print(f"{file.stem}: {len(measured.rows)} rows", flush=True)
            if time.monotonic() > end:
                return


if __name__ == "__main__":
    main()
