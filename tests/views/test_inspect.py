"""A person's images: which files are read, what the page says about them, what a swap of cores does."""

import re
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
from metalora.inspection.uncertainty import core_uncertainty
from metalora.runs.run_config import RunConfig
from metalora.runs.workspace import Workspace
from metalora.suites.load import load_suite
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.views.examples import OF_DIGITS
from metalora.views.inspect import (
    MAX_IMAGES,
    constant_update,
    disagree,
    gallery_k,
    inspect_view,
    read_files,
    save_inspection,
    swap_view,
)
from metalora.views.neighbours import neighbours_html
from metalora.views.open_adapter import OpenAdapter
from metalora.views.uncertainty_table import uncertainty_table


@pytest.fixture(scope="module")
def suite():
    return load_suite("digits", max_queries=30, max_train_images=5)


@pytest.fixture(scope="module")
def opened(randomise, suite):
    """Makes an adapter with random parameters and its gallery."""

    def make(method="metalora-tr", set_size=1, seed=0, limit=40, **settings):
        adapter = metalora.AdapterConfig(method, rank=2, **settings)
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


def app_state(adapter, root=None, twin=None):
    """One that holds one adapter, whatever it is called, and perhaps the LoRA to compare it with."""
    workspace = None if root is None else Workspace(root)
    return SimpleNamespace(
        open=lambda visitor, name: twin if name == "twin" else adapter,
        static_twin=lambda visitor, name: None if twin is None else "twin",
        workspace=workspace,
    )


def test_the_examples_are_few_enough_to_inspect():
    assert 2 <= len(OF_DIGITS) <= MAX_IMAGES


def test_files_are_read_one_by_one_and_the_others_named(tmp_path):
    paths = [tmp_path / name for name in ("good.png", "broken.png", "notes.txt", "many.zip", "dot.webp")]
    Image.new("RGB", (20, 30), "red").save(paths[0])
    Image.new("RGBA", (1, 1)).save(paths[4])
    for path in paths[1:4]:
        path.write_bytes(b"no picture")
    images = read_files(paths, 16)
    assert images.table["name"].tolist() == ["good.png", "dot.webp"]
    assert images.images().shape == (2, 3, 16, 16)
    reasons = dict(images.skipped)
    assert set(reasons) == {"broken.png", "notes.txt", "many.zip"}
    assert all("PNG" in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "upload one or more"),
        (["notes.txt"], "notes.txt: It is not an image"),
        (["broken.png"], "broken.png: "),
        ([f"{i}.png" for i in range(MAX_IMAGES + 1)], f"give {MAX_IMAGES} images at most"),
    ],
)
def test_files_that_cannot_be_read_are_an_error(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match=message):
        read_files([tmp_path / name for name in names], 16)


