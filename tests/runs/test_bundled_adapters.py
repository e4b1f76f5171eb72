"""The bundled adapters are there, whole, and what their cards say."""

import pytest

from metalora.inspection.gallery_file import load_gallery
from metalora.models.bundled import NAMES, bundled_folder
from metalora.models.loading import load
from metalora.runs.bundled_adapters import GALLERY, read_card, read_planes, run_config
from metalora.runs.run_config import RunConfig
from metalora.util.errors import InputError

MOST_BYTES = 3 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_adapter_is_whole(name):
    folder = bundled_folder(name)
    card, model = read_card(folder), load(folder)
    assert RunConfig.from_dict(card["settings"]) == run_config(name)
    assert card["command"] == f"python -m metalora bundle {name}"
    assert (model.backbone.name, model.config.method) == NAMES[name][:2]
    gallery = load_gallery(folder / GALLERY)
    gallery.check_adapter(model)
    planes = read_planes(folder)
    assert set(planes) == {"original", "adapted", *(["cores"] if model.config.generates else [])}
    assert all(plane.shape == (len(gallery), 2) for plane in planes.values())
    assert sum(file.stat().st_size for file in folder.iterdir()) < MOST_BYTES


def test_another_name_is_a_sentence():
    with pytest.raises(InputError, match="Unknown adapter"):
        bundled_folder("resnet20/lorra")
