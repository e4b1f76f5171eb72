"""Hostile images: bombs, broken ones, such that are something else besides."""

import functools
import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from attack.target import MARKUP, Attack, Target
from PIL import Image, PngImagePlugin

SIDE = 60_000  # pixels of a bomb
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.hit=1"><image href="http://127.0.0.1:9/x"/></svg>'


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    """Return an image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
PNG, JPEG, GIF = saved(SMALL, "PNG"), saved(SMALL, "JPEG"), saved(SMALL.convert("P"), "GIF")


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, bits: int = 8, colour: int = 2, *, extra: bytes = b"", data: bytes | None = None
) -> bytes:
    """Return a PNG of zeros, whose header may claim more than its data hold."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rows = bytes((1 + -(-width * channels * bits // 8)) * height) if data is None else data
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def tiff(
    width: int, height: int, samples: int = 1, bits: int = 8, kind: int = 1, data: bytes = b"", strips: int = 1
) -> bytes:
    """Return a TIFF whose directory may claim more than its data hold; deflated."""
    packed = zlib.compress(data, 9)
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, samples),
        (278, 4, 1, height // strips or 1),
        (279, 4, 1, len(packed)),
        (339, 3, 1, kind),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory + bytes(4)


def jpeg_claiming(width: int, height: int) -> bytes:
    """Return a JPEG whose frame claims another size."""
    place = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:place] + struct.pack(">HH", height, width) + JPEG[place + 4 :]


def gif_claiming(width: int, height: int) -> bytes:
    """Return a GIF of one frame that claims another size."""
    place = GIF.rindex(b",") + 5
    size = struct.pack("<HH", width, height)
    return GIF[:6] + size + GIF[10:place] + size + GIF[place + 4 :]


def webp_claiming(width: int, height: int) -> bytes:
    """Return the start of a WebP that claims a size."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + sizes
    return b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended


def icon_of(content: bytes) -> bytes:
    """Return an icon that claims 16 pixels and holds something else."""
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(content), 22) + content


def exif(data: bytes) -> bytes:
    """Return a JPEG with these bytes as its EXIF."""
    return saved(SMALL, "JPEG", exif=b"Exif\0\0" + data)


def exif_entry(tag: int, count: int, value: int) -> bytes:
    """Return a JPEG whose EXIF has one entry."""
    return exif(b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHIII", 1, tag, 3, count, value, 0))


def many_tags() -> bytes:
    """Return a TIFF of 300 tags, whose directory is followed by itself."""
    tags = b"".join(struct.pack("<HHII", tag, 3, 1, 1) for tag in range(256, 556))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 300) + tags + struct.pack("<I", 8)


@functools.cache
def packed_zeros() -> bytes:
    """Return 128 MB of zeros, deflated."""
    return zlib.compress(bytes(2**27), 9)


def texts() -> bytes:
    """Return a PNG with texts of markup and of a size that only unpacking tells."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", MARKUP)
    return saved(SMALL, "PNG", pnginfo=info)


