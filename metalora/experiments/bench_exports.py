"""What exported adapters weigh and take: ONNX, `torch.export` and folded networks beside the network in torch.

Every form runs on the processor, in float32, on as many threads as torch has. Forms are measured in turns, each turn
after a pass that is not timed.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from metalora.experiments.bench_config import ExportBenchConfig
from metalora.models.adapted_model import AdaptedModel
from metalora.models.exporting import export, open_export, relative_difference, require_onnx
from metalora.models.loading import load
from metalora.util.files import write_tensors

DEVICE = torch.device("cpu")
FORMS = ("torch", "torch, folded", "ONNX", "ONNX, folded", ".pt2")


@dataclass(frozen=True)
class Form:
    """One form of an adapted network.

    Attributes:
        run: images (N, 3, H, W) → embeddings (N, D).
        network: what it should equal, in torch.
        file: what it is kept in.
    """

    run: Callable[[Tensor], Tensor]
    network: Callable[[Tensor], Tensor]
    file: Path


def run_export_bench(config: ExportBenchConfig) -> Iterator[list[dict[str, Any]]]:
    """Export and measure adapter by adapter, yielding the rows of each.

    Rows have "adapter", "image_size", "batch_size", "form" (of `FORMS`), "file_mb" (in torch that of the weights as
    safetensors), "ms" (median), "ms_iqr", "cpu_ms" (median of the processor's time, which other work on the machine
    hardly changes) and "difference" (the largest to the outputs of the adapted network, folded ones with the same core,
    relative to the largest output).

    Raises:
        InputError: no such adapter, one that cannot be folded or exported, or a package of ONNX is not installed.
    """
    require_onnx()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    for name in config.adapters:
        model = load(name)
        assert model.example is not None
        rng = torch.Generator().manual_seed(config.seed)
        images = torch.rand(max(config.batches), *model.example.shape[1:], generator=rng)
        with tempfile.TemporaryDirectory() as folder:
            forms = _forms(model, images, Path(folder))
            where = {"adapter": name, "image_size": model.backbone.image_size}
            rows = [where | row for batch in config.batches for row in _rows(forms, images[:batch], config.rounds)]
        yield rows


def _forms(model: AdaptedModel, images: Tensor, folder: Path) -> dict[str, Form]:
    """Write an adapted model in every form; the folded ones have the core of the first image."""
    with torch.no_grad():
        cores = model.generate(images[:1]) if model.config.generates else None
    folded = model.fold(cores)

    def with_core(batch: Tensor) -> Tensor:
        return model(batch, cores=cores)

    return {
        "torch": Form(model, model, _weights(model, folder / "whole.safetensors")),
        "torch, folded": Form(folded, with_core, _weights(folded, folder / "folded.safetensors")),
        "ONNX": _exported(model, model, images, folder / "whole.onnx"),
        "ONNX, folded": _exported(folded, with_core, images, folder / "folded.onnx"),
        ".pt2": _exported(model, model, images, folder / "whole.pt2"),
    }


def _weights(network: nn.Module, file: Path) -> Path:
    write_tensors(file, network.state_dict())
    return file


def _exported(network: nn.Module, wanted: Callable[[Tensor], Tensor], images: Tensor, file: Path) -> Form:
    export(network, file, images)
    return Form(open_export(file), wanted, file)


@torch.inference_mode()
def _rows(forms: dict[str, Form], images: Tensor, rounds: int) -> Iterator[dict[str, Any]]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    differences = {name: relative_difference(form.run(images), form.network(images)) for name, form in forms.items()}
    for _ in range(rounds):
        for name, form in forms.items():
            form.run(images)  # the one before may have filled the processor's caches
            before = time.perf_counter(), time.process_time()
            form.run(images)
            after = time.perf_counter(), time.process_time()
            times[name].append((1000 * (after[0] - before[0]), 1000 * (after[1] - before[1])))
    for name, form in forms.items():
        measured = pd.DataFrame(times[name], columns=["ms", "cpu_ms"])
        values = measured["ms"]
        yield {
            "batch_size": len(images),
            "form": name,
            "file_mb": form.file.stat().st_size / 1e6,
            "ms": values.median(),
            "ms_iqr": values.quantile(0.75) - values.quantile(0.25),
            "cpu_ms": measured["cpu_ms"].median(),
            "difference": float(differences[name]),
        }
