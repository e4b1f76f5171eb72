"""What checkpoints take of a training's time.

`bash tests/run.sh -m slow -n 0 -s tests/resilience/test_overhead.py` prints it.
"""

import time

import pytest
from figures import record

import metalora
from metalora.training import loop
from metalora.training.loop import PART

EVERY = 30  # seconds

# The default run, networks for CIFAR-10's pixels, and the largest state of these: every weight, its mean and variance.
CASES = {
    "resnet20, metalora-tr": ("resnet20", "metalora-tr", 16, 96),
    "resnet18 of timm, metalora-tr": ("resnet18", "metalora-tr", 32, 48),
    "resnet18 of timm, every weight": ("resnet18", "full", 32, 144),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_checkpoints_take_at_most_2_percent_of_the_time(case, tmp_path, monkeypatch):
    name, method, size, steps = CASES[case]
    suite = metalora.load_suite("digits", image_size=size)
    backbone = metalora.load_backbone(name, image_size=size, pretrained=name == "resnet20")
    model = metalora.adapt(backbone, metalora.AdapterConfig(method))
    costs, write = [], loop.write_state

    def timed(*words):
        started = time.perf_counter()
        write(*words)
        costs.append(time.perf_counter() - started)

    monkeypatch.setattr(loop, "write_state", timed)
    config, file = metalora.TrainingConfig(steps=steps, device="cpu"), tmp_path / "checkpoint.safetensors"
    started = time.perf_counter()
    list(metalora.fit(model, suite, config, checkpoint=file, validate_last=False))
    total = time.perf_counter() - started
    size = file.stat().st_size / 1e6
    percent, before_last = 100 * sum(costs) / total, 100 * sum(costs[:-1]) / total
    print(
        f"\n{case}: {len(costs)} checkpoints of {size:.1f} MB in {total:.0f} s, {1000 * max(costs):.0f} ms at most: "
        f"{percent:.2f} % of the time, {before_last:.2f} % without the last one"
    )
    row = {"percent": percent, "percent_without_the_last": before_last, "longest_seconds": max(costs)}
    record(f"checkpoints, {case}", **row, count=len(costs), megabytes=size, seconds=total)
    # Each but the last two is followed by 67 times its time, or by 30 seconds, of which no more may be lost.
    assert sum(costs[:-2]) <= total * max(PART, max(costs) / EVERY)
