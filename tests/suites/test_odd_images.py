"""Odd and hostile image files: each gives its right value, or is named with its reason."""

import io
import struct
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, ImageDraw

from metalora.suites.images import decode, decode_files
from metalora.util.errors import InputError

RED, SIZE = (200, 40, 40), 16


def plain(mode="RGB", colour=RED, size=(SIZE, SIZE)):
    return Image.new("RGB", size, colour).convert(mode)


def saved(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(kind, data):
    content = saved(plain())
    return content[:33] + chunk(kind, data) + content[33:]


def declared(width, height):
    """Write a BMP's header that declares a size, without pixels."""
    header = bytearray(saved(plain(size=(1, 1)), "BMP"))
    header[18:26] = struct.pack("<ii", width, height)
    return bytes(header)


def damaged(content, place, value=b"\xff"):
    return content[:place] + value + content[place + len(value) :]


def animated(format):
    frames = [plain(colour=RED), plain(colour=(0, 0, 255))]
    return saved(frames[0], format, save_all=True, append_images=frames[1:])


def transparent():
    image = Image.new("RGBA", (SIZE, SIZE), (*RED, 0))
    return saved(image)


def palette(**options):
    image = Image.new("P", (SIZE, SIZE), 1)
    image.putpalette([0, 0, 0, *RED])
    return saved(image, **options)


def large(format, **options):
    return saved(Image.new("RGB", (6000, 4000), RED), format, **options)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


RIGHT = {
    "PNG": saved(plain()),
    "PNG of a palette of one bit": palette(bits=1),
    "PNG of a palette": palette(),
    "PNG without compression": saved(plain(), compress_level=0),
    "PNG with a long comment": with_chunk(b"tEXt", b"Comment\0" + b"x" * 100_000),
    "PNG with an unknown chunk": with_chunk(b"quIz", b"?"),
    "PNG with a colour profile that is none": with_chunk(b"iCCP", b"name\0\0" + zlib.compress(b"no profile")),
    "PNG with a resolution of nothing": with_chunk(b"pHYs", struct.pack(">IIB", 0, 0, 1)),
    "PNG with EXIF that is none": saved(plain(), exif=b"Exif\0\0II*\0"),
    "PNG with EXIF of text": saved(plain(), exif=b"b'Exif"),
    "PNG with bytes behind its end": saved(plain()) + b"<script>",
    "JPEG": saved(plain(), "JPEG", quality=95),
    "JPEG, progressive": saved(plain(), "JPEG", quality=95, progressive=True),
    "JPEG without subsampling": saved(plain(), "JPEG", quality=95, subsampling=0),
    "JPEG of CMYK": saved(plain("CMYK"), "JPEG", quality=95),
    "JPEG with EXIF that is none": saved(plain(), "JPEG", quality=95, exif=b"Exif\0\0II*\0"),
    "JPEG of an unknown orientation": saved(plain(), "JPEG", quality=95, exif=exif(99)),
    "JPEG with bytes behind its end": saved(plain(), "JPEG", quality=95) + b"\0" * 50,
    "JPEG of 24 megapixels": large("JPEG", quality=30),
    "JPEG of 24 megapixels, progressive": large("JPEG", quality=30, progressive=True),
    "PNG of 24 megapixels": large("PNG", compress_level=1),
    "GIF": saved(plain(), "GIF"),
    "GIF, animated": animated("GIF"),
    "WebP": saved(plain(), "WEBP", lossless=True),
    "WebP, animated": animated("WEBP"),
    "WebP with EXIF that is none": saved(plain(), "WEBP", lossless=True, exif=b"\0\x08\0\x02\x01\x12\0\x03"),
    "BMP": saved(plain(), "BMP"),
    "BMP of a palette": saved(plain("P"), "BMP"),
    "TIFF": saved(plain(), "TIFF"),
    "TIFF by LZW": saved(plain(), "TIFF", compression="tiff_lzw"),
    "TIFF by deflate": saved(plain(), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF of several pages": animated("TIFF"),
    "TIFF of CMYK": saved(plain("CMYK"), "TIFF"),
    "PPM": saved(plain(), "PPM"),
    "TGA": saved(plain(), "TGA"),
    "ICO": saved(plain(), "ICO"),
    "JPEG 2000": saved(plain(), "JPEG2000"),
    "AVIF": saved(plain(), "AVIF", quality=95),
    "very wide": saved(plain(size=(4000, 3))),
    "very high": saved(plain(size=(3, 4000))),
    "one pixel": saved(plain(size=(1, 1))),
}
if find_spec("pillow_heif") is not None:
    RIGHT["HEIC"] = saved(plain(size=(64, 64)), "HEIF", quality=95)
if find_spec("pillow_jxl") is not None:
    RIGHT["JPEG XL"] = saved(plain(), "JXL", lossless=True)

OTHERWISE = {
    "transparent": (transparent(), (255, 255, 255)),
    "one bit, white": (saved(Image.new("1", (8, 8), 1)), (255, 255, 255)),
    "grey": (saved(Image.new("L", (8, 8), 77)), (77, 77, 77)),
    "grey with transparency": (saved(Image.new("LA", (8, 8), (0, 0))), (255, 255, 255)),
    "a transparent colour": (saved(Image.new("L", (8, 8), 0), transparency=0), (255, 255, 255)),
    "grey TIFF": (saved(Image.new("L", (8, 8), 128), "TIFF"), (128, 128, 128)),
}

UNKNOWN = r"broken or of an unknown format \(\w+\): save it again as PNG or JPEG"
NAMED = {
    "nothing": (b"", UNKNOWN),
    "zeros": (b"\0" * 500, UNKNOWN),
    "text": (b"no image", UNKNOWN),
    "HTML": (b"<!DOCTYPE html><html></html>", UNKNOWN),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNKNOWN),
    "PDF": (b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", UNKNOWN),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", UNKNOWN),
    "a zip archive": (b"PK\x05\x06" + b"\0" * 18, UNKNOWN),
    "half a PNG": (RIGHT["PNG of 24 megapixels"][:5000], UNKNOWN),
    "half a JPEG": (RIGHT["JPEG"][: len(RIGHT["JPEG"]) // 2], UNKNOWN),
    "half a WebP": (RIGHT["WebP"][:20], UNKNOWN),
    "half a BMP": (RIGHT["BMP"][:60], UNKNOWN),
    "a PNG without a size": (damaged(RIGHT["PNG"], 16, b"\0" * 8), UNKNOWN),
    "a PNG whose header is damaged": (damaged(RIGHT["PNG"], 29), UNKNOWN),
    "a PNG whose pixels are damaged": (damaged(RIGHT["PNG"], 45, b"\xff\xff"), UNKNOWN),
    "a GIF's beginning": (b"GIF89a", UNKNOWN),
    "a TIFF without a page": (b"II*\0\0\0\0\0", r"unknown format|cannot be read|pip install tifffile"),
    "a TIFF that points outside": (b"II*\0\xff\xff\xff\x7f", r"unknown format|cannot be read|pip install tifffile"),
    "a TIFF whose pages go round": (
        b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        r"unknown format|cannot be read|no valid values|pip install tifffile",
    ),
    "a size of 121 megapixels": (declared(11_000, 11_000), r"over 120 megapixels.*make it smaller"),
    "a size of 10 gigapixels": (declared(100_000, 100_000), r"over 120 megapixels.*make it smaller"),
    "a negative size": (declared(-5, 5), r"over 120 megapixels"),
    "a DICOM file of nothing": (b"\0" * 128 + b"DICM", r"DICOM file"),
}


def test_sixty_kinds_are_tried():
    assert len(RIGHT) + len(OTHERWISE) + len(NAMED) >= 60


@pytest.mark.parametrize("kind", RIGHT)
def test_a_red_image_is_red(kind):
    image = decode(io.BytesIO(RIGHT[kind]), 8)
    assert image.shape == (3, 8, 8)
    assert image.float().mean((1, 2)).tolist() == pytest.approx(RED, abs=6)


@pytest.mark.parametrize("kind", OTHERWISE)
def test_other_modes_have_their_colour(kind):
    content, colour = OTHERWISE[kind]
    assert decode(io.BytesIO(content), 8).float().mean((1, 2)).tolist() == pytest.approx(colour, abs=1)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", NAMED)
def test_what_is_no_image_is_named(kind):
    content, reason = NAMED[kind]
    with pytest.raises(InputError, match=reason) as caught:
        decode(io.BytesIO(content), 8)
    assert "\n" not in str(caught.value)


def test_bad_files_among_good_ones_cost_themselves_only():
    files = {**{name: content for name, (content, _) in NAMED.items()}, "good": RIGHT["PNG"]}
    read = decode_files(((name, io.BytesIO(content)) for name, content in files.items()), 8)
    assert read.names == ("good",) and len(read.skipped) == len(NAMED)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_orientation(format, orientation):
    """An arrow that points up once it is turned as its EXIF says."""
    upright = Image.new("RGB", (48, 48), "white")
    ImageDraw.Draw(upright).rectangle((0, 0, 47, 11), fill=(255, 0, 0))
    ImageDraw.Draw(upright).rectangle((0, 0, 11, 47), fill=(0, 0, 255))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what undoes each, of Image.Transpose
    stored = upright.transpose(Image.Transpose(back[orientation])) if orientation > 1 else upright
    content = saved(stored, format, exif=exif(orientation), quality=95)
    image = decode(io.BytesIO(content), 48).float()
    wanted = np.asarray(upright).transpose(2, 0, 1)
    assert np.abs(image.numpy() - wanted).mean() < 6
