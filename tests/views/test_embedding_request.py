"""What is asked of the map: unknown values give the nearest valid view and say so; own images name what is wrong."""

import re

import numpy as np
import pytest
from PIL import Image

from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, AppState
from metalora.views.embedding import ORIGINAL, embedding_view
from metalora.views.embedding_guests import place_guests
from metalora.views.embedding_request import resolve

DIGITS = "resnet20/metalora-tr"  # whose images are here
ASKED = {
    "adapter": DIGITS,
    "versus": ORIGINAL,
    "arrangement": "morph",
    "space": "adapted",
    "method": "umap",
    "neighbours": 15,
    "min_dist": 0.1,
    "aligned": False,
}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return AppState(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def visitor(state):
    return state.ensure_visitor(None)


def test_the_first_sight_is_the_original_network_turning_into_the_default_adapter_from_saved_planes(state, visitor):
    asked = {**ASKED, "adapter": DEFAULT}
    request, shown, notes = resolve(state, visitor, **asked)
    view = embedding_view(shown, request.projection, request)
    assert not notes and view.precomputed and view.morphs
    assert (
        view.spaces == ("original", "adapted") and view.frames[0]["correct"].mean() < view.frames[1]["correct"].mean()
    )
    assert resolve(state, visitor, **asked)[0] == request  # so that nothing is drawn twice


@pytest.mark.parametrize("field", ["adapter", "versus", "arrangement", "space", "method"])
def test_an_unknown_value_gives_the_default_and_says_so(state, visitor, field):
    request, _, (note,) = resolve(state, visitor, **{**ASKED, field: "run:20260101-nobodys"})
    assert request == resolve(state, visitor, **{**ASKED, **({"adapter": DEFAULT} if field == "adapter" else {})})[0]
    assert note.startswith("Unknown ") and "nobodys" in note


def test_cores_of_a_method_without_any_are_features_and_it_says_so(state, visitor):
    request, _, (note,) = resolve(state, visitor, **{**ASKED, "adapter": "resnet20/lora", "space": "cores"})
    assert request.projection.space == "adapted" and "LoRA on resnet20 generates no cores" in note


def test_aligning_needs_two_and_umap(state, visitor):
    aligned = {**ASKED, "aligned": True}
    assert resolve(state, visitor, **aligned)[0].projection.aligned
    assert not resolve(state, visitor, **{**aligned, "versus": ""})[0].projection.aligned
    assert not resolve(state, visitor, **{**aligned, "method": "pca"})[0].projection.aligned


def test_an_image_of_the_gallery_lands_on_its_own_point(state, visitor, tmp_path):
    request, shown, _ = resolve(state, visitor, **{**ASKED, "method": "pca"})
    gallery = shown[1].opened.gallery
    files = []
    for row in (3, 40):
        pixels = (gallery.examples.images()[row].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        files.append(tmp_path / f"{row}.png")
        Image.fromarray(pixels).save(files[-1])
    (tmp_path / "broken.png").write_text("words")
    view = embedding_view(shown, request.projection, request)
    guests = place_guests(state, shown, view, [*map(str, files), str(tmp_path / "broken.png")])
    frame = view.frames[0]  # of the original network, which embeds an image the same way in sets and alone
    spread = float(frame["x"].std())
    for mark, row in zip(guests.marks[0], (3, 40), strict=True):
        assert mark["place"] == pytest.approx(frame[["x", "y"]].iloc[row].tolist(), abs=0.05 * spread)
        assert re.fullmatch(r"5 nearest say \S+; cosine 1\.00", mark["lines"][0])
    assert len(guests.tiles["tiles"]) == 2 and "exactly" in guests.tiles["heading"]
    (problem,) = guests.problems
    assert problem.startswith("broken.png cannot be used.")


def test_files_none_of_which_is_an_image_are_named(state, visitor, tmp_path):
    (tmp_path / "letter.txt").write_text("words")
    request, shown, _ = resolve(state, visitor, **ASKED)
    view = embedding_view(shown, request.projection, request)
    with pytest.raises(InputError, match=r"letter\.txt"):
        place_guests(state, shown, view, [str(tmp_path / "letter.txt")])
    assert place_guests(state, shown, view, []).marks == ([], [])


@pytest.mark.parametrize("space", ["cores", "original"])
def test_images_are_placed_in_every_space(state, visitor, space, tmp_path):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    request, shown, _ = resolve(state, visitor, **{**ASKED, "space": space})
    view = embedding_view(shown, request.projection, request)
    ((mark,),) = place_guests(state, shown, view, [str(tmp_path / "red.png")]).marks
    plane = view.frames[0][["x", "y"]].to_numpy()
    low, high = plane.min(0), plane.max(0)
    assert (low <= mark["place"]).all() and (mark["place"] <= high).all()
