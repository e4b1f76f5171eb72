"""What lies in a folder or archive beside images that can be read: followed, counted, named or left alone."""

import io
import os
import tarfile
import zipfile

import pytest
from PIL import Image
from suite_checks import write_images

from metalora.suites.archives import list_images
from metalora.suites.images import read_images
from metalora.suites.load import load_suite
from metalora.suites.names import is_system, readable
from metalora.util.errors import InputError

PNG = io.BytesIO()
Image.new("RGB", (4, 4)).save(PNG, "PNG")
PNG = PNG.getvalue()


def write(path, content=PNG):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_links_to_folders_and_files_are_followed(tmp_path):
    write(tmp_path / "store/owl/1.png")
    write(tmp_path / "mine/cat/1.png")
    (tmp_path / "mine/owl").symlink_to(tmp_path / "store/owl")
    (tmp_path / "mine/cat/2.png").symlink_to(tmp_path / "store/owl/1.png")
    assert read_images(tmp_path / "mine", 4).names == ("cat/1.png", "cat/2.png", "owl/1.png")


def test_links_that_go_round_end(tmp_path):
    write(tmp_path / "cat/1.png")
    (tmp_path / "cat/again").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    read = read_images(tmp_path, 4)
    assert read.names == ("cat/1.png",) and read.skipped[0][0] == "itself"


def test_a_link_to_nothing_is_named(tmp_path):
    write(tmp_path / "cat/1.png")
    (tmp_path / "cat/2.png").symlink_to(tmp_path / "gone.png")
    assert read_images(tmp_path, 4).skipped == (("cat/2.png", "It is a link to nothing: put the image itself there."),)


FILES = {
    "cat/1.png": PNG,
    "cat/notes.txt": b"",
    "cat/table.csv": b"",
    "cat/README": b"",
    "dog/1.cr2": b"",
    "dog/2.CR2": b"",
    "owl/more/1.mp4": b"",
    "@eaDir/1.png": PNG,
    "cat/.hidden.png": PNG,
    "cat/Thumbs.db": b"",
    "__MACOSX/cat/._1.png": PNG,
    "System Volume Information/1.png": PNG,
}


def pack(source, kind):
    if kind == "folder":
        return source
    target = source.with_suffix(f".{kind}")
    names = sorted(source.rglob("*"))
    if kind == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in names:
                archive.write(path, path.relative_to(source))
    else:
        with tarfile.open(target, "w") as archive:
            for path in names:
                archive.add(path, path.relative_to(source), recursive=False)
    return target


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_files_that_are_not_read_are_counted_and_folders_without_an_image_named(tmp_path, kind):
    for name, content in FILES.items():
        write(tmp_path / "all" / name, content)
    (tmp_path / "all/empty").mkdir()
    read = read_images(pack(tmp_path / "all", kind), 4)
    assert read.names == ("cat/1.png",) and not read.skipped
    assert read.notes == (
        "2 .cr2 files are not read: export them as JPEG.",
        "Files that are no images are not read: 1 without a suffix, 1 .csv, 1 .mp4, 1 .txt.",
        "Folders without an image: dog, empty, owl.",
    )


def test_notes_on_what_is_not_read_are_the_suites(tmp_path):
    for seed, name in enumerate(("cat", "dog")):
        write_images(tmp_path / name, 8, seed)
    write(tmp_path / "cat/film.mp4", b"")
    suite = load_suite(f"folder:{tmp_path}")
    assert "Files that are no images are not read: 1 .mp4." in suite.notes


def test_a_folder_of_no_images_says_what_is_there(tmp_path):
    write(tmp_path / "cat/1.nef", b"")
    with pytest.raises(InputError, match=r"check the path\. 1 \.nef file is not read: export them as JPEG"):
        read_images(tmp_path, 4)


@pytest.mark.parametrize(
    ("name", "system"),
    [("a/@eaDir/b.png", True), ("$RECYCLE.BIN/a.png", True), ("../a.png", False), ("thumbnails/a.png", False)],
)
def test_names_of_systems(name, system):
    assert is_system(name) == system


def test_names_have_one_form():
    assert readable("cafe\u0301") == "café"
    assert readable(os.fsdecode(b"\xb9\xb7.png")) == "\\xb9\\xb7.png"


def zipped(tmp_path, name, *, flag):
    """Pack an image under a name in bytes of any encoding; the flag says that it is UTF-8."""
    file = tmp_path / "a.zip"
    placeholder = b"x" * len(name)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(placeholder.decode() + "/1.png", PNG)
    content = file.read_bytes().replace(placeholder, name)
    if flag:
        content = content.replace(b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\0\x08")
        content = content.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\0\x08")
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("flag", [True, False])
def test_utf_8_in_a_zip_is_read_with_and_without_its_flag(tmp_path, flag):
    file = zipped(tmp_path, "für Äpfel".encode(), flag=flag)
    assert [name for name, _ in list_images(file).entries] == ["für Äpfel/1.png"]


def test_other_encodings_of_a_zip_can_be_named(tmp_path):
    file = zipped(tmp_path, "яблоко".encode("cp866"), flag=False)
    assert [name for name, _ in list_images(file, encoding="cp866").entries] == ["яблоко/1.png"]
    assert len(list(list_images(file).entries)) == 1
    with pytest.raises(InputError, match="no encoding 'cp8666'"):
        list_images(file, encoding="cp8666")
    with pytest.raises(InputError, match="not in ascii"):
        list_images(file, encoding="ascii")


def test_two_forms_of_one_name_in_a_zip_are_both_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("café/1.png", PNG)
        archive.writestr("cafe\u0301/1.png", PNG)
    assert len(read_images(tmp_path / "a.zip", 4)) == 2
