"""What an adapter costs beside the plain model: times and memory of several networks, in one process, interleaved.

Random weights, BatchNorm in evaluation mode, the same target layers in all networks: the ones that extractor "stem"
leaves to the adapter. PEFT's LoRA (Hu et al. 2106.09685) is what a practitioner would take: `pip install .[bench]`.
"""

import copy
import importlib.util
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import PAPER
from metalora.experiments.bench_config import BenchConfig, ExportBenchConfig
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import Backbone, load_backbone
from metalora.util.compiling import compiled
from metalora.util.device import autocast, device_name, pick_device
from metalora.util.errors import InputError, choices
from metalora.version import __version__

CLASSES, RATE = 10, 1e-3
SELF = "-self"  # suffix of a network whose cores are generated from the whole frozen backbone
REFERENCES = "plain", "peft-lora"  # networks that ratios are of

Case = tuple[str, str]  # network and pass
Parts = tuple[Callable, Callable[[Callable], Any]]  # a network, and what is done with it


@dataclass(frozen=True)
class Timed:
    """What is done with one network."""

    call: Callable[[], Any]
    compiled: bool


@dataclass(frozen=True)
class Measured:
    """One model at one batch size: a row per variant and pass."""

    model: str
    batch_size: int
    rows: tuple[dict[str, Any], ...]


