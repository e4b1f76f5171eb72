"""Archives from strangers: every limit in a sentence, every trick refused or named."""

import io
import struct
import tarfile
import zipfile

import pytest
from PIL import Image

from metalora.suites import archives
from metalora.suites.archive_limits import Limits, check_archive, check_members
from metalora.suites.archives import list_images
from metalora.suites.images import read_images
from metalora.suites.load import load_suite
from metalora.util.errors import InputError


def png(colour=0):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(file, "PNG")
    return file.getvalue()


def pack(path, members, **options):
    """A zip of name → content; a content that is a ZipInfo's attributes and bytes sets them."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def skipped(path):
    """Names and reasons of the members that are not read."""
    return {name: str(file) for name, file in list_images(path).entries if isinstance(file, InputError)}


def test_a_sound_archive_is_counted_and_read(tmp_path):
    members = {f"task{t}/{c}/{i}.png": png(i) for t in (0, 1) for c in "ab" for i in range(12)}
    members |= {"__MACOSX/task0/a/._0.png": b"x", ".DS_Store": b"x", "inner.zip": b"PK", "notes.txt": b"x"}
    path = pack(tmp_path / "a.zip", members)
    assert len(check_archive(path)) == 48
    suite = load_suite(f"folder:{path}", image_size=8)
    assert suite.tasks == ("task0", "task1") and not suite.skipped


def test_names_packed_by_old_windows_programs_are_folders(tmp_path):
    path = pack(tmp_path / "a.zip", {"cat\\1.png": png()})
    assert read_images(path, 8).names == ("cat/1.png",)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(entries=2), r"has 3 entries: send 2 at most"),
        (Limits(member=50), r"a/2\.png has .* MB is the most"),
        (Limits(total=100), r"unpacked: send 0 MB at most"),
    ],
)
def test_limits(tmp_path, limits, said):
    path = pack(tmp_path / "a.zip", {f"a/{i}.png": png() + bytes(i) for i in range(3)})
    assert len(check_archive(path, Limits(entries=3))) == 3
    with pytest.raises(InputError, match=said):
        check_archive(path, limits)


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    path = pack(tmp_path / "a.zip", {"a/1.bmp": bytes(11 * 2**20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="over 100 times its size"):
        check_archive(path)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"notes.txt": b"x"}, "holds no images: pack class folders"),
        ({"inner.zip": b"PK"}, r"holds no images: unpack inner\.zip"),
        ({"__MACOSX/a/1.png": b"x"}, "holds no images"),
    ],
)
def test_an_archive_without_pictures(tmp_path, members, said):
    with pytest.raises(InputError, match=said):
        check_archive(pack(tmp_path / "a.zip", members))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(10)])
def test_no_archive_at_all(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="not a whole zip archive"):
        check_archive(tmp_path / "a.zip")


def locked(path):
    """Sets the flag of encryption on every member."""
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(magic)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(magic, start + 4)
    path.write_bytes(content)
    return path


def test_a_locked_archive(tmp_path):
    path = locked(pack(tmp_path / "a.zip", {"a/1.png": png()}))
    with pytest.raises(InputError, match="locked with a password"):
        check_archive(path)
    assert skipped(path) == {"a/1.png": archives.LOCKED}


def test_names_that_lead_out_are_named_and_not_read(tmp_path):
    names = ["../1.png", "a/../../2.png", "/etc/3.png", "C:\\4.png"]
    path = pack(tmp_path / "a.zip", {name: png() for name in [*names, "a/5.png"]})
    assert set(skipped(path).values()) == {archives.OUTSIDE} and len(skipped(path)) == 4
    found = read_images(path, 8)
    assert found.names == ("a/5.png",) and {reason for _, reason in found.skipped} == {archives.OUTSIDE}


def test_links_are_named_and_not_followed(tmp_path):
    link = zipfile.ZipInfo("a/1.png")
    link.external_attr = 0o120777 << 16
    path = pack(tmp_path / "a.zip", {link: "/etc/passwd", "a/2.png": png()})
    assert skipped(path) == {"a/1.png": archives.LINK}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("a/1.png", tarfile.SYMTYPE), ("a/2.png", tarfile.LNKTYPE), ("a/3.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for name in ("../4.png", "/5.png"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    reasons = skipped(tmp_path / "a.tar")
    assert [reasons[name] for name in sorted(reasons)] == [archives.OUTSIDE] * 2 + [archives.LINK] * 3


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_bound_are_named(tmp_path, method):
    assert skipped(pack(tmp_path / "a.zip", {"a/1.png": png()}, compression=method)) == {"a/1.png": archives.METHOD}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_giant_is_named(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "MAX_MEMBER", 20)
    path = pack(tmp_path / "a.zip", {"a/1.png": png()})
    if kind == "tar":
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo("a/1.png")
            member.size = 21
            archive.addfile(member, io.BytesIO(bytes(21)))
    assert skipped(path) == {"a/1.png": archives.GIANT}


def test_a_member_gives_no_more_than_its_header_says(tmp_path, monkeypatch):
    path = pack(tmp_path / "a.zip", {"a/1.bmp": bytes(5_000_000)}, compression=zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<L", 5_000_000), struct.pack("<L", 100)))
    inflated = []
    read = zipfile.ZipExtFile._read1

    def counted(member, count):
        inflated.append(count)
        return read(member, count)

    monkeypatch.setattr(zipfile.ZipExtFile, "_read1", counted)
    assert len(check_archive(path)) == 1  # what it declares is within every limit …
    assert skipped(path) == {"a/1.bmp": archives.DAMAGED}  # … and what it hides is not unpacked
    assert max(inflated) <= 101


def lying(path, **claims):
    """An archive whose directory says another thing of its image than is true."""
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("cat/1.png", png())
        for name, value in claims.items():
            setattr(target.infolist()[0], name, value)
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"cat/../../1.png": png()}, "leads out of the archive"),
        ({"/etc/1.png": png()}, "leads out of the archive"),
        ({"C:/1.png": png()}, "leads out of the archive"),
    ],
)
def test_names_that_lead_out_are_refused_before_anything_is_kept(tmp_path, content, said):
    path = pack(tmp_path / "a.zip", {"cat/0.png": png()} | content)
    with pytest.raises(InputError, match=f"1.png cannot be used. .*{said}"):
        check_members(path)


def test_links_unusual_methods_and_lies_are_refused_before_anything_is_kept(tmp_path):
    link = zipfile.ZipInfo("a/1.png")
    link.external_attr = 0o120777 << 16
    with pytest.raises(InputError, match=r"a/1.png cannot be used. It is a link"):
        check_members(pack(tmp_path / "link.zip", {link: "/etc/passwd"}))
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as target:
        target.writestr("a/1.png", png())
    with pytest.raises(InputError, match=r"a/1.png cannot be used. It is packed by an unusual method"):
        check_members(tmp_path / "lzma.zip")
    for claims in ({"file_size": 3}, {"file_size": 10**6}, {"CRC": 1}):
        with pytest.raises(InputError, match=r"cat/1.png cannot be used. It is damaged"):
            check_members(lying(tmp_path / "lie.zip", **claims))
    check_members(pack(tmp_path / "fine.zip", {"a/1.png": png(), "notes/../x.txt": b""}))
