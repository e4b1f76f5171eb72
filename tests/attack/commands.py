"""Hostile words, runs and inputs of the command line."""

import io
import json
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attack.archives import hostile_archives
from attack.images import PNG, hostile_images
from attack.weights import DEEP, GIANT, hostile_files

SMALL = [
    "--image-size",
    "8",
    "--max-queries",
    "40",
    "--batch-size",
    "16",
    "--device",
    "cpu",
    "--steps",
    "2",
    "--rank",
    "2",
]
ODD = "\x1b]0;title\x07\x1b[31m"  # of a terminal
OPTIONS: dict[str, list[str]] = {
    "--rank": [str(GIANT), "-1", "0", "1e9", "9" * 400],
    "--hidden": [str(GIANT), "0"],
    "--code": [str(GIANT), "-4"],
    "--branches": [str(GIANT)],
    "--alpha": ["inf", "nan", "-1", "1e400"],
    "--dropout": ["1", "nan", "-0.1"],
    "--lr": ["0", "nan", "inf", "1e308", "-1"],
    "--steps": ["0", "-1", "9" * 30, "x"],
    "--batch-size": ["0", str(GIANT), "9" * 30],
    "--set-size": ["0", "7", str(GIANT)],
    "--seed": ["-1", str(2**40)],
    "--k": ["0", str(GIANT), "-5"],
    "--image-size": ["0", str(GIANT), "-8"],
    "--max-queries": ["0", "-1"],
    "--max-train-images": ["0"],
    "--minutes": ["0", "nan", "inf", "-1"],
    "--targets": ["(", "[", "*", "(?P<x", "x" * 5000, ODD, "(" * 2000],
    "--exclude": ["(", "\\"],
    "--rank-pattern": ["x", "=", "(=2", f"conv={GIANT}", "conv=-1", "conv=²"],
    "--backbone": [
        "",
        "../../etc/passwd",
        "resnet20@/etc/passwd",
        "resnet20@",
        "hf-hub:x/y",
        "local-dir:/etc",
        ODD,
        "a" * 5000,
        "\0",
    ],
    "--extractor": ["", "../../etc", "resnet20@/dev/zero", "module", ODD],
    "--method": ["", "nonesuch", ODD, "../lora"],
    "--suite": [
        "",
        "folder:",
        "folder:/nonesuch",
        "folder:\0",
        "table:/etc/passwd",
        "table:",
        "digits:/etc",
        "upload:x",
        ODD,
    ],
    "--hold-out": ["", ODD, "nonesuch"],
    "--draw-unseen": ["0", str(GIANT)],
    "--layout": ["x", "class/class", ODD],
    "--bands": ["0", "-1"],
    "--name-encoding": ["nonesuch", "\0"],
    "--precision": ["int8", ODD],
    "--device": ["cuda:99", "meta", "cpu:7", ODD, ""],
    "--core": ["x"],
    "--core-distribution": ["x"],
    "--factors": ["0", "1", str(GIANT)],
    "--condition": [str(GIANT), "-1"],
    "--head-init-std": ["nan", "-1"],
    "--start": ["/nonesuch", "\0", "resnet20/nonesuch", ODD],
    "--json": ["/proc/x", "/", "\0"],
    "--log-to": ["nonesuch", ODD],
}
OTHERS = [
    ["compare", "--seeds", str(GIANT)],
    ["compare", "--jobs", "-1"],
    ["compare", "--method", ODD],
    ["compare", "--steps", "9" * 30],
    ["compare", "--minutes", "nan"],
    ["compare", "--backbone", "../x"],
    ["study", "../../etc"],
    ["study", ODD],
    ["study", ""],
    ["info", "../../etc/passwd"],
    ["info", ODD],
    ["info", "/"],
    ["bench", "--backbone", "../x"],
    ["nonesuch"],
    ["train", "\0"],
    ["train", "/proc/x"],
    ["train", "/dev/null"],
    ["pretrain", "../x"],
    ["embed", "/nonesuch"],
    ["--nonesuch"],
    ["export"],
]
RUN: dict[str, Any] = {
    "format_version": [77, None, "2", [], 10**400],
    "status": ["nonesuch", 3, None, [], "running"],
    "settings": [3, None, [], {}, {"unknown": 1}],
    "worker": [3, {"pid": -1}, {"pid": "x"}, {"pid": 1}],
    "reason": [3, [], {"a": 1}],
}
SETTINGS: dict[str, dict[str, list[Any]]] = {
    "suite": {
        "name": [3, None, "folder:/nonesuch", ["x"]],
        "image_size": [GIANT, "x"],
        "hold_out": [3, [3], "x"],
        "data": [3, None],
    },
    "training": {
        "steps": [0, "x", 10**30, None],
        "batch_size": [GIANT, 2.5],
        "lr": [10**400, "x"],
        "device": [3, "x"],
        "seed": ["x"],
    },
    "adapter": {"method": [3, {}], "rank": [GIANT, "x"], "targets": [3, "("], "hidden": [GIANT]},
}
Make = Callable[[Path], list[str]]  # writes into a folder, and returns the words of a command


