"""The endpoints about images, through gradio's own client."""

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from metalora.util.paths import ASSETS
from metalora.views.app_state import DEFAULT, AppState

EXAMPLES = sorted((ASSETS / "examples").glob("*.png"))


@pytest.fixture(scope="module")
def client(app):
    return Client(app, verbose=False)


def handles(*paths):
    return [handle_file(path) for path in paths]


def test_images_are_inspected_with_the_bundled_adapter(client):
    result = client.predict(files=handles(*EXAMPLES), api_name="/inspect_images")
    assert set(result) == {"adapter", "images", "similarity"} and result["adapter"] == DEFAULT
    assert len(result["images"]) == len(result["similarity"]) == len(EXAMPLES)
    for i, image in enumerate(result["images"]):
        assert set(image) == {"name", "cores", "strength", "neighbours"}
        assert set(image["cores"]) == set(image["strength"]) and len(image["neighbours"]) == 5
        core = image["cores"]["layer1.0.conv1"]
        assert len(core) == len(core[0]) and all(value >= 0 for value in image["strength"].values())
        assert result["similarity"][i][i] == pytest.approx(1)
        nearest = [near["similarity"] for near in image["neighbours"]]
        assert nearest == sorted(nearest, reverse=True)
    first, second = (image["cores"]["layer1.0.conv1"] for image in result["images"][:2])
    assert first != second


def test_a_static_adapter_has_strengths_and_no_cores(client):
    result = client.predict(files=handles(*EXAMPLES[:2]), adapter="resnet20/lora", api_name="/inspect_images")
    assert result["adapter"] == "resnet20/lora" and result["similarity"] is None
    one, other = result["images"]
    assert one["cores"] == {} and one["strength"] == other["strength"]


def test_images_are_embedded_one_by_one(client):
    result = client.predict(files=handles(*EXAMPLES[:3]), api_name="/embed")
    assert set(result) == {"adapter", "names", "embeddings"} and len(set(result["names"])) == 3
    assert [len(row) for row in result["embeddings"]] == [64] * 3
    alone = client.predict(files=handles(EXAMPLES[1]), api_name="/embed")
    assert alone["embeddings"][0] == pytest.approx(result["embeddings"][1], rel=1e-3, abs=1e-3)


def test_bad_input_is_an_error_that_says_what_to_do(client, tmp_path):
    broken, words = tmp_path / "broken.png", tmp_path / "notes.txt"
    broken.write_bytes(b"no picture")
    words.write_text("words")
    many = [tmp_path / f"{i}.png" for i in range(17)]
    for i, path in enumerate(many):
        Image.new("L", (4, 4), i).save(path)
    visitor = AppState(tmp_path / "other").ensure_visitor(None)
    for files, more, message in (
        ([EXAMPLES[0], broken], {}, "broken.png cannot be used"),
        ([words], {}, "save it as PNG or JPEG"),
        (many, {}, "give 16 images at most"),
        ([], {}, "upload one or more"),
        ([EXAMPLES[0]], {"adapter": "resnet20/nothing"}, "Unknown adapter"),
        ([EXAMPLES[0]], {"adapter": "../resnet20"}, "Unknown adapter"),
        ([EXAMPLES[0]], {"adapter": "run:1"}, "needs your visitor"),
        ([EXAMPLES[0]], {"adapter": "run:../../x", "visitor": visitor}, "no such run of yours"),
    ):
        for name in ("/inspect_images", "/embed"):
            with pytest.raises(AppError, match=message):
                client.predict(files=handles(*files), api_name=name, **more)


def test_the_endpoints_are_described_and_typed(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for endpoint in (endpoints["/inspect_images"], endpoints["/embed"]):
        assert endpoint["description"]
        names = [(one["parameter_name"], one["parameter_has_default"]) for one in endpoint["parameters"]]
        assert names == [("files", False), ("adapter", True), ("visitor", True)]