def hostile_images() -> dict[str, Callable[[], bytes]]:
    """Return what makes hostile images, by name."""
    return {
        "empty.png": lambda: b"",
        "one byte.png": lambda: b"\x89",
        "text.png": lambda: b"not an image",
        "cut.png": lambda: PNG[:200],
        "cut.jpg": lambda: JPEG[: len(JPEG) // 2],
        "header only.png": lambda: PNG[:33],
        "size 0.png": lambda: png(0, 0, data=b""),
        "size 2^31.png": lambda: png(2**31 - 1, 2**31 - 1, data=b""),
        "bomb.png": lambda: png(SIDE, SIDE, data=b""),
        "bomb of 1 bit.png": lambda: png(SIDE, SIDE, 1, 0, data=b""),
        "119 MP claimed.png": lambda: png(10_900, 10_900, data=b"\0" * 100),
        "119 MP of 16 bits.png": lambda: png(10_900, 10_900, 16, 6, data=b"\0" * 100),
        "42 MP of 16 bits.png": lambda: png(6_500, 6_500, 16, 6, data=bytes(10_000_000)),
        "119 MP of grey.png": lambda: png(10_900, 10_900, 1, 0),
        "many IDAT.png": lambda: PNG[:33] + chunk(b"IDAT", b"") * 20_000 + PNG[33:],
        "zTXt.png": lambda: png(8, 8, extra=chunk(b"zTXt", b"k\0\0" + packed_zeros())),
        "iTXt.png": lambda: png(8, 8, extra=chunk(b"iTXt", b"k\0\1\0\0\0" + packed_zeros())),
        "iCCP.png": lambda: png(8, 8, extra=chunk(b"iCCP", b"k\0\0" + packed_zeros())),
        "eXIf.png": lambda: png(8, 8, extra=chunk(b"eXIf", b"MM\0*" + b"\xff" * 4000)),
        "wrong sum.png": lambda: PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:],
        "palette missing.png": lambda: png(8, 8, 8, 3),
        "markup.png": texts,
        "data after.png": lambda: PNG + bytes(2**20),
        "bomb.gif": lambda: gif_claiming(65_535, 65_535),
        "size 0.gif": lambda: gif_claiming(0, 0),
        "frames.gif": lambda: saved(SMALL, "GIF", save_all=True, append_images=[SMALL.rotate(i) for i in range(300)]),
        "bomb.jpg": lambda: jpeg_claiming(65_500, 65_500),
        "size 0.jpg": lambda: jpeg_claiming(0, 0),
        "bomb.webp": lambda: webp_claiming(2**24 - 1, 2**24 - 1),
        "cut.webp": lambda: saved(SMALL, "WEBP")[:60],
        "bomb.tif": lambda: tiff(SIDE, SIDE),
        "bomb of samples.tif": lambda: tiff(10_000, 10_000, samples=100, data=b"\0" * 100),
        "bomb of bits.tif": lambda: tiff(10_900, 10_900, bits=64, kind=3, data=b"\0" * 100),
        "many samples.tif": lambda: tiff(4_000, 4_000, samples=65_535),
        "channels.tif": lambda: tiff(6_000, 6_000, samples=60, data=bytes(6_000 * 6_000 * 60 // 16)),
        "size 0.tif": lambda: tiff(0, 0),
        "circle.tif": lambda: b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8),
        "many tags.tif": many_tags,
        "far.tif": lambda: b"II*\0" + struct.pack("<I", 2**31),
        "NaN.tif": lambda: saved(Image.fromarray(np.full((16, 16), np.nan, np.float32)), "TIFF"),
        "infinite.tif": lambda: saved(Image.fromarray(np.full((16, 16), np.inf, np.float32)), "TIFF"),
        "bomb.ppm": lambda: b"P6 60000 60000 255\n",
        "119 MP.ppm": lambda: b"P6 10900 10900 255\n" + bytes(1000),
        "long number.ppm": lambda: b"P6 " + b"9" * 10_000 + b" 1 255\n",
        "bomb.bmp": lambda: (
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
        ),
        "negative.bmp": lambda: (
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, -9, -9, 1, 24, 0, 0, 0, 0, 0, 0)
        ),
        "bomb.ico": lambda: icon_of(png(13_000, 13_000, 1, 0)),
        "empty.ico": lambda: icon_of(b""),
        "bomb.tga": lambda: struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 65_535, 65_535, 32, 0),
        "exif of nothing.jpg": lambda: exif(b""),
        "exif circle.jpg": lambda: exif_entry(0x8769, 1, 8),
        "exif of a count.jpg": lambda: exif_entry(0x0112, 2**32 - 1, 8),
        "exif turned 99.jpg": lambda: exif_entry(0x0112, 1, 99),
        "drawing.svg": lambda: SVG,
        "drawing.png": lambda: SVG,
        "page.png": lambda: b"<html><script>window.hit=1</script>" + PNG,
        "archive.png": lambda: PNG + b"PK\3\4" + bytes(30),
        "zip of nothing.png": lambda: b"PK\5\6" + bytes(18),
        "script.eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "script.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "paper.pdf": lambda: b"%PDF-1.4\n",
        "medical.dcm": lambda: bytes(128) + b"DICM",
        "medical.png": lambda: bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, 2**31),
        "program.png": lambda: b"\x7fELF" + bytes(100),
        "pickle.png": lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    }


def images(target: Target) -> Iterator[Attack]:
    """Yield the inspection of every hostile image, alone; some among good ones; too many."""
    for name, make in hostile_images().items():
        yield Attack("images", name, lambda target, name=name, make=make: target.inspect([target.sent(name, make())]))
    for name in ("cut.png", "bomb.png", "drawing.svg"):
        make = hostile_images()[name]
        yield Attack(
            "images",
            f"{name} beside a good one",
            lambda target, name=name, make=make: target.inspect(
                [target.sent("good.png", PNG), target.sent(name, make())]
            ),
        )
    yield Attack(
        "images", "17 of them", lambda target: target.inspect([target.sent(f"{i}.png", PNG) for i in range(17)])
    )
    yield Attack("images", "one a thousand times", lambda target: target.inspect([target.sent("x.png", PNG)] * 1000))
    for name in (f"{MARKUP}.png", "\u202egnp.png", "../../x.png", "x" * 300 + ".png", "a\tb.png", "-rf.png", ".png"):
        yield Attack(
            "images", f"named {name[:30]!r}", lambda target, name=name: target.inspect([target.sent(name, PNG)])
        )