def test_unreadable_files_are_left_out_and_named(generated, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    state = app_state(generated)
    view = inspect_view(state, "", "any", [*OF_DIGITS[:2], broken])
    assert view.skipped_message.startswith("Left out: broken.png. ")
    assert len(view.images) == 2 and view.names[0] == f"1. {OF_DIGITS[0].name}"
    assert "2 images, a core for each." in view.headline
    assert view.has_cores and not view.swap_obstacle
    assert view.strongest_layer in view.layers == list(generated.model.layers)
    assert neighbours_html(state, "", view).count('scope="row"') == 2


def headings(page):
    return re.findall('<th scope="col">(.*?)</th>', page)[1:]


def test_neighbours_are_those_of_the_original_of_lora_of_the_own_core_and_of_anothers(generated, static):
    state = app_state(generated, twin=static)
    view = inspect_view(state, "", "any", OF_DIGITS[:3])
    page, budget = neighbours_html(state, "", view), sum(p.numel() for p in static.model.trained.parameters())
    own, other = "Meta-LoRA TR, its own core", "Meta-LoRA TR, another image&#x27;s core"
    assert headings(page) == ["original network", f"LoRA, {budget / 1000:.1f} k parameters", own, other]
    similarities = [float(value) for value in re.findall(r'title="[^"]*cosine (-?[\d.]+)', page)]
    codes = view.report.inspection.codes
    with torch.no_grad():
        lora = static.model(view.images)
        swapped = generated.model(view.images, cores=generated.model.cores(codes[[1, 2, 0]]))
    for place, (embeddings, adapter) in {1: (lora, static), 3: (swapped, generated)}.items():
        wanted = adapter.gallery.nearest(embeddings, "adapted", 5)["similarity"].tolist()
        shown = [similarities[20 * image + 5 * place + i] for image in range(3) for i in range(5)]
        assert shown == pytest.approx(wanted, abs=1e-3)
    alone = neighbours_html(state, "", inspect_view(state, "", "any", OF_DIGITS[:1]))
    assert headings(alone) == headings(page)  # another core there is of an example
    pooled = neighbours_html(state, "", inspect_view(state, "", "any", OF_DIGITS[:2], pool=True))
    assert headings(pooled) == ["original network", f"LoRA, {budget / 1000:.1f} k parameters", "Meta-LoRA TR"]
    alone = app_state(static)
    assert headings(neighbours_html(alone, "", inspect_view(alone, "", "any", OF_DIGITS[:1]))) == [
        "original network",
        "LoRA",
    ]


def test_pooled_images_share_one_core_and_swap_none(generated):
    state = app_state(generated)
    view = inspect_view(state, "", "any", OF_DIGITS[:3], pool=True)
    flat = view.report.inspection.cores.flatten()
    assert torch.allclose(flat, flat[:1].expand_as(flat))
    assert "one core for all of them" in view.headline
    assert "pooling off" in view.swap_obstacle
    with pytest.raises(InputError, match="pooling off"):
        swap_view(state, "", view, 0, 1, 1.0)


def test_a_static_method_says_so_and_pools_nothing(static):
    state = app_state(static)
    view = inspect_view(state, "", "any", OF_DIGITS[:2], pool=True)
    assert "LoRA has one adapter for every image" in view.headline and "LoRA has one adapter" in view.swap_obstacle
    assert view.constant and not view.has_cores and not view.pooled
    strengths = view.report.inspection.strength
    assert (strengths.iloc[0] == strengths.iloc[1]).all() and strengths.iloc[0].max() > 0
    with pytest.raises(InputError, match="no core to swap"):
        swap_view(state, "", view, 0, 1, 1.0)


def test_factors_are_predicted_of_each_image_and_of_all_together(opened, suite):
    named = opened(factors=(2, 2, 3))
    state = app_state(named)
    view = inspect_view(state, "", "any", OF_DIGITS[:3], pool=True)
    table = neighbours_html(state, "", view)
    codes = named.model.codes(read_files(OF_DIGITS[:3], 16).images())
    for i, text in enumerate(view.factors[:3]):
        for part, values, shown in zip(codes[i].split((2, 2, 3)), suite.factors, text.split(", "), strict=True):
            assert shown == f"{values[part.argmax()]} {part.max():.0%}"
    assert "predicted factors" in table and all(text in table for text in view.factors[:3])
    pooled = named.model.mapping.pool(codes, torch.zeros(3, dtype=torch.int64))[0]
    assert view.factors[3].startswith(f"{suite.factors[0][pooled[:2].argmax()]} ")
    assert f"Predicted of all together: {view.factors[3]}." in view.headline
    assert view.disagree == (len({tuple(part.argmax().item() for part in c.split((2, 2, 3))) for c in codes}) > 1)
    assert ("different tasks" in view.headline) == view.disagree
    state = app_state(opened())
    latent = inspect_view(state, "", "any", OF_DIGITS[:3])
    assert not latent.factors and "predicted factors" not in neighbours_html(state, "", latent)


def test_an_adapter_trained_further_on_another_suite_shows_no_factors(opened):
    """Its code predicts factors that the suite of its gallery lacks."""
    assert not inspect_view(app_state(opened(factors=(4, 6, 2))), "", "any", OF_DIGITS[:2]).factors


@pytest.mark.parametrize("pool", [False, True])
def test_gaussian_cores_have_a_table_of_their_uncertainty(opened, pool):
    gaussian = opened(core_distribution="gaussian")
    view = inspect_view(app_state(gaussian), "", "any", OF_DIGITS[:3], pool=pool)
    wanted = core_uncertainty(gaussian.model, view.images, None, gaussian.gallery, pool=pool)
    table = uncertainty_table(view)
    assert table.count('scope="row"') == 3 and all(name in table for name in view.names)
    rows = [re.findall("<td>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    for i, (deviation, layer, spread, agreement) in enumerate(rows):
        std = wanted.core_std.iloc[i]
        assert float(deviation) == pytest.approx((std**2).mean() ** 0.5, abs=1e-3)
        assert layer == f"{std.idxmax()} ({std.max():.3f})"
        assert float(spread) == pytest.approx(wanted.spread[i].item(), abs=2e-3)
        assert agreement == f"{wanted.agreement[i].item():.0%}"


def test_point_cores_and_static_methods_have_no_table_of_uncertainty(generated, static):
    for adapter in (generated, static):
        view = inspect_view(app_state(adapter), "", "any", OF_DIGITS[:2])
        assert view.uncertainty is None and uncertainty_table(view) == ""


def test_how_an_adapter_was_trained_decides_the_advice(generated, opened):
    alone = inspect_view(app_state(generated), "", "any", OF_DIGITS[:2], pool=True)
    assert "trained on single images" in alone.headline
    of_sets = opened(set_size=4)
    for pool, advised in ((False, True), (True, False)):
        view = inspect_view(app_state(of_sets), "", "any", OF_DIGITS[:2], pool=pool)
        assert ("trained on sets" in view.headline) == advised
    of_both = opened(set_size=(0, 1, 4))
    for pool in (False, True):
        assert "trained on" not in inspect_view(app_state(of_both), "", "any", OF_DIGITS[:2], pool=pool).headline


def test_images_of_different_tasks_are_not_pooled_in_silence(opened):
    named = opened(factors=(2, 2, 3))
    codes = torch.tensor([[0.9, 0.1, 0.8, 0.2, 0.5, 0.3, 0.2], [0.1, 0.9, 0.8, 0.2, 0.5, 0.3, 0.2]])
    factors = (("a", "b"), ("c", "d"), ("e", "f", "g"))
    assert disagree(named.model, factors, codes)
    assert not disagree(named.model, factors, codes[:1].expand(3, -1))
    assert not disagree(opened().model, factors, codes)  # its code predicts nothing


def test_one_image_has_no_donor_and_nothing_to_compare_with(generated):
    view = inspect_view(app_state(generated), "", "any", OF_DIGITS[:1])
    assert not view.comparable and inspect_view(app_state(generated), "", "any", OF_DIGITS[:2]).comparable
    assert "takes two images" in view.swap_obstacle and "1 image, " in view.headline


def test_a_swap_is_the_embedding_with_the_donors_core(generated):
    state, model = app_state(generated), generated.model
    view = inspect_view(state, "", "any", OF_DIGITS[:3])
    message, table = swap_view(state, "", view, 0, 2, 1.0)
    with torch.inference_mode():
        swapped = model(view.images[:1], cores=view.report.inspection.cores[2])
    (predicted,) = generated.gallery.predict(swapped, "adapted")
    moved = 1 - torch.cosine_similarity(view.report.after[0], swapped[0], dim=0).item()
    assert message.startswith(f"{view.names[0]} with 100% of the core of {view.names[2]} moves by ")
    assert float(message.split(" moves by ")[1].split()[0]) == pytest.approx(moved, rel=0.1)
    assert message.endswith(f"{predicted}.") and table.count('scope="row"') == 1


def test_no_fraction_of_another_core_moves_nothing(generated):
    state = app_state(generated)
    view = inspect_view(state, "", "any", OF_DIGITS[:2])
    message, _ = swap_view(state, "", view, 0, 1, 0.0)
    assert "with its own core moves by" in message and message.endswith(f"stays {view.report.predicted_after[0]}.")
    with pytest.raises(InputError, match="from 0 to 1"):
        swap_view(state, "", view, 0, 1, 1.5)
    with pytest.raises(InputError, match="There is no image 9"):
        swap_view(state, "", view, 0, 9, 1.0)


def test_an_adapter_that_was_trained_further_refuses_an_old_view(generated, opened):
    view = inspect_view(app_state(generated), "", "any", OF_DIGITS[:2])
    with pytest.raises(InputError, match="choose it again"):
        swap_view(app_state(opened(seed=5)), "", view, 0, 1, 1.0)


def test_a_small_gallery_votes_with_what_it_has(generated, opened):
    assert gallery_k(generated.gallery) == 5
    small = replace(generated, gallery=opened(limit=3).gallery)
    assert gallery_k(small.gallery) == 3
    view = inspect_view(app_state(small), "", "any", OF_DIGITS[:1])
    assert len(view.report.nearest_after) == 3


def test_downloads_are_in_the_visitors_own_folder(generated, tmp_path):
    state = app_state(generated, tmp_path)
    visitor, other = state.workspace.new_visitor(), state.workspace.new_visitor()
    view = inspect_view(state, visitor, "any", OF_DIGITS[:2])
    csv, npz = save_inspection(state, visitor, view)
    for path in (csv, npz):
        assert path.is_relative_to(state.workspace.folder(visitor))
        assert not path.is_relative_to(state.workspace.folder(other))
    assert set(pd.read_csv(csv)["image"]) == {1, 2}
    with np.load(npz) as arrays:
        assert arrays["strength"].shape == (2, len(view.layers))
    assert state.workspace.runs(visitor) == []
    with pytest.raises(InputError, match="lost its visitor"):
        save_inspection(state, "../x", view)


def test_a_constant_update_is_the_models_own(opened, static):
    view = inspect_view(app_state(static), "", "any", OF_DIGITS)
    layer = view.layers[3]
    expected = static.model.delta_weight(layer)[0]
    assert torch.equal(constant_update(app_state(static), "", view, layer), expected)
    with pytest.raises(InputError, match="is not adapted"):
        constant_update(app_state(static), "", view, "nowhere")
    with pytest.raises(InputError, match="trained further"):
        constant_update(app_state(opened("lora", seed=1)), "", view, layer)