def words() -> Iterator[tuple[str, Make]]:
    """Yield commands with hostile options."""
    for option, values in OPTIONS.items():
        for value in values:
            yield (
                f"train {option} {value[:30]!r}",
                lambda folder, o=option, v=value: ["train", str(folder / "run"), *SMALL, o, v],
            )
    for command in OTHERS:
        yield f"{' '.join(command)[:40]!r}", lambda folder, command=command: command


def runs(stopped: Path, trap: Path) -> Iterator[tuple[str, Make]]:
    """Yield the resuming of runs whose folder is hostile.

    Args:
        stopped: folder of a run that was stopped.
        trap: a file that is there once a pickle was opened.
    """
    good = json.loads((stopped / "run.json").read_text(encoding="utf-8"))
    texts = {"empty": "", "no JSON": "{", "deep": DEEP, "a list": "[]", "null": "null", "bytes": "\udcff"}
    for name, values in RUN.items():
        texts |= {f"{name} {str(value)[:20]}": json.dumps({**good, name: value}) for value in values}
    for part, names in SETTINGS.items():
        for name, values in names.items():
            for value in values:
                settings = {**good["settings"], part: {**good["settings"][part], name: value}}
                texts[f"{part}.{name} {str(value)[:20]}"] = json.dumps({**good, "settings": settings})
    for name, text in texts.items():
        yield f"run.json: {name}", _resuming(stopped, "run.json", text.encode("utf-8", "surrogateescape"))
    for name, content in hostile_files(stopped / "checkpoint.safetensors", trap).items():
        yield f"checkpoint: {name}", _resuming(stopped, "checkpoint.safetensors", content)
    for name, header in _states(stopped / "checkpoint.safetensors").items():
        yield f"checkpoint: {name}", _resuming(stopped, "checkpoint.safetensors", header)
    for name, text in {
        "no JSON": "{}\n{\n",
        "deep": f'{{"step": {DEEP}}}\n',
        "no steps": '{"step": "x"}\n[1]\n',
    }.items():
        yield f"events: {name}", _resuming(stopped, "events.jsonl", text.encode())


def inputs() -> Iterator[tuple[str, Make]]:
    """Yield images, archives and tables that are embedded, hostile as those of a visitor, and larger ones."""
    backbone = ["--backbone", "resnet20", "--device", "cpu"]

    def embedded(name: str, content: Callable[[], bytes]) -> Make:
        def make(folder: Path) -> list[str]:
            (folder / name).write_bytes(content())
            return ["embed", str(folder / name), *backbone, "--out", str(folder / "e.npz")]

        return make

    for name, content in hostile_images().items():
        yield f"image: {name}", embedded(name, content)
    for name, content in {**hostile_archives(), **_tars()}.items():
        yield f"archive: {name}", embedded(f"a{'.tar' if 'tar' in name else '.zip'}", content)
    for name, content in _tables().items():

        def table(folder: Path, content: bytes = content) -> list[str]:
            (folder / "t.csv").write_bytes(content)
            return ["train", str(folder / "run"), *SMALL, "--suite", f"table:{folder / 't.csv'}"]

        yield f"table: {name}", table


