"""Looking at a person's pictures: which files are taken, what is said of them, what an exchange of cores does."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.inspection.gallery import build_gallery
from metalora.runs.run_config import RunConfig
from metalora.runs.workspace import Workspace
from metalora.suites import load_suite
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.views.app_state import OpenAdapter
from metalora.views.inspect import (
    EXAMPLES,
    MOST,
    constant_update,
    exchange,
    gallery_k,
    inspect_view,
    read_files,
    save_inspection,
    told,
)


@pytest.fixture(scope="module")
def suite():
    return load_suite("digits", max_queries=30, max_train_images=5)


@pytest.fixture(scope="module")
def opened(randomise, suite):
    """Makes an adapter with random parameters and its gallery."""

    def make(method="metalora-tr", set_size=1, seed=0, limit=40, factors=()):
        adapter = metalora.AdapterConfig(method, rank=2, factors=factors)
        model = metalora.adapt(metalora.load_backbone("resnet20", image_size=16), adapter)
        randomise(model.trained, seed=seed, scale=0.2)
        config = RunConfig(
            adapter=adapter, training=TrainingConfig(set_size=set_size, batch_size=8), start="another suite"
        )
        return OpenAdapter(
            config, model, build_gallery(model, suite, limit=limit, embed_config=EmbedConfig(device="cpu")), {}
        )

    return make


@pytest.fixture(scope="module")
def generated(opened):
    return opened()


@pytest.fixture(scope="module")
def static(opened):
    return opened("lora")


def app_state(adapter, root=None):
    """One that holds one adapter, whatever it is called."""
    workspace = None if root is None else Workspace(root)
    return SimpleNamespace(open=lambda visitor, name: adapter, workspace=workspace)


def test_the_examples_are_few_enough_to_look_at():
    assert 2 <= len(EXAMPLES) <= MOST


def test_files_are_taken_one_by_one_and_the_others_named(tmp_path):
    paths = [tmp_path / name for name in ("good.png", "broken.png", "notes.txt", "many.zip", "dot.webp")]
    Image.new("RGB", (20, 30), "red").save(paths[0])
    Image.new("RGBA", (1, 1)).save(paths[4])
    for path in paths[1:4]:
        path.write_bytes(b"no picture")
    pictures = read_files(paths, 16)
    assert pictures.known["name"].tolist() == ["good.png", "dot.webp"]
    assert pictures.images().shape == (2, 3, 16, 16)
    reasons = dict(pictures.skipped)
    assert set(reasons) == {"broken.png", "notes.txt", "many.zip"}
    assert all("PNG" in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "upload one or more"),
        (["notes.txt"], "notes.txt: It is no picture"),
        (["broken.png"], "broken.png: "),
        ([f"{i}.png" for i in range(MOST + 1)], f"give {MOST} pictures at most"),
    ],
)
def test_where_nothing_can_be_read_a_sentence_says_why(tmp_path, names, said):
    for name in names:
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match=said):
        read_files([tmp_path / name for name in names], 16)


def test_a_look_keeps_the_rest_and_names_what_it_left_out(generated, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    found, table = inspect_view(app_state(generated), "", "any", [*EXAMPLES[:2], broken])
    assert found.omitted.startswith("Left out: broken.png. ")
    assert len(found.images) == 2 and found.names[0] == f"1. {EXAMPLES[0].name}"
    assert "2 pictures, a core for each." in found.headline
    assert found.has_cores and not found.fixed
    assert found.strongest in found.layers == list(generated.model.layers)
    assert table.count('scope="row"') == 2


def test_pooled_pictures_share_one_core_and_exchange_none(generated):
    lab = app_state(generated)
    found, _ = inspect_view(lab, "", "any", EXAMPLES[:3], pool=True)
    flat = found.examination.inspection.cores.flatten()
    assert torch.allclose(flat, flat[:1].expand_as(flat))
    assert "one core for all of them" in found.headline
    assert "pooling off" in found.fixed
    with pytest.raises(InputError, match="pooling off"):
        exchange(lab, "", found, 0, 1, 1.0)


def test_a_static_method_says_so_and_pools_nothing(static):
    lab = app_state(static)
    found, _ = inspect_view(lab, "", "any", EXAMPLES[:2], pool=True)
    assert "LoRA has one adapter for every image" in found.headline and "LoRA has one adapter" in found.fixed
    assert found.constant and not found.has_cores and not found.pooled
    strengths = found.examination.inspection.strength
    assert (strengths.iloc[0] == strengths.iloc[1]).all() and strengths.iloc[0].max() > 0
    with pytest.raises(InputError, match="no core to exchange"):
        exchange(lab, "", found, 0, 1, 1.0)


def test_factors_that_a_code_names_are_read_off_each_picture_and_off_all_together(opened, suite):
    named = opened(factors=(2, 2, 3))
    found, table = inspect_view(app_state(named), "", "any", EXAMPLES[:3], pool=True)
    codes = named.model.codes(read_files(EXAMPLES[:3], 16).images())
    for i, words in enumerate(found.read[:3]):
        for part, values, said in zip(codes[i].split((2, 2, 3)), suite.factors, words.split(", "), strict=True):
            assert said == f"{values[part.argmax()]} {part.max():.0%}"
    assert "read off it" in table and all(words in table for words in found.read[:3])
    pooled = named.model.mapping.pool(codes, torch.zeros(3, dtype=torch.int64))[0]
    assert found.read[3].startswith(f"{suite.factors[0][pooled[:2].argmax()]} ")
    assert f"Read off them together: {found.read[3]}." in found.headline
    free, table = inspect_view(app_state(opened()), "", "any", EXAMPLES[:3])
    assert not free.read and "read off it" not in table


def test_an_adapter_that_went_on_elsewhere_reads_nothing(opened):
    """Its code names factors that the suite of its gallery lacks."""
    assert not inspect_view(app_state(opened(factors=(4, 6, 2))), "", "any", EXAMPLES[:2])[0].read


def test_how_an_adapter_was_trained_decides_the_advice(generated, opened):
    alone, _ = inspect_view(app_state(generated), "", "any", EXAMPLES[:2], pool=True)
    assert "trained on single pictures" in alone.headline
    of_sets = opened(set_size=4)
    for pool, advised in ((False, True), (True, False)):
        found, _ = inspect_view(app_state(of_sets), "", "any", EXAMPLES[:2], pool=pool)
        assert ("trained on sets" in found.headline) == advised


def test_one_picture_has_nobody_to_exchange_with(generated):
    found, _ = inspect_view(app_state(generated), "", "any", EXAMPLES[:1])
    assert "takes two pictures" in found.fixed and "1 picture, " in found.headline


def test_a_swap_is_the_embedding_with_the_donors_core(generated):
    lab, model = app_state(generated), generated.model
    found, _ = inspect_view(lab, "", "any", EXAMPLES[:3])
    given, table = exchange(lab, "", found, 0, 2, 1.0)
    with torch.inference_mode():
        expected = model(found.images[:1], cores=found.examination.inspection.cores[2])[0]
    torch.testing.assert_close(given.embedding, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    assert given.moved > 0.001 and table.count('scope="row"') == 1
    said = told(found, 0, 2, 1.0, given)
    assert said.startswith(f"{found.names[0]} with 100 % of the core of {found.names[2]} moves by ")
    assert said.endswith(f"{given.predicted}.")


def test_no_share_of_anothers_core_moves_nothing(generated):
    lab = app_state(generated)
    found, _ = inspect_view(lab, "", "any", EXAMPLES[:2])
    half, _ = exchange(lab, "", found, 0, 1, 0.5)
    none, _ = exchange(lab, "", found, 0, 1, 0.0)
    assert none.moved == pytest.approx(0, abs=1e-5) and none.moved < half.moved
    assert none.predicted == found.examination.predicted_after[0]
    assert "with its own core moves" in told(found, 0, 1, 0.0, none)
    with pytest.raises(InputError, match="from 0 to 1"):
        exchange(lab, "", found, 0, 1, 1.5)
    with pytest.raises(InputError, match="There is no image 9"):
        exchange(lab, "", found, 0, 9, 1.0)


def test_an_adapter_that_was_trained_on_refuses_an_old_look(generated, opened):
    found, _ = inspect_view(app_state(generated), "", "any", EXAMPLES[:2])
    with pytest.raises(InputError, match="choose it again"):
        exchange(app_state(opened(seed=5)), "", found, 0, 1, 1.0)


def test_a_small_gallery_votes_with_what_it_has(generated, opened):
    assert gallery_k(generated.gallery) == 5
    small = replace(generated, gallery=opened(limit=3).gallery)
    assert gallery_k(small.gallery) == 3
    found, _ = inspect_view(app_state(small), "", "any", EXAMPLES[:1])
    assert len(found.examination.nearest_after) == 3


def test_downloads_lie_in_the_visitors_own_folder(generated, tmp_path):
    lab = app_state(generated, tmp_path)
    visitor, other = lab.workspace.new_visitor(), lab.workspace.new_visitor()
    found, _ = inspect_view(lab, visitor, "any", EXAMPLES[:2])
    csv, npz = save_inspection(lab, visitor, found)
    for path in (csv, npz):
        assert path.is_relative_to(lab.workspace.folder(visitor))
        assert not path.is_relative_to(lab.workspace.folder(other))
    assert set(pd.read_csv(csv)["image"]) == {1, 2}
    with np.load(npz) as arrays:
        assert arrays["strength"].shape == (2, len(found.layers))
    assert lab.workspace.runs(visitor) == []
    with pytest.raises(InputError, match="lost its visitor"):
        save_inspection(lab, "../x", found)


def test_a_constant_update_is_the_models_own(opened, static):
    seen, _ = inspect_view(app_state(static), "", "any", EXAMPLES)
    layer = seen.layers[3]
    expected = static.model.delta_weight(layer)[0]
    assert torch.equal(constant_update(app_state(static), "", seen, layer), expected)
    with pytest.raises(InputError, match="is not adapted"):
        constant_update(app_state(static), "", seen, "nowhere")
    with pytest.raises(InputError, match="trained further"):
        constant_update(app_state(opened("lora", seed=1)), "", seen, layer)
