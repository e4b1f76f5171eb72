"""Hostile adapters, weights, checkpoints and runs, as folders for the command line."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

GIANT = 10**9
DEEP = "[" * 100_000 + "]" * 100_000


class Opened:
    """An object that, unpickled, leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with this header, which may be no JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
    """Return what a header says of a tensor."""
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def hostile_files(good: Path, trap: Path) -> dict[str, bytes]:
    """Return files in place of a good safetensors file.

    Args:
        good: the file, whose names and shapes some keep.
        trap: a file that is there once a pickle was opened.
    """
    tensors, content = load_file(good), good.read_bytes()
    name, first = next(iter(tensors.items()))
    rest = {key: value for key, value in tensors.items() if key != name}
    length = struct.unpack("<Q", content[:8])[0]
    files = {
        "empty": b"",
        "eight bytes": struct.pack("<Q", 2),
        "a pickle": pickle.dumps(Opened(trap)),
        "a header of 2^63": raw({}, length=2**63),
        "a header of 100 MB": raw({}, length=10**8),
        "a header of 0": raw(b""),
        "a header that is a list": raw([]),
        "a header that is no JSON": raw(b"{"),
        "a header that is deep": raw(DEEP.encode()),
        "a header of no UTF-8": raw(b"\xff\xfe{}"),
        "a shape of 10^18": raw({name: tensor([10**9, 10**9], 0, 8)}, bytes(8)),
        "a shape of 2^62": raw({name: tensor([2**31, 2**31], 0, 0)}),
        "a shape of many sides": raw({name: tensor([1] * 100_000, 0, 4)}, bytes(4)),
        "a negative side": raw({name: tensor([-1, 4], 0, 4)}, bytes(4)),
        "offsets past the end": raw({name: tensor([4], 0, 16)}, bytes(4)),
        "offsets that run back": raw({name: tensor([1], 8, 4)}, bytes(8)),
        "offsets that overlap": raw({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
        "a gap": raw({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)),
        "an unknown dtype": raw({name: tensor([1], 0, 4, "Q99")}, bytes(4)),
        "a dtype of four bits": raw({name: tensor([2], 0, 1, "F4")}, bytes(1)),
        "a dtype of scales": raw({name: tensor([4], 0, 4, "F8_E8M0")}, bytes(4)),
        "metadata that is a number": raw({"__metadata__": 3, name: tensor([1], 0, 4)}, bytes(4)),
        "metadata that is no JSON": raw({"__metadata__": {"header": "{"}, name: tensor([1], 0, 4)}, bytes(4)),
        "metadata that is a list": raw({"__metadata__": {"header": "[1]"}, name: tensor([1], 0, 4)}, bytes(4)),
        "metadata that is deep": raw({"__metadata__": {"header": DEEP}, name: tensor([1], 0, 4)}, bytes(4)),
        "10,000 tensors": raw({str(i): tensor([0], 0, 0) for i in range(10_000)}),
        "bytes after the end": content + bytes(100),
        "cut": content[: len(content) // 2],
        "cut in the header": content[: 8 + length // 2],
        "header twice": content[: 8 + length] * 2,
    }
    for label, value in {
        "NaN": first * torch.nan,
        "infinity": first + torch.inf,
        "whole numbers": first.long(),
        "complex numbers": first.to(torch.complex64),
        "half precision": first.half(),
        "one more side": first[None],
        "no value": first[:0],
    }.items():
        save_file({name: value.contiguous(), **rest}, good.with_suffix(".tmp"))
        files[label] = good.with_suffix(".tmp").read_bytes()
        good.with_suffix(".tmp").unlink()
    for label, names in {"a tensor less": rest, "a tensor more": {**tensors, "more\x1b[31m": first.clone()}}.items():
        save_file(names, good.with_suffix(".tmp"))
        files[label] = good.with_suffix(".tmp").read_bytes()
        good.with_suffix(".tmp").unlink()
    return files


def hostile_settings(good: dict[str, Any]) -> dict[str, str]:
    """Return texts in place of an adapter's config.json."""

    def with_values(part: str | None = None, **values: Any) -> str:
        changed = json.loads(json.dumps(good))
        (changed if part is None else changed[part]).update(values)
        return json.dumps(changed)

    adapter = {
        f"{name} {str(value)[:20]}": with_values("adapter", **{name: value})
        for name, values in {
            "rank": [GIANT, 0, -1, 2.5, "4", None, [4], True, 10**400],
            "hidden": [GIANT, 10**15],
            "code": [GIANT],
            "branches": [GIANT],
            "condition": [GIANT, -1],
            "factors": [[GIANT, 2], "x", [[2]], 3],
            "alpha": [10**400, "x", -1, {}],
            "method": ["nonesuch", 3, ["lora"], {}, "\x1b]0;x\x07"],
            "targets": ["(", ["(((a+)+)+)+$"], 3, [3], ["x" * 10_000], {}],
            "exclude": [3, [None]],
            "rank_pattern": [3, {"a": GIANT}, {"(": 2}, ["a"], {"a": "b"}],
            "extractor": ["resnet20@/etc/passwd", "/etc", 3, None, "hf:x/y", "module"],
            "dropout": ["x", 2, [0.1]],
            "seed": [-1, 2**70, "x"],
            "core": [3, "x"],
            "unknown": [1],
            "adapter_dtype": ["float8", 3],
            "modules_to_save": [["."], 3],
        }.items()
        for value in values
    }
    backbone = {
        f"backbone {name} {str(value)[:20]}": with_values("backbone", **{name: value})
        for name, values in {
            "name": [
                3,
                None,
                "../../etc",
                "resnet20@/etc/passwd",
                "hf-hub:x/y",
                "local-dir:/etc",
                ["resnet20"],
                "vit_giant_patch14_224",
            ],
            "image_size": [GIANT, -1, 0, "32", None, 3.5, [32]],
            "dtype": ["float8", "Tensor", "load", 3, None, "int64", "__class__", "nn"],
            "sha256": [3, None, "x"],
            "stages": [3, ["x"], {"a": 1}],
        }.items()
        for value in values
    }
    whole = {
        f"{name} {str(value)[:20]}": with_values(**{name: value})
        for name, values in {
            "format_version": [77, "2", None, [], 10**400],
            "example_shape": [
                [GIANT, 3, GIANT, GIANT],
                [1, 3, 60_000, 60_000],
                [-1],
                "x",
                [[1]],
                [],
                [1.5],
                None,
                {"a": 1},
            ],
            "example_dtype": ["float8", "load", 3, None, "complex64"],
            "tensors": [{}, [], {"x": 3}, {"x": ["float32", [GIANT]]}, {"x": [3, 3]}],
            "decoding": [3, {"bands": "x"}, {"value_range": [1]}, {"unknown": 1}, {"bands": [GIANT, 1]}, None],
            "extractor_sha256": [3, "x"],
            "adapter": [3, [], None],
            "backbone": [3, [], None, {}],
        }.items()
        for value in values
    }
    texts = {
        "empty": "",
        "no JSON": "{",
        "a list": "[]",
        "a number": "3",
        "deep": DEEP,
        "null": "null",
        "a long number": "9" * 5000,
    }
    return adapter | backbone | whole | texts


def hostile_peft(good: dict[str, Any]) -> dict[str, str]:
    """Return texts in place of a LoRA's adapter_config.json."""
    changes: dict[str, list[Any]] = {
        "lora_alpha": ["x", None, [1], 10**400, {}],
        "r": [GIANT, "x"],
        "peft_type": [3, "IA3", None],
        "alpha_pattern": [3, {"(((a+)+)+)+$": 1}, {"(": 1}, {"a": "x"}, []],
        "base_model_name_or_path": [3, "../../etc", "hf:x/y", ["x"], "local-dir:/etc", "resnet20@/etc/passwd", None],
        "modules_to_save": [3, ["."], [3], ["x"], {"a": 1}],
        "bias": [3, "all"],
        "use_rslora": ["x"],
    }
    texts = {
        f"{name} {str(value)[:20]}": json.dumps({**good, name: value})
        for name, values in changes.items()
        for value in values
    }
    return texts | {"empty": "", "deep": DEEP, "a list": "[]"}


Folder = Callable[[Path], None]  # writes the hostile folder


def hostile_adapters(good: Path, peft: Path, trap: Path) -> Iterator[tuple[str, Folder]]:
    """Yield what makes a copy of a saved adapter, or of a LoRA of PEFT, hostile.

    Args:
        good: folder of an adapter.
        peft: folder of a LoRA of PEFT.
        trap: as in `hostile_files`.
    """
    weights, config = "adapter.safetensors", "config.json"
    for name, content in hostile_files(good / weights, trap).items():
        yield f"weights: {name}", lambda folder, content=content: _replaced(good, folder, weights, content)
    for name, text in hostile_settings(json.loads((good / config).read_text(encoding="utf-8"))).items():
        yield f"settings: {name}", lambda folder, text=text: _replaced(good, folder, config, text.encode())
    weights, config = "adapter_model.safetensors", "adapter_config.json"
    for name, content in hostile_files(peft / weights, trap).items():
        yield f"PEFT, weights: {name}", lambda folder, content=content: _replaced(peft, folder, weights, content)
    for name, text in hostile_peft(json.loads((peft / config).read_text(encoding="utf-8"))).items():
        yield f"PEFT, settings: {name}", lambda folder, text=text: _replaced(peft, folder, config, text.encode())
    yield "PEFT, a .bin", lambda folder: _with_pickle(peft, folder, weights, trap)
    yield "a link to a device", lambda folder: _link(good, folder, "adapter.safetensors", "/dev/zero")
    yield (
        "a folder as weights",
        lambda folder: (
            _copy(good, folder),
            (folder / "adapter.safetensors").unlink(),
            (folder / "adapter.safetensors").mkdir(),
        ),
    )
    yield "nothing", lambda folder: folder.mkdir()


def _copy(good: Path, folder: Path) -> None:
    shutil.copytree(good, folder)


def _replaced(good: Path, folder: Path, name: str, content: bytes) -> None:
    _copy(good, folder)
    (folder / name).write_bytes(content)


def _with_pickle(good: Path, folder: Path, name: str, trap: Path) -> None:
    _copy(good, folder)
    (folder / name).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"a": Opened(trap)}))


def _link(good: Path, folder: Path, name: str, target: str) -> None:
    _copy(good, folder)
    (folder / name).unlink()
    (folder / name).symlink_to(target)
