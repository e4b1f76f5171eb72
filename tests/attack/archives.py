"""Hostile zip archives: names that lead out, links, bombs, lies about what is in them."""

import hashlib
import io
import itertools
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator

from attack.images import PNG, png
from attack.target import MARKUP, Answer, Attack, Target

BIG = 40 * 2**20  # bytes: more than a member may have


def pack(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive of these files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")  # one of the attacks
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def classes(
    count: int = 12, *extra: tuple[str | zipfile.ZipInfo, bytes], names: tuple[str, str] = ("cat", "dog")
) -> bytes:
    """Return an archive that is good but for what is added."""
    good = [(f"{name}/{i}.png", PNG) for name, i in itertools.product(names, range(count))]
    return pack(*good, *extra)


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    """Return a symbolic link as a member."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target.encode()


def lying(content: bytes, claimed: int) -> bytes:
    """Return an archive whose first image claims another size than it has, in its header and in the directory."""
    packed = bytearray(pack(("cat/0.png", content), *((f"dog/{i}.png", PNG) for i in range(12))))
    struct.pack_into("<I", packed, 22, claimed)
    struct.pack_into("<I", packed, packed.index(b"PK\1\2") + 24, claimed)
    return bytes(packed)


def same_data_often(count: int) -> bytes:
    """Return an archive of which all members share the bytes of one: 10 MB of zeros."""
    packed = pack(("cat/0.png", bytes(10 * 2**20)))
    start, end = packed.index(b"PK\1\2"), packed.index(b"PK\5\6")
    entry = packed[start:end]
    entries = b"".join(entry.replace(b"cat/0.png", f"cat/{i:01x}.png".encode()[:9]) for i in range(count))
    tail = struct.pack("<HHII", count, count, len(entries), start)
    return packed[:start] + entries + packed[end : end + 8] + tail + b"\0\0"


def directory_of(count: int) -> bytes:
    """Return an archive with a directory of so many files and nothing else."""
    entry = struct.pack("<4s4H2H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, min(count, 65_535), min(count, 65_535), len(entry) * count, 0, 0)
    return entry * count + end


def locked() -> bytes:
    """Return an archive whose members claim to be locked."""
    archive = bytearray(classes())
    for found in re.finditer(b"PK\x01\x02", bytes(archive)):
        archive[found.start() + 8] |= 1
    return bytes(archive)


def hostile_archives() -> dict[str, Callable[[], bytes]]:
    """Return what makes hostile archives, by name."""
    good = classes()
    return {
        "empty": lambda: b"",
        "text": lambda: b"not an archive",
        "cut": lambda: good[: len(good) // 2],
        "without end": lambda: good[:-30],
        "of nothing": lambda: pack(),
        "dots": lambda: classes(12, ("../../../tmp/evil.png", PNG)),
        "dots in the middle": lambda: classes(12, ("cat/../../evil.png", PNG)),
        "an absolute name": lambda: classes(12, ("/tmp/evil.png", PNG)),
        "a drive": lambda: classes(12, ("C:/evil.png", PNG)),
        "backslashes": lambda: classes(12, ("..\\..\\evil.png", PNG)),
        "a link": lambda: classes(12, link("cat/link.png", "/etc/passwd")),
        "a link to a folder": lambda: classes(12, link("cat/up", "/"), ("cat/up/x.png", PNG)),
        "a zip in it": lambda: pack(("inner.zip", good)),
        "zips in zips": lambda: pack(("a.zip", pack(("b.zip", pack(("c.zip", good)))))),
        "a zip called png": lambda: classes(12, ("cat/x.png", good)),
        "a bomb": lambda: pack(*((f"cat/{i}.png", bytes(30 * 2**20)) for i in range(20)), ("dog/1.png", PNG)),
        "a large image": lambda: pack(("cat/0.png", bytes(BIG)), ("dog/0.png", PNG)),
        "the same data 15 times": lambda: same_data_often(15),
        "a lie: less": lambda: lying(bytes(5 * 2**20), 100),
        "a lie: more": lambda: lying(PNG, 2**31),
        "a lie: 2^32": lambda: lying(PNG, 2**32 - 1),
        "lzma": lambda: pack(*((f"{c}/{i}.png", PNG) for c in "ab" for i in range(12)), method=zipfile.ZIP_LZMA),
        "bzip2": lambda: pack(*((f"{c}/{i}.png", PNG) for c in "ab" for i in range(12)), method=zipfile.ZIP_BZIP2),
        "a password": locked,
        "25,000 members": lambda: pack(*((f"c/{i}.png", b"") for i in range(25_000)), method=zipfile.ZIP_STORED),
        "a directory of 600,000": lambda: directory_of(600_000),
        "deep folders": lambda: classes(12, ("a/" * 30_000 + "x.png", PNG)),
        "many deep folders": lambda: pack(*((f"{i}/" + "a/" * 30_000 + "x.png", PNG) for i in range(40))),
        "a name of 60,000 letters": lambda: classes(12, ("cat/" + "x" * 60_000 + ".png", PNG)),
        "one name twice": lambda: classes(12, ("cat/0.png", b"other")),
        "control characters": lambda: classes(12, names=("ca\tt\x07", "do\x1b[31mg")),
        "right to left": lambda: classes(12, names=("\u202ecat", "\u2066dog")),
        "markup": lambda: classes(12, names=(MARKUP.replace("/", ""), "<script>window.hit=1<")),
        "empty names": lambda: classes(12, names=(" ", "  ")),
        "null in a name": lambda: classes(12).replace(b"cat/1", b"cat\0001"),
        "no UTF-8": lambda: classes(12).replace(b"cat/", b"\xff\xfe\xfd/"),
        "one class": lambda: pack(*((f"cat/{i}.png", PNG) for i in range(24))),
        "too few": lambda: pack(("cat/0.png", PNG), ("dog/0.png", PNG)),
        "no images": lambda: pack(("readme.txt", b"x")),
        "images of nothing": lambda: pack(*((f"{c}/{i}.png", b"") for c in "ab" for i in range(12))),
        "bombs as images": lambda: pack(
            *((f"{c}/{i}.png", png(60_000, 60_000, data=b"")) for c in "ab" for i in range(12))
        ),
        "1,000 classes": lambda: pack(*((f"{c}/{i}.png", PNG) for c in range(1000) for i in range(2))),
        "a program before it": lambda: b"#!/bin/sh\necho\n" + good,
        "a comment of markup": lambda: good[:-2] + struct.pack("<H", len(MARKUP)) + MARKUP.encode(),
        "three disks": lambda: good[:-18] + struct.pack("<HH", 3, 3) + good[-14:],
        "zip64 without end": lambda: good[:-12] + b"\xff" * 10 + good[-2:],
    }


def session_of(name: str) -> str:
    """Return a session of its own, since a visitor has room for twenty archives."""
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:20]


def archives(target: Target) -> Iterator[Attack]:
    """Yield the upload of every hostile archive, and good ones under hostile names."""
    event = target.event("upload_images")
    for name, make in hostile_archives().items():

        def send(target: Target, make: Callable[[], bytes] = make, name: str = name) -> Answer:
            return target.call(event, [target.sent(f"{name}.zip", make()), ""], session=session_of(name))

        yield Attack("archives", name, send)
    for name in (f"{MARKUP}.zip", "../../evil.zip", "\u202epiz.zip", ".zip", "x" * 400 + ".zip", "a.tar", "a\r\nb.zip"):

        def named(target: Target, name: str = name) -> Answer:
            return target.call(event, [target.sent(name, classes()), ""], session=session_of(name))

        yield Attack("archives", f"named {name[:30]!r}", named)
