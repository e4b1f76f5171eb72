"""Pictures decoded once: read again from one file, until the source changes."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from metalora.suites import image_cache
from metalora.suites.image_cache import CACHE, decoded_images
from metalora.suites.images import read_images
from metalora.util.errors import InputError


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "data"
    (folder / "cat").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(folder / "cat" / f"{i}.png")
    (folder / "cat" / "broken.png").write_bytes(b"none")
    return folder


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of kept files, in which everything is worth keeping."""
    monkeypatch.setenv(CACHE, str(tmp_path / "kept"))
    monkeypatch.setattr(image_cache, "WORTH", -1)
    return tmp_path / "kept"


def files(folder):
    return sorted(folder.glob("*")) if folder.exists() else []


def same(one, other):
    return torch.equal(one.images, other.images) and (one.names, one.skipped) == (other.names, other.skipped)


def test_the_second_time_nothing_is_decoded(source, kept, monkeypatch):
    first = decoded_images(source, 8)
    assert same(first, read_images(source, 8))
    assert first.skipped
    monkeypatch.setattr(image_cache, "read_images", None)  # would be no function to call
    assert same(decoded_images(source, 8), first)
    assert len(files(kept)) == 1


def test_another_size_another_choice_and_a_changed_source_are_decoded(source, kept):
    class First:
        def __call__(self, name):
            return name == "cat/0.png"

        def __repr__(self):
            return "First()"

    decoded_images(source, 8)
    assert decoded_images(source, 4).images.shape[-1] == 4
    assert decoded_images(source, 8, First()).names == ("cat/0.png",)
    assert len(files(kept)) == 3
    Image.new("RGB", (9, 9)).save(source / "cat" / "0.png")
    os.utime(source / "cat" / "0.png", (1, 1))
    assert decoded_images(source, 8).images[0].max() == 0
    (source / "cat" / "1.png").unlink()
    assert decoded_images(source, 8).names == ("cat/0.png", "cat/2.png")


def test_a_torn_file_is_made_again(source, kept):
    wanted = decoded_images(source, 8)
    (file,) = files(kept)
    file.write_bytes(file.read_bytes()[:40])
    assert same(decoded_images(source, 8), wanted)
    assert file.stat().st_size > 40


def test_nothing_is_kept_of_what_is_quickly_read_or_where_nothing_is_to_be_kept(source, kept, monkeypatch):
    monkeypatch.setattr(image_cache, "WORTH", 60)
    decoded_images(source, 8)
    monkeypatch.setattr(image_cache, "WORTH", -1)
    monkeypatch.setenv(CACHE, "")
    decoded_images(source, 8)
    assert files(kept) == []


def test_a_folder_that_cannot_be_written_is_told_and_not_fatal(source, tmp_path, kept, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not kept for the next time"):
        assert len(decoded_images(source, 8)) == 3


def test_the_oldest_files_make_room(source, kept, monkeypatch):
    decoded_images(source, 8)
    (oldest,) = files(kept)
    os.utime(oldest, (1, 1))
    monkeypatch.setattr(image_cache, "LARGEST", 1200)
    decoded_images(source, 9)
    assert len(files(kept)) == 1
    assert oldest not in files(kept)


def test_a_source_that_is_missing_is_named(tmp_path, kept):
    with pytest.raises(InputError, match="nowhere"):
        decoded_images(tmp_path / "nowhere", 8)