def _resuming(stopped: Path, name: str, content: bytes) -> Make:
    def make(folder: Path) -> list[str]:
        shutil.copytree(stopped, folder / "run")
        (folder / "run" / name).write_bytes(content)
        return ["train", str(folder / "run")]

    return make


def _states(checkpoint: Path) -> dict[str, bytes]:
    """Return checkpoints whose tensors are whole, and whose state is not."""
    content = checkpoint.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    state = json.loads(header["__metadata__"]["header"])
    parts = dict(state["dict"])
    changed = {
        "a state that is a number": 3,
        "a state of two kinds": {"dict": [], "list": []},
        "a tensor that is not there": {"dict": [["identity", {"tensor": "nonesuch"}]]},
        "no step": {"dict": [pair for pair in state["dict"] if pair[0] != "step"]},
        **{f"step {step!r}": {"dict": list({**parts, "step": step}.items())} for step in (-1, "x", 10**30, None, 1.5)},
        **{f"{name} of another kind": {"dict": list({**parts, name: 3}.items())} for name in parts},
        **{f"{name} of nothing": {"dict": list({**parts, name: {"dict": []}}.items())} for name in parts},
    }
    files = {}
    for name, value in changed.items():
        text = json.dumps({**header, "__metadata__": {"header": json.dumps(value)}}).encode()
        files[name] = struct.pack("<Q", len(text)) + text + content[8 + length :]
    return files


def _tars() -> dict[str, Callable[[], bytes]]:
    """Return hostile tar archives."""

    def pack(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for info, content in members:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return file.getvalue()

    def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    good = pack((member("cat/0.png"), PNG))
    header = bytearray(tarfile.TarInfo("x").tobuf()[:512])
    header[124:136], header[156:157], header[148:156] = b"77777777777\0", b"x", b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return {
        "tar of dots": lambda: pack((member("../../evil.png"), PNG)),
        "tar of an absolute name": lambda: pack((member("/tmp/evil.png"), PNG)),
        "tar of a link": lambda: pack((member("a.png", tarfile.SYMTYPE, "/etc/passwd"), b"")),
        "tar of a hard link": lambda: pack((member("a.png", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        "tar of a device": lambda: pack((member("a.png", tarfile.CHRTYPE), b"")),
        "tar of a pipe": lambda: pack((member("a.png", tarfile.FIFOTYPE), b"")),
        "tar, cut": lambda: good[:600],
        "tar of a header of 8 GB": lambda: bytes(header) + bytes(10_240),
        "tar of deep folders": lambda: pack((member("a/" * 20_000 + "x.png"), PNG)),
        "tar.gz, cut": lambda: zlib.compress(good, wbits=31)[:80],
        "tar.gz of a header of 8 GB": lambda: zlib.compress(bytes(header) + bytes(2**24), 9, 31),
        "tar of escapes": lambda: pack((member(f"{ODD}.png"), b"x")),
    }


def _tables() -> dict[str, bytes]:
    """Return hostile tables of images."""
    return {
        "empty": b"",
        "no columns": b"\n\n\n",
        "null bytes": bytes(1000),
        "no UTF-8": b"path,label\n\xff\xfe,1\n",
        "one long line": b"path,label\n" + b"x" * 5_000_000 + b",1\n",
        "many columns": b",".join(b"c%d" % i for i in range(50_000)) + b"\n",
        "paths outside": b"path,label\n../../etc/passwd,a\n/etc/passwd,b\n",
        "paths of nothing": b"path,label\n" + b"".join(b"%d.png,%d\n" % (i, i % 2) for i in range(2_000)),
        "a device": b"path,label\n/dev/zero,a\n/dev/zero,b\n",
        "quotes that stay open": b'path,label\n"a.png,1\n' * 1000,
        "parquet": b"PAR1" + bytes(100) + b"PAR1",
        "escapes": b"path,label\n" + ODD.encode() + b".png,1\nb.png,2\n",
    }
