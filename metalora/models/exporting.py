"""Networks as files of other runtimes: ONNX, and programs of `torch.export`; with a free batch axis, and checked."""

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metalora.models.adapted_model import AdaptedModel
from metalora.util.errors import InputError
from metalora.util.files import write_whole
from metalora.util.paths import expand
from metalora.util.quiet import ignore_warnings

TOLERANCE = 1e-4  # of an exported network's outputs, relative to the largest one
BATCHES = (1, 3)  # numbers of images with which an export is checked
TRACED, MOST = 2, 2**20  # images of the traced batch, and of the largest one that a program takes
KINDS = (".onnx", ".pt2")


def export(network: nn.Module, path: str | Path, example: Tensor | None = None) -> float:
    """Write a network as ONNX (.onnx) or a program of `torch.export` (.pt2), and compare what it gives.

    An adapted model is written whole: images → cores → embeddings, each image with its own. What `fold` returns is
    written as the ordinary network that it is.

    Args:
        network: an adapted model, or any module that maps a batch of images to one tensor.
        path: the file.
        example: one image or more; None: the adapted model's own.

    Returns:
        the largest difference of outputs found on random images, relative to the largest output.

    Raises:
        InputError: another suffix, a missing package, no example, a network that cannot be exported, or one whose
            export gives something else; nothing is written then.
    """
    path = _checked(path)
    if path.suffix == ".onnx":
        require_onnx()
    if example is None:
        example = network.example if isinstance(network, AdaptedModel) else None
        if example is None:
            raise InputError("Sizes are known from an image: give export() an example.")
    network, example = copy.deepcopy(network).cpu().eval(), example[:1].cpu()
    program = _program(network, example)
    differences: list[float] = []

    def write(file: Path) -> None:
        if path.suffix == ".pt2":
            with file.open("wb") as stream:
                torch.export.save(program, stream)
        else:
            _to_onnx(program).save(str(file))
        differences.append(_difference(network, file, example, path.suffix))
        if not differences[-1] <= TOLERANCE:
            raise InputError(f"{path} would give other outputs (by {differences[-1]:.1e}): export in float32.")

    write_whole((path, write))
    return differences[0]


def _checked(path: str | Path) -> Path:
    path = expand(path)
    if path.suffix not in KINDS:
        raise InputError(f"{path} is neither .onnx nor .pt2: choose one of these suffixes.")
    return path


def require_onnx() -> None:
    """Check that the packages are installed that write and run ONNX.

    Raises:
        InputError: one is missing.
    """
    _require("onnx", "onnxscript", "onnxruntime")


def _require(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {' and '.join(missing)}: pip install 'metalora[onnx]'.")


def _program(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    batch = example.expand(TRACED, *example.shape[1:]).clone()
    sizes = ({0: torch.export.Dim("images", min=TRACED, max=MOST)},)
    try:
        with ignore_warnings(), torch.no_grad():  # torch's own, of its insides
            return torch.export.export(network, (batch,), dynamic_shapes=sizes, strict=False)
    except Exception as error:  # every part of torch's exporter raises its own
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"torch.export fails on this network ({first}): export what fold() returns.") from error


def _to_onnx(program: torch.export.ExportedProgram) -> Any:
    with ignore_warnings():
        return torch.onnx.export(program, dynamo=True, verbose=False)


def _difference(network: nn.Module, file: Path, example: Tensor, suffix: str) -> float:
    """Return the largest difference of outputs between a network and its file, relative to the largest output."""
    run, worst = _runner(file, suffix), torch.tensor(0.0)
    for count in BATCHES:
        images = example.expand(count, *example.shape[1:]).clone()
        if images.is_floating_point():
            images = torch.rand(images.shape, generator=torch.Generator().manual_seed(count), dtype=images.dtype)
        with torch.no_grad():
            worst = torch.maximum(worst, relative_difference(run(images), network(images)))  # also of NaN
    return float(worst)


def relative_difference(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the largest difference between outputs, relative to the largest one that is wanted."""
    return (found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12)


def open_export(path: str | Path) -> Callable[[Tensor], Tensor]:
    """Return the function images → outputs that a file of `export` holds, on as many threads as torch has now.

    Raises:
        InputError: another suffix, or a missing package.
    """
    path = _checked(path)
    if path.suffix == ".onnx":
        _require("onnxruntime")
    return _runner(path, path.suffix)


def _runner(file: Path, suffix: str) -> Any:
    """Return the function images → outputs that a file holds."""
    if suffix == ".pt2":
        with file.open("rb") as stream:
            loaded = torch.export.load(stream).module()

        def run(images: Tensor) -> Tensor:
            if len(images) >= TRACED:  # as many as it was traced with
                return loaded(images)
            return loaded(torch.cat([images] * TRACED))[: len(images)]

        return run
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])
