"""The bundled adapters are there, whole, and what their cards say."""

import copy
import shutil

import pytest
from calling import run
from huggingface_hub import ModelCard

from metalora.inspection.gallery_file import load_gallery
from metalora.models.bundled import NAMES, bundled_folder
from metalora.models.loading import load
from metalora.runs.bundled_adapters import CARD, GALLERY, read_card, read_planes, run_config
from metalora.runs.model_cards import MODEL_CARD, model_card
from metalora.runs.run_config import RunConfig
from metalora.util.errors import InputError

MOST_BYTES = 3 * 2**20
PRESENT = [name for name in NAMES if (bundled_folder(name) / CARD).exists()]


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


@pytest.mark.parametrize("name", PRESENT)
def test_a_model_card_is_up_to_date_and_has_what_the_hub_reads(name):
    folder = bundled_folder(name)
    text = (folder / MODEL_CARD).read_text(encoding="utf-8")
    assert text == model_card(name, read_card(folder)), "run python -m metalora bundle --cards"
    card = ModelCard(text)
    assert (card.data.library_name, card.data.license) == ("metalora", "apache-2.0")
    accuracies = {row["accuracy"] for row in read_card(folder)["result"]["rows"]}
    values = [result.metric_value for result in card.data.eval_results]
    assert values and all(any(abs(value - accuracy) < 1e-4 for accuracy in accuracies) for value in values)


@pytest.mark.parametrize(
    ("sizes", "words"), [(1, "single images"), (8, "sets of 8 that share"), ([0, 1, 8], "sets of 0, 1 or 8 that share")]
)
def test_a_card_says_what_shared_a_core_in_training(sizes, words):
    card = copy.deepcopy(read_card(bundled_folder(PRESENT[0])))
    card["settings"]["training"]["set_size"] = sizes
    assert f", {words}" in model_card(PRESENT[0], card)


def test_cards_of_another_folder_are_written_there(tmp_path):
    name = next(iter(NAMES))
    folder = tmp_path / bundled_folder(name).name
    folder.mkdir()
    shutil.copy(bundled_folder(name) / CARD, folder)
    assert "is written" in run("bundle", name, "--cards", "--out", tmp_path).stdout
    assert (folder / MODEL_CARD).read_text(encoding="utf-8") == model_card(name, read_card(folder))


def test_another_name_is_a_sentence():
    with pytest.raises(InputError, match="Unknown adapter"):
        bundled_folder("resnet20/lorra")