def run_bench(config: BenchConfig) -> Iterator[Measured]:
    """Measure model by model, batch by batch, yielding after each.

    Rows have "model", "image_size", "batch_size", "device", "precision", "channels_last", "variant", "pass" ("forward",
    "generate", "pipeline", "train"), "ms" (median), "ms_iqr", "ratio_to_plain" and "ratio_to_peft" (of the same pass,
    or of their forward pass where they have none such), "compiled" (whether it was) and "peak_mb" (what the pass adds
    to the memory in use: CUDA's own counter, otherwise the process's resident memory).

    Raises:
        InputError: no such device, model, variant or precision, or PEFT is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise InputError("The package peft, which is compared with, is not installed: pip install .[bench]")
    device = pick_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    for name in config.models:
        torch.manual_seed(config.seed)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        backbone = load_backbone(name, pretrained=False).to(device).to(memory_format=layout)
        networks = _chosen(_networks(backbone), config.variants)
        for batch in config.batches:
            if config.compile:
                torch.compiler.reset()  # code for a second size would be for any size
            side = backbone.image_size
            assert side is not None
            images = torch.rand(batch, 3, side, side, device=device).contiguous(memory_format=layout)
            labels = torch.randint(CLASSES, (batch,), device=device)
            with autocast(device, config.precision):
                parts = _cases(networks, images, labels)
                cases = {case: _timed(*parts[case], config.compile) for case in parts}
                rows = tuple(_rows(cases, backbone, batch, device, config))
            yield Measured(name, batch, rows)


def machine(config: BenchConfig | ExportBenchConfig, device: torch.device, *packages: str) -> dict[str, Any]:
    """Return what the figures were measured on and with, by versions of these packages among others."""
    return {
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": device_name(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "metalora": __version__,
            "torch": torch.__version__,
            **{name: version(name) for name in packages},
            "python": platform.python_version(),
        },
        "settings": asdict(config),
    }


def _chosen(networks: dict[str, Any], variants: tuple[str, ...]) -> dict[str, Any]:
    for name in variants:
        if name not in networks:
            raise InputError(f"Unknown variant {name!r}: use {choices(name, networks)}.")
    wanted = {*(variants or networks), *REFERENCES}
    return {name: network for name, network in networks.items() if name in wanted}


def _networks(backbone: Backbone) -> dict[str, Any]:
    """Return what is compared, by variant: networks whose adapters are in the same layers."""
    generated = {name: entry.bench_rank for name, entry in PAPER.items() if entry.generated}
    rank = PAPER["lora"].bench_rank
    stem = {name: adapt(backbone, AdapterConfig(name, rank=r, extractor="stem")) for name, r in generated.items()}
    names = tuple(next(iter(stem.values())).layers)
    targets = tuple(f"^{re.escape(name)}$" for name in names)
    return {
        "plain": backbone.requires_grad_(False),
        "best-frozen": adapt(backbone, AdapterConfig("original"), example=backbone.example()),
        "peft-lora": _peft(backbone, names, rank),
        "lora": adapt(backbone, AdapterConfig("lora", rank=rank, targets=targets)),
        **stem,
        **{
            f"{name}{SELF}": adapt(backbone, AdapterConfig(name, rank=r, targets=targets))
            for name, r in generated.items()
        },
    }


def _cases(networks: dict[str, Any], images: Tensor, labels: Tensor) -> dict[Case, Parts]:
    """Return what is timed, by network and pass."""
    with torch.no_grad():
        width = networks["plain"](images[:1]).shape[1]
    cases: dict[Case, Parts] = {}
    for name, model in networks.items():
        generates = isinstance(model, AdaptedModel) and model.config.generates
        if not generates:
            cases[name, "forward"] = _forward(model, images)
        elif not name.endswith(SELF):
            cases[name, "forward"] = _forward(model, images, cores=torch.no_grad()(model.generate)(images))
        if generates:
            cases[name, "generate"] = _forward(model, images, method="generate")
            cases[name, "pipeline"] = _forward(model, images)
        if name != "best-frozen":
            step = _plain_step if name == "plain" else _step
            cases[name, "train"] = step(model, images, labels, width)
    return cases


def _timed(network: Callable, call: Callable[[Callable], Any], compile: bool) -> Timed:
    fast = compiled(network, call) if compile else network
    return Timed(lambda: call(fast), fast is not network)


def _peft(backbone: Backbone, names: tuple[str, ...], rank: int) -> nn.Module:
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(r=rank, lora_alpha=rank, target_modules=[f"net.{name}" for name in names])
    model = inject_adapter_in_model(settings, copy.deepcopy(backbone))
    return model.to(next(backbone.parameters()).device)


def _forward(model: nn.Module, images: Tensor, method: str = "__call__", **given: Any) -> Parts:
    def call(network: Callable) -> Any:
        model.eval()
        with torch.no_grad():
            return network(images, **given)

    return model if method == "__call__" else getattr(model, method), call


def _step(model: nn.Module, images: Tensor, labels: Tensor, width: int) -> Parts:
    """Return a training step: generation where there is any, forward, backward, update."""
    head = nn.Linear(width, CLASSES).to(images.device)
    trained = [*(p for p in model.parameters() if p.requires_grad), *head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)

    def call(network: Callable) -> float:
        # PEFT's BatchNorm would learn in training mode; ours never does.
        model.train(isinstance(model, AdaptedModel))
        loss = F.cross_entropy(head(network(images)).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return model, call


def _plain_step(backbone: Backbone, images: Tensor, labels: Tensor, width: int) -> Parts:
    """Return forward and backward of the frozen network with a head, the gradient going down to the images."""
    head = nn.Linear(width, CLASSES).to(images.device)
    inputs = images.clone().requires_grad_()

    def call(network: Callable) -> float:
        loss = F.cross_entropy(head(network(inputs)).float(), labels)
        loss.backward()
        return loss.item()

    return backbone, call


def _rows(
    cases: dict[Case, Timed], backbone: Backbone, batch: int, device: torch.device, config: BenchConfig
) -> Iterator[dict[str, Any]]:
    times: dict[Case, list[float]] = {case: [] for case in cases}
    peaks: dict[Case, float] = {}
    for case, timed in cases.items():  # also the warm-up
        peaks[case] = _peak(timed.call, device)
    for _ in range(config.rounds):
        for case, timed in cases.items():
            times[case].append(_milliseconds(timed.call, device))
    found = {case: pd.Series(values) for case, values in times.items()}
    for (name, kind), values in found.items():
        median = values.median()
        yield {
            "model": backbone.name,
            "image_size": backbone.image_size,
            "batch_size": batch,
            "device": device.type,
            "precision": config.precision,
            "channels_last": config.channels_last,
            "variant": name,
            "pass": kind,
            "ms": median,
            "ms_iqr": values.quantile(0.75) - values.quantile(0.25),
            **{
                f"ratio_to_{short}": median / found.get((other, kind), found[other, "forward"]).median()
                for short, other in zip(("plain", "peft"), REFERENCES, strict=True)
            },
            "compiled": cases[name, kind].compiled,
            "peak_mb": peaks[name, kind],
        }


def _milliseconds(call: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return 1000 * (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(call: Callable[[], Any], device: torch.device) -> float:
    """Memory that a call adds at its peak, in MB."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    import psutil  # comes with PEFT

    process, over = psutil.Process(), threading.Event()
    before = highest = process.memory_info().rss

    def look() -> None:
        nonlocal highest
        while not over.wait(0.002):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    call()
    over.set()
    watcher.join()
    return (highest - before) / 1e6
