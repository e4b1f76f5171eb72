"""Decoding of every odd kind of picture, and reading of folders and archives."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from metalora.suites import images
from metalora.suites.class_folders import held_out, read_split
from metalora.suites.images import decode, read_images
from metalora.util.errors import InputError


def saved(picture, format="PNG", **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    file.seek(0)
    return file


def colour(tensor):
    """The one colour of a plain picture."""
    flat = tensor.flatten(1)
    assert (flat == flat[:, :1]).all()
    return flat[:, 0].tolist()


def test_plain_picture_keeps_its_values():
    values = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    image = decode(saved(Image.fromarray(values)), 12)
    assert image.dtype == torch.uint8
    assert torch.equal(image, torch.from_numpy(values).permute(2, 0, 1))


def test_wide_picture_gives_its_centre():
    values = np.zeros((10, 30, 3), np.uint8)
    values[:, 10:20] = 255
    assert colour(decode(saved(Image.fromarray(values)), 10)) == [255] * 3


def test_exif_rotation():
    values = np.zeros((16, 16, 3), np.uint8)
    values[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise: the upper half comes to the right
    image = decode(saved(Image.fromarray(values), exif=exif), 16)
    assert image[:, :, 8:].min() == 255 and image[:, :, :8].max() == 0


def transparent_palette():
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    return saved(picture, transparency=1)


@pytest.mark.parametrize(
    "file, expected",
    [
        (saved(Image.new("RGBA", (8, 8), (255, 0, 0, 0))), [255, 255, 255]),
        (saved(Image.new("RGBA", (8, 8), (0, 0, 0, 51))), [204, 204, 204]),
        (saved(Image.new("LA", (8, 8), (0, 0))), [255, 255, 255]),
        (transparent_palette(), [255, 255, 255]),
        (saved(Image.new("RGB", (8, 8), (0, 0, 255)), transparency=(0, 0, 255)), [255, 255, 255]),
        (saved(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "TIFF"), [0, 0, 0]),
        (saved(Image.new("1", (8, 8), 1)), [255, 255, 255]),
        (saved(Image.fromarray(np.full((8, 8), 65535, np.uint16))), [255, 255, 255]),
        (saved(Image.fromarray(np.full((8, 8), 25700, np.uint16))), [100, 100, 100]),
        (saved(Image.new("RGB", (1, 1), (9, 8, 7))), [9, 8, 7]),
        (saved(Image.new("RGB", (8, 8), (9, 8, 7)), "WEBP", lossless=True), [9, 8, 7]),
    ],
    ids=["clear", "half-clear", "LA", "P", "tRNS", "CMYK", "1", "white I;16", "grey I;16", "1×1", "WebP"],
)
def test_modes(file, expected):
    assert colour(decode(file, 8)) == expected


def test_float_is_stretched():
    values = np.linspace(-3, 5, 64, dtype=np.float32).reshape(8, 8)
    image = decode(saved(Image.fromarray(values), "TIFF"), 8)
    assert image.min() == 0 and image.max() == 255


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), name) for name in ("white", "black")]
    assert colour(decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), 8)) == [255] * 3


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_truncated(format):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = saved(noise, format).getvalue()
    with pytest.raises(InputError, match=r"^leaf\.png is broken .* save it again as PNG or JPEG\.$"):
        decode(io.BytesIO(whole[: len(whole) // 2]), 8, name="leaf.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_no_picture(content):
    with pytest.raises(InputError, match="unknown format"):
        decode(io.BytesIO(content), 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("width", [30_001, 40_000, 100_000])  # Pillow warns from 89 and refuses from 179 megapixels
def test_giant_is_refused_before_its_pixels_are_decoded(width, monkeypatch):
    # Width and height stand at the start of a BMP; there are no pixels at all behind them.
    header = bytearray(saved(Image.new("L", (1, 1)), "BMP").getvalue()[:1078])
    header[18:26] = width.to_bytes(4, "little") + (4000).to_bytes(4, "little")
    with pytest.raises(InputError, match=r"over 120 megapixels.*: make it smaller\."):
        decode(io.BytesIO(header), 8)


def write_class_folders(root, classes=("cat", "dog"), count=3):
    for side in ("train", "test"):
        for label, name in enumerate(classes):
            (root / side / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (40 * label, number, 0)).save(root / side / name / f"{number}.png")


def pack(root, target):
    files = sorted((p for p in root.rglob("*") if p.is_file()), reverse=True)  # not in the order of names
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in files:
                archive.write(path, path.relative_to(root))
    else:
        with tarfile.open(target, "w:xz") as archive:
            for path in files:
                archive.add(path, f"./{path.relative_to(root)}")
    return target


def test_folder_and_archives_read_alike(tmp_path):
    write_class_folders(tmp_path / "data")
    (tmp_path / "data" / ".hidden.png").write_bytes(b"")
    calls = []
    plain = read_images(tmp_path / "data", 8, progress=lambda done, total: calls.append((done, total)))
    assert len(plain) == 12 and list(plain.names) == sorted(plain.names) and not plain.skipped
    assert calls[-1] == (12, 12)
    for name in ("a.zip", "a.tar.xz"):
        packed = read_images(pack(tmp_path / "data", tmp_path / name), 8)
        assert packed.names == plain.names and torch.equal(packed.images, plain.images)


@pytest.mark.parametrize("wrapper", ["", "cifar10"])
def test_read_side(tmp_path, wrapper):
    write_class_folders(tmp_path / wrapper)
    side = read_split(tmp_path, "train", 8)
    assert side.classes == ("cat", "dog") and side.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert side.images.names[0] == "train/cat/0.png"
    assert held_out(side.labels, 1).tolist() == [False, False, True] * 2


def test_read_side_needs_two_classes(tmp_path):
    write_class_folders(tmp_path, classes=("cat",))
    with pytest.raises(InputError, match="fewer than two classes under test/"):
        read_split(tmp_path, "test", 8)


def test_unreadable_files_are_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either, and not called one")
    found = read_images(tmp_path, 8)
    assert found.names == ("good.png",) and [name for name, _ in found.skipped] == ["bad.png"]
    (tmp_path / "good.png").unlink()
    with pytest.raises(InputError, match="no image that can be used"):
        read_images(tmp_path, 8)


def test_damaged_member_of_a_zip_is_named(tmp_path):
    write_class_folders(tmp_path / "data")
    archive = pack(tmp_path / "data", tmp_path / "a.zip")
    content = bytearray(archive.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 255
    archive.write_bytes(content)
    found = read_images(archive, 8)
    assert len(found) == 11 and len(found.skipped) == 1


def test_damaged_tar(tmp_path):
    write_class_folders(tmp_path / "data")
    archive = pack(tmp_path / "data", tmp_path / "a.tar.xz")
    archive.write_bytes(archive.read_bytes()[:400])
    with pytest.raises(InputError, match="is damaged"):
        read_images(archive, 8)


def test_missing_source_and_other_files(tmp_path):
    with pytest.raises(InputError, match="There is no folder or archive"):
        read_images(tmp_path / "nowhere", 8)
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(InputError, match="neither a folder nor a tar or zip"):
        read_images(tmp_path / "table.csv", 8)


def test_files_are_not_read_far_ahead(tmp_path, monkeypatch):
    write_class_folders(tmp_path / "data", count=20)
    monkeypatch.setattr(images, "READ_AHEAD", 4)
    listing = images.list_images(pack(tmp_path / "data", tmp_path / "a.zip"))
    read, decoded = [0], [0]

    def counted():
        for entry in listing.entries:
            read[0] += 1
            assert read[0] - decoded[0] <= 4
            yield entry

    with images.ThreadPoolExecutor() as pool:
        for _ in images._map_ahead(pool, lambda entry: entry, counted()):
            decoded[0] += 1
    assert decoded[0] == listing.total == 80
