"""Archives are judged when they are sent: what they hold, and which K their galleries allow."""

import io
import zipfile
from dataclasses import replace

import pytest
from PIL import Image

from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.suites.config import SuiteConfig
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.uploads import UPLOADED, add_archive, archive_contents, fit_ks


@pytest.fixture
def app_state(tmp_path):
    return AppState(tmp_path / "app", lambda workspace: RunQueue(workspace, workers=0))


def write_zip(file, names):
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, image.getvalue())
    return file


def classes(count, names=("cat", "dog"), task=""):
    return [f"{task}{name}/{i}.png" for name in names for i in range(count)]


def config_of(upload, **settings):
    return RunConfig(suite=SuiteConfig(f"{UPLOADED}{upload}", **settings))


def test_eighty_photographs_of_two_classes_can_be_trained_on(app_state, tmp_path):
    visitor = app_state.ensure_visitor(None)
    upload = add_archive(app_state, visitor, write_zip(tmp_path / "two.zip", classes(40)))
    contents = archive_contents(app_state, visitor, upload)
    assert (contents.images, contents.classes, contents.ks) == (80, 2, (1, 3))
    assert str(contents).startswith(
        "80 images in 2 classes, each image shown through ten transforms: 40 to train on, 8 for validation, 16 for the "
        "gallery, 16 as queries. K = 1 and 3."
    )
    assert fit_ks(app_state, visitor, config_of(upload), chosen=False).ks == (1, 3)
    with pytest.raises(InputError, match="K = 20 is too large: the gallery of seen tasks has 16 images"):
        fit_ks(app_state, visitor, replace(config_of(upload), ks=(20,)), chosen=True)


@pytest.mark.parametrize(("count", "ks"), [(5, (1,)), (40, (1, 3)), (60, (3, 5)), (200, (5, 10))])
def test_k_follows_the_size_of_the_gallery(app_state, tmp_path, count, ks):
    visitor = app_state.ensure_visitor(None)
    upload = add_archive(app_state, visitor, write_zip(tmp_path / "some.zip", classes(count)))
    assert archive_contents(app_state, visitor, upload).ks == ks


def test_tasks_are_counted_and_may_be_held_out(app_state, tmp_path):
    visitor = app_state.ensure_visitor(None)
    names = [name for task in ("photo/", "toy/") for name in classes(12, task=task)]
    upload = add_archive(app_state, visitor, write_zip(tmp_path / "tasks.zip", names))
    assert str(archive_contents(app_state, visitor, upload)).startswith("48 images in 2 tasks, 2 classes: ")
    assert fit_ks(app_state, visitor, config_of(upload, hold_out=("toy",)), chosen=False).ks == (1,)
    with pytest.raises(InputError, match="There is no task 'painting' to hold out"):
        fit_ks(app_state, visitor, config_of(upload, hold_out=("painting",)), chosen=False)


def test_a_zip_without_class_folders_is_refused_as_such(app_state, tmp_path):
    with pytest.raises(InputError, match="lie in no class folders"):
        add_archive(app_state, app_state.ensure_visitor(None), write_zip(tmp_path / "flat.zip", ["1.png", "2.png"]))


def test_no_other_visitor_can_use_an_archive(app_state, tmp_path):
    owner, other = app_state.ensure_visitor(None), app_state.ensure_visitor(None)
    upload = add_archive(app_state, owner, write_zip(tmp_path / "two.zip", classes(40)))
    with pytest.raises(InputError, match="no such upload of yours"):
        fit_ks(app_state, other, config_of(upload), chosen=False)


def test_bundled_data_keeps_its_k(app_state):
    assert fit_ks(app_state, app_state.ensure_visitor(None), RunConfig(), chosen=False) == RunConfig()
