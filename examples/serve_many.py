"""Adapters of many sources (users, cameras, sites) in one batch, beside PEFT's, which selects adapters by name.

Every source has a core, found by its name in a table. PEFT gets the same adapters as LoRAs, one for each source, and
runs them in one batch too. Both are timed in turns on this machine, and give the same.

python examples/serve_many.py
"""

import copy
import statistics
import tempfile
import time
from pathlib import Path

import peft
import torch

import metalora


def seconds(call) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@torch.inference_mode()
def main(sources: int = 32, batch: int = 64, many: int = 1000, rounds: int = 15) -> dict[str, float]:
    """Time a batch whose images come from `sources` sources at random; return milliseconds by name.

    A table of `many` sources is timed as well.
    """
    rng = torch.Generator().manual_seed(0)
    model = metalora.load("mixer_nano/metalora-tr")
    size = model.backbone.image_size
    first = torch.rand(sources, 3, size, size, generator=rng)  # an image of every source, seen once
    names = [f"source-{i}" for i in range(sources)]
    with tempfile.TemporaryDirectory() as folder:
        metalora.CoreTable(names, model.generate(first)).save(Path(folder) / "cores.safetensors")
        table = metalora.CoreTable.load(Path(folder) / "cores.safetensors")
        loras = None
        for name in names:
            metalora.save_peft(model, Path(folder) / name, table[name])
            if loras is None:
                net = copy.deepcopy(metalora.load_backbone("mixer_nano").net)
                loras = peft.PeftModel.from_pretrained(net, Path(folder) / name, adapter_name=name).eval()
            else:
                loras.load_adapter(Path(folder) / name, adapter_name=name)

    images = torch.rand(batch, 3, size, size, generator=rng)
    whose = [names[i] for i in torch.randint(sources, (batch,), generator=rng).tolist()]
    large = metalora.CoreTable(
        [str(i) for i in range(many)], model.generate(torch.rand(many, 3, size, size, generator=rng))
    )
    others = [str(i) for i in torch.randint(many, (batch,), generator=rng).tolist()]
    inputs = model.backbone.preprocess(images)
    plain = metalora.load_backbone("mixer_nano").net.eval()
    calls = {
        "the network alone": lambda: plain(inputs),
        "cores from a table": lambda: model(images, cores=table[whose]),
        f"cores from a table of {many:,}": lambda: model(images, cores=large[others]),
        "PEFT, adapters by name": lambda: loras(inputs, adapter_names=whose),
    }
    found, wanted = calls["cores from a table"](), calls["PEFT, adapters by name"]()
    assert torch.allclose(found, wanted, atol=1e-3, rtol=1e-3)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(1000 * seconds(call))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:28}{value:8.1f} ms for {batch} images of {sources} sources {1000 * batch / value:8.0f} images/s")
    return medians


if __name__ == "__main__":
    main()
