"""Images of more than eight bits: one scale for all that are read together, and what never decides it."""

import io
import struct
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from suite_checks import write_images

from metalora.suites.decoding import Decoding
from metalora.suites.images import decode, decode_files
from metalora.suites.load import load_suite
from metalora.util.errors import InputError

RAMP = np.tile(np.linspace(0, 1, 64), (64, 1))
needs_tifffile = pytest.mark.skipif(find_spec("tifffile") is None, reason="tifffile is optional")


def saved(values, format="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(values).save(file, format, **options)
    file.seek(0)
    return file


def png(values, *chunks):
    """Write a PNG of 16 bits of (H, W, C) values, with more chunks."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(*pair) for pair in chunks), chunk(b"IDAT", zlib.compress(rows))]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))


def tiff(values, **options):
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    file.seek(0)
    return file


def grey(bits):
    return (RAMP * (2**bits - 1)).astype(np.uint16)


def spans(image):
    """Whether an image uses most of its 256 values, from dark to bright."""
    return int(image.min()) <= 5 and int(image.max()) >= 250 and len(image.unique()) > 32


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_grey_of_any_depth_keeps_its_levels(bits):
    assert spans(decode(saved(grey(bits)), 64))


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_twelve_bits_keep_their_levels(channels):
    values = np.stack([grey(12)] * 3 + [np.full_like(grey(12), 65535)] * (channels - 3), axis=-1)
    values[..., 1] //= 2
    image = decode(png(values), 64)
    assert spans(image) and len(image[0].unique()) > 32
    assert image[1].float().mean() == pytest.approx(image[0].float().mean() / 2, abs=2)


def test_colours_of_sixteen_bits_are_those_of_their_higher_bytes():
    values = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    image = decode(png(values), 64).permute(1, 2, 0).numpy().astype(float)
    assert np.abs(image - values / 257).max() < 1.5


def test_grey_with_transparency_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="16-bit grey with transparency: save it without"):
        decode(png(np.zeros((4, 4, 2), np.uint16)), 4)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.full((8, 8, 1), 2048, np.uint16), 127.5),  # as measured
        (np.full((8, 8, 1), 32768, np.uint16), 127.5),  # scaled to sixteen bits, as the standard says
    ],
)
def test_significant_bits_of_a_png_decide_its_white(values, wanted):
    assert decode(png(values, (b"sBIT", bytes([12]))), 8).float().mean().item() == pytest.approx(wanted, abs=0.6)


@needs_tifffile
def test_the_largest_sample_of_a_tiff_decides_its_white():
    file = tiff(np.full((8, 8), 1000, np.uint16), extratags=[(281, "H", 1, 2000, True)])
    assert decode(file, 8).unique().tolist() == [128]


def test_a_pgm_is_scaled_by_its_maximum():
    values = (RAMP * 1000).astype(">u2")
    image = decode(io.BytesIO(b"P5\n64 64\n1000\n" + values.tobytes()), 64)
    assert spans(image)
    assert decode(io.BytesIO(b"P5\n8 8\n1000\n" + np.full(64, 500, ">u2").tobytes()), 8).float().mean() == 128


def test_images_read_together_share_one_scale():
    files = [(f"{value}.png", saved(np.full((8, 8), value, np.uint16))) for value in (0, 1000, 2000, 4000)]
    read = decode_files(files, 8)
    means = dict(zip(read.names, read.images.float().mean(dim=(1, 2, 3)).tolist(), strict=True))
    assert means["0.png"] == 0 and means["4000.png"] == 255
    assert means["1000.png"] == pytest.approx(64, abs=1) and means["2000.png"] == pytest.approx(128, abs=1)
    low, high = read.decoding.value_range
    assert (low, high) == pytest.approx((0, 4000), abs=10)
    new = decode(saved(np.full((8, 8), 3000, np.uint16)), 8, decoding=read.decoding)
    assert new.float().mean() == pytest.approx(191, abs=1)


@pytest.mark.parametrize("missing", [-9999.0, -3.4028235e38, np.nan, np.inf, -np.inf, 1e20])
def test_missing_values_never_decide_the_scale(missing):
    values = (RAMP * 40 + 280).astype(np.float32)
    values[:16] = missing
    image = decode(saved(values, "TIFF"), 64)
    assert spans(image[:, 20:])
    assert int(image[:, :12].max()) == 0


def test_measured_negative_values_are_no_missing_ones():
    image = decode(saved((RAMP * 80 - 40).astype(np.float32), "TIFF"), 64)
    assert int(image[0, 0, 32]) == pytest.approx(128, abs=5)


@needs_tifffile
def test_a_declared_missing_value_never_decides_the_scale():
    values = (RAMP * 200 + 1000).astype(np.int16)
    values[:16] = -1
    image = decode(tiff(values, extratags=[(42113, "s", 3, "-1", True)]), 64)
    assert spans(image[:, 20:])


def test_an_image_of_missing_values_alone_is_named():
    with pytest.raises(InputError, match="no valid values"):
        decode(saved(np.full((8, 8), np.nan, np.float32), "TIFF"), 8)


@needs_tifffile
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_many_channels_are_refused_unless_bands_are_named(planar):
    values = np.stack([grey(12) // (band + 1) for band in range(6)], axis=-1)
    if planar == "separate":
        values = np.moveaxis(values, -1, 0)

    def file():
        return tiff(values, photometric="minisblack", planarconfig=planar)

    with pytest.raises(InputError, match="6 channels: name three of them with bands"):
        decode(file(), 64)
    image = decode(file(), 64, decoding=Decoding(bands=(4, 2, 1)))
    means = image.float().mean((1, 2)).tolist()
    assert means[2] == pytest.approx(2 * means[1], rel=0.05) and means[2] == pytest.approx(4 * means[0], rel=0.1)
    with pytest.raises(InputError, match="6 channels, bands asks for number 7"):
        decode(file(), 64, decoding=Decoding(bands=(7, 2, 1)))


@needs_tifffile
def test_deep_colours_of_a_tiff_keep_their_levels():
    assert spans(decode(tiff(np.stack([grey(12)] * 3, axis=-1), photometric="rgb"), 64))


@needs_tifffile
def test_bands_of_a_suite_are_those_of_its_images(tmp_path):
    for label, name in enumerate(("field", "town")):
        (tmp_path / name).mkdir()
        for i in range(8):
            values = np.zeros((8, 8, 5), np.uint8)
            values[..., 4] = 100 * label + i
            (tmp_path / name / f"{i}.tif").write_bytes(
                tiff(values, photometric="minisblack", planarconfig="contig").getvalue()
            )
    with pytest.raises(InputError, match=r"field/0.tif \(as 15 more\): It has 5 channels"):
        load_suite(f"folder:{tmp_path}")
    suite = load_suite(f"folder:{tmp_path}", bands=(5,))
    assert suite.source_images[:, 0, 0, 0].tolist() == [*range(8), *range(100, 108)]


def test_deep_images_of_a_suite_record_their_scale(tmp_path):
    write_images(tmp_path / "dark", 8)
    (tmp_path / "bright").mkdir()
    for i in range(8):
        (tmp_path / "bright" / f"{i}.png").write_bytes(saved(grey(12)).getvalue())
    suite = load_suite(f"folder:{tmp_path}")
    assert suite.decoding.value_range == pytest.approx((0, 4095), abs=80)
    plain = load_suite(f"folder:{tmp_path}", image_size=8)
    assert torch.equal(plain.source_images, load_suite(f"folder:{tmp_path}", image_size=8).source_images)


@pytest.mark.skipif(find_spec("pydicom") is None, reason="pydicom is optional")
def test_a_dicom_file_is_read_through_its_window(tmp_path):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data, data.file_meta = Dataset(), FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Rows = data.Columns = 64
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.WindowCenter, data.WindowWidth = 1000, 500
    data.PixelData = grey(12).tobytes()
    file = tmp_path / "scan.dcm"
    data.save_as(file, enforce_file_format=True)
    image = decode(file, 64)
    assert int(image[0, 0, 16]) == pytest.approx(255 * 300 / 500, abs=10)
    assert int(image[0, 0, 8]) == 0 and int(image[0, 0, 25]) == 255  # 4,095 / 64 a column: 520 and 1,625
