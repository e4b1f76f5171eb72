"""Figures: what is drawn is what was computed."""

import numpy as np
import pytest
import torch

import metalora
from metalora.errors import InputError
from metalora.figures import draw, fingerprint
from metalora.inspection import inspect_images


def inspected(method="metalora-tr", **settings):
    backbone = metalora.load_backbone("resnet20", image_size=16, pretrained=False)
    model = metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2, **settings))
    for parameter in model.trained.adapters.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return inspect_images(model, images), images


@pytest.mark.parametrize("method", ["metalora-cp", "metalora-tr"])
def test_fingerprint_shows_every_value_and_strength(method):
    found, images = inspected(method)
    figure = fingerprint(found, images)
    heatmaps, strips = figure.data[::2], figure.data[1::2]
    assert len(heatmaps) == len(strips) == 3
    core = found.cores["layer2.0.conv1"].flatten(1)
    column = list(found.strength).index("layer2.0.conv1")
    for sample, (heatmap, strip) in enumerate(zip(heatmaps, strips, strict=True)):
        shown = np.asarray(heatmap.z, dtype=float)[::-1, column]
        assert shown == pytest.approx((core - core.mean(0))[sample].numpy(), abs=1e-6)
        assert np.asarray(strip.z, dtype=float)[0] == pytest.approx(found.strength.iloc[sample].to_numpy())
    assert len({(heatmap.zmin, heatmap.zmax) for heatmap in heatmaps}) == 1
    assert heatmaps[0].zmin == -heatmaps[0].zmax
    assert len(figure.layout.images) == 3


def test_static_methods_have_no_fingerprint():
    with pytest.raises(InputError, match="no fingerprint"):
        fingerprint(*inspected("lora"))


def test_html_is_whole_and_other_endings_are_refused(tmp_path):
    figure = fingerprint(*inspected())
    draw(figure, tmp_path / "figure.html")
    assert "plotly" in (tmp_path / "figure.html").read_text(encoding="utf-8").lower()
    with pytest.raises(InputError, match="ends with"):
        draw(figure, tmp_path / "figure.bmp")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.html"]
