"""Figures: what is drawn is what was computed."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

import metalora
from metalora import plots
from metalora.adapters.methods import METHODS, Method
from metalora.experiments.variants import CONTROLS, DEFAULT
from metalora.inspection.inspect_images import inspect_images
from metalora.plots import fingerprint, save_figure
from metalora.plots.comparison import AXIS, PANEL
from metalora.plots.fingerprint import with_values_of
from metalora.plots.palette import RIGHT, WRONG, class_colours, layout, method_colour
from metalora.plots.shifts import core_plane, with_image_at
from metalora.util.errors import InputError

LAYER = "layer2.0.conv1"


def inspected(method="metalora-tr", count=3, **settings):
    backbone = metalora.load_backbone("resnet20", image_size=16, pretrained=False)
    model = metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2, **settings))
    for parameter in model.trained.adapters.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return inspect_images(model, images), images


@pytest.fixture(scope="module")
def tr():
    return inspected()


@pytest.fixture(scope="module")
def cp():
    return inspected("metalora-cp")


def values(data):
    return np.asarray(data, dtype=float)


def plain(figure):
    return json.loads(figure.to_json())


def words(figure):
    return [annotation.text for annotation in figure.layout.annotations]


@pytest.mark.parametrize("method", ["metalora-cp", "metalora-tr"])
def test_fingerprint_shows_every_value_and_strength(method, cp, tr):
    inspection, images = cp if method == "metalora-cp" else tr
    figure = fingerprint(inspection, images)
    heatmaps, strips = figure.data[::2], figure.data[1::2]
    assert len(heatmaps) == len(strips) == 3
    core = inspection.cores[LAYER].flatten(1)
    column = list(inspection.strength).index(LAYER)
    for sample, (heatmap, strip) in enumerate(zip(heatmaps, strips, strict=True)):
        shown = values(heatmap.z)[::-1, column]
        assert shown == pytest.approx((core - core.mean(0))[sample].numpy(), abs=1e-6)
        assert values(strip.z)[0] == pytest.approx(inspection.strength.iloc[sample].to_numpy())
    assert len({(heatmap.zmin, heatmap.zmax) for heatmap in heatmaps}) == 1
    assert heatmaps[0].zmin == -heatmaps[0].zmax
    assert len(figure.layout.images) == 3


def test_fingerprint_of_one_image_is_not_blank(tr):
    inspection, images = inspected(count=1)
    heatmap = fingerprint(inspection, images).data[0]
    column = list(inspection.strength).index(LAYER)
    shown = values(heatmap.z)[::-1, column].reshape(2, 2)
    assert shown == pytest.approx((inspection.cores[LAYER][0] - torch.eye(2)).numpy(), abs=1e-6)
    assert heatmap.colorbar.title.text == "core − identity"
    against = fingerprint(inspection, images, reference=tr[0].cores.mean()).data[0]
    expected = inspection.cores[LAYER][0] - tr[0].cores[LAYER].mean(0)
    assert values(against.z)[::-1, column].reshape(2, 2) == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.parametrize("method", ["metalora-cp", "metalora-tr"])
def test_a_fingerprint_filled_anew_is_the_one_drawn_anew(method):
    (first, first_images), (other, other_images) = inspected(method, 1), inspected(method, 1, seed=5)
    reference = first.cores.mean()
    drawn = [
        fingerprint(inspection, images, reference=reference, limit=2.0, compact=True)
        for inspection, images in ((first, first_images), (other, other_images))
    ]
    template = plain(drawn[0])
    filled = go.Figure(with_values_of(template, other, reference))
    assert template == plain(drawn[0]) and template != plain(drawn[1])
    assert filled.layout == go.Figure(plain(drawn[1])).layout
    for trace, expected in zip(filled.data, drawn[1].data, strict=True):
        assert values(trace.z) == pytest.approx(values(expected.z), nan_ok=True) and trace.zmax == expected.zmax


def test_a_plane_with_another_image_is_the_one_drawn_anew():
    plane, tasks = np.random.default_rng(0).normal(size=(6, 2)), ["a", "b"] * 3
    first, other = (core_plane(plane, tasks, *points) for points in (plane[:2], plane[2:4]))
    moved = go.Figure(with_image_at(plain(first), *plane[2:4]))
    assert moved.layout == go.Figure(plain(other)).layout
    assert values([trace.x for trace in moved.data[-1:]]) == pytest.approx(values([other.data[-1].x]))
    assert values([trace.y for trace in moved.data[-1:]]) == pytest.approx(values([other.data[-1].y]))
    assert plain(moved)["data"][:-1] == plain(first)["data"][:-1]


def test_fingerprint_for_files_is_white_and_on_pages_fits(tr):
    printed, shown = fingerprint(*tr), fingerprint(*tr, theme="dark")
    assert (printed.layout.width, printed.layout.paper_bgcolor) == (900, "white")
    assert (shown.layout.width, shown.layout.paper_bgcolor) == (None, "rgba(0,0,0,0)")
    assert printed.layout.font.color != shown.layout.font.color


def test_methods_without_core_are_refused(tr):
    inspection, images = inspected("lora")
    with pytest.raises(InputError, match="no fingerprint"):
        fingerprint(inspection, images)
    with pytest.raises(InputError, match="no core to show"):
        plots.core_values(inspection, LAYER)
    with pytest.raises(InputError, match="no core to compare"):
        plots.similarities(inspection)
    with pytest.raises(InputError, match="no core of layer"):
        plots.core_values(tr[0], "nowhere")


def test_html_is_whole_and_other_endings_are_refused(tmp_path, tr):
    figure = fingerprint(*tr)
    save_figure(figure, tmp_path / "figure.html")
    assert "plotly" in (tmp_path / "figure.html").read_text(encoding="utf-8").lower()
    with pytest.raises(InputError, match="ends with"):
        save_figure(figure, tmp_path / "figure.bmp")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.html"]


def test_core_values_are_bars_or_cells_on_one_scale(cp, tr):
    for (inspection, _), kind, field in ((cp, go.Bar, "y"), (tr, go.Heatmap, "z")):
        figure = plots.core_values(inspection, LAYER)
        core = inspection.cores[LAYER].numpy()
        assert [type(trace) for trace in figure.data] == [kind] * 3
        for trace, own in zip(figure.data, core, strict=True):
            assert values(trace[field]) == pytest.approx(own)
        scale = figure.layout.coloraxis
        assert scale.cmax == -scale.cmin == pytest.approx(abs(core).max())
        assert words(figure)[:3] == ["image 1", "image 2", "image 3"]


@pytest.mark.parametrize("method", ["metalora-cp", "metalora-tr"])
def test_panels_and_fingerprints_stay_as_high_when_images_are_many(method):
    few, many = inspected(method, 1), inspected(method, 16)

    def pixels(figure, axis):
        margin = figure.layout.margin
        bottom, top = figure.layout[axis].domain
        return (top - bottom) * (figure.layout.height - margin.t - margin.b)

    panels = [plots.core_values(inspection, LAYER) for inspection, _ in (few, many)]
    assert pixels(panels[1], "yaxis") == pytest.approx(pixels(panels[0], "yaxis"))
    assert len([text for text in words(panels[1]) if text.startswith(("rank", "column"))]) == 1
    prints = [fingerprint(*inspected(method, count)) for count in (2, 16)]
    assert pixels(prints[1], "yaxis") == pytest.approx(pixels(prints[0], "yaxis"), rel=0.25)


def test_names_from_outside_are_never_markup(tr):
    inspection = dataclasses.replace(tr[0], names=('<a href="x">', "b" * 99, "b" * 99))
    for figure in (plots.core_values(inspection, LAYER), plots.strengths(inspection), plots.similarities(inspection)):
        text = json.dumps(figure.to_plotly_json(), default=str)
        assert "<a " not in text and "&lt;a " in text
        assert "b" * 30 not in text


def test_strengths_have_a_row_per_image_or_one_for_all(tr):
    inspection, _ = tr
    figure = plots.strengths(inspection)
    assert values(figure.data[0].z) == pytest.approx(inspection.strength.to_numpy())
    assert list(figure.data[0].x) == list(inspection.strength)
    static = plots.strengths(inspected("lora")[0])
    assert values(static.data[0].z).shape[0] == 1
    assert static.layout.yaxis.ticktext == ("every image",)


def test_similarities_keep_images_of_one_name_apart(tr):
    inspection = dataclasses.replace(tr[0], names=("same", "same", "other"))
    figure = plots.similarities(inspection)
    assert values(figure.data[0].z) == pytest.approx(inspection.similarity.numpy())
    assert figure.layout.xaxis.ticktext == ("same", "same", "other")
    assert (figure.data[0].zmin, figure.data[0].zmax) == (pytest.approx(inspection.similarity.min().item()), 1)
    opposite = dataclasses.replace(inspection, similarity=-inspection.similarity)
    assert plots.similarities(opposite).data[0].zmin == -1


def test_codes_keep_distances_or_say_why_not():
    flat = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    codes = torch.nn.functional.pad(flat, (2, 3))  # in a plane of seven dimensions
    figure = plots.code_scatter(codes, ["a", "b", "c"])
    points = np.stack([values(figure.data[0].x), values(figure.data[0].y)], axis=1)
    assert np.linalg.norm(points[1] - points[2]) == pytest.approx(5)
    assert figure.layout.yaxis.scaleanchor == "x"
    assert "Three images" in words(plots.code_scatter(codes[:2], ["a", "b"]))[0]
    assert "share one code" in words(plots.code_scatter(codes[:1].expand(4, -1), list("abcd")))[0]
    assert values(plots.code_scatter(flat[:, :1], list("abc")).data[0].y) == pytest.approx(0)


def test_every_variant_looks_different_and_has_its_methods_hue():
    more = ("metalora-tr@all", "metalora-tr-factors-oracle")
    styles = {name: plots.variant_style(name) for name in (*DEFAULT, *CONTROLS, *more)}
    assert len({(style.colour, style.symbol) for style in styles.values()}) == len(styles)
    assert styles["metalora-tr@8"].colour == styles["metalora-tr"].colour == method_colour("metalora-tr")
    shuffled = styles["metalora-tr-shuffled"]
    assert shuffled.pattern and shuffled.colour != method_colour("metalora-tr")
    assert len({method_colour(name) for name in METHODS}) == len(METHODS)
    with pytest.raises(InputError, match="Unknown method"):
        plots.variant_style("nothing")


def test_a_method_without_a_colour_gets_one_of_its_own():
    METHODS.register("toy", Method("Toy", "metalora.adapters.lora:LoRA", "nowhere"))
    METHODS.register("doll", Method("Doll", "metalora.adapters.lora:LoRA", "nowhere", "#123456"))
    try:
        assert method_colour("toy") not in {method_colour(name) for name in METHODS if name != "toy"}
        assert method_colour("toy") == method_colour("toy") and method_colour("doll") == "#123456"
    finally:
        METHODS.unregister("toy")
        METHODS.unregister("doll")


def test_class_colours_do_not_depend_on_order_and_are_many():
    letters = [chr(code) for code in (*range(48, 58), *range(65, 91), *range(97, 123))]
    colours = class_colours(letters)
    assert len(set(colours.values())) == len(letters) == 62
    assert class_colours(reversed(letters)) == colours
    assert class_colours(letters[:10]) == {name: colours[name] for name in letters[:10]}


def test_the_first_ten_class_colours_show_on_light_and_dark():
    def luminance(colour):
        rgb = np.array([*bytes.fromhex(colour[1:])]) / 255
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    shades = [luminance(colour) for colour in class_colours("0123456789").values()]
    assert min(1.05 / (shade + 0.05) for shade in shades) > 1.6
    assert min((shade + 0.05) / 0.056 for shade in shades) > 1.9


def test_an_unknown_theme_is_refused():
    with pytest.raises(InputError, match="use light, dark, print"):
        layout("sepia")


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 2)), columns=["x", "y"], index=range(100, 140))
    frame["label"] = ["cat", "dog", "emu", ""] * 10
    frame["task"] = ["rotated"] * 20 + ["plain"] * 20
    frame["correct"] = [True, False, np.nan, True] * 10
    return frame


@pytest.mark.parametrize("colour", ["label", "task", "correct"])
def test_an_embedding_has_every_row(points, colour):
    figure = plots.embedding_scatter(points, colour=colour, theme="dark")
    inspection = [
        (int(i), x, y) for trace in figure.data for i, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    ]
    assert sorted(inspection) == [(i, x, y) for i, (x, y) in enumerate(points[["x", "y"]].to_numpy())]
    assert {trace.type for trace in figure.data} == {"scattergl"} and {t.hoverinfo for t in figure.data} == {"none"}
    assert figure.layout.yaxis.scaleanchor == "x" and not figure.layout.xaxis.showticklabels


def test_embedding_colours_mean_the_same_everywhere(points):
    expected = class_colours(["ant", "cat", "dog", "emu"])
    traces = {trace.name: trace for trace in plots.embedding_scatter(points, classes=list(expected)).data}
    assert {name: traces[name].marker.color for name in ("cat", "dog", "emu")} == {
        name: expected[name] for name in ("cat", "dog", "emu")
    }
    assert list(traces["unknown"].customdata) == list(range(3, 40, 4))
    right = {trace.name: trace.marker.color for trace in plots.embedding_scatter(points, colour="correct").data}
    assert (right["right"], right["wrong"]) == (RIGHT, WRONG) and "unknown" in right


def test_embedding_keeps_the_zoom_for_another_colour_only(points):
    first, recoloured = plots.embedding_scatter(points), plots.embedding_scatter(points, colour="task")
    moved = plots.embedding_scatter(points.assign(x=points["x"] + 1))
    assert first.layout.uirevision == recoloured.layout.uirevision != moved.layout.uirevision
    with pytest.raises(InputError, match="lack task"):
        plots.embedding_scatter(points.drop(columns="task"), colour="task")


@pytest.fixture
def rows():
    variants = ["original", "lora", "metalora-cp", "metalora-tr", "metalora-tr@8"]
    frame = pd.DataFrame(itertools.product(["resnet20", "mixer_nano"], variants), columns=["backbone", "method"])
    frame["accuracy"] = [0.5, 0.6, 0.55, 0.7, 0.65] * 2
    frame["std"] = [None, 0.01] * 5
    frame["static_parameters"] = [0, 10_000, 10_000, 10_000, 10_000] * 2
    frame["generator_parameters"] = [0, 0, 2_300, 2_300, 2_300] * 2
    return frame.assign(task_split="unseen", gallery="pooled", k=5)


def test_budget_scatter_has_every_variant_and_the_pareto_front(rows):
    figure = plots.budget_scatter(pd.concat([rows, rows.assign(k=10, accuracy=0.1)]))
    assert words(figure) == ["resnet20", "mixer_nano"]
    front, *variants = [trace for trace in figure.data if trace.xaxis == "x"]
    assert list(front.x) == [0, 10_000, 12_300] and list(front.y) == pytest.approx([50, 60, 70])
    assert [(trace.x[0], trace.y[0]) for trace in variants[:3]] == [(0, 50), (10_000, 60), (12_300, pytest.approx(55))]
    assert variants[3].marker.color == method_colour("metalora-tr")
    assert "60.0 ± 1.0 %" in variants[1].hovertemplate and "12.3 k" in variants[2].hovertemplate
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert len(named) == len(set(named)) == 6
    plots.budget_scatter(rows.rename(columns={"accuracy": "mean"}))


def test_the_legend_of_many_rows_leaves_panels_as_high(rows):
    few = plots.budget_scatter(rows)
    many = [rows.assign(method=[f"{name.split('@')[0]}{use}" for name in rows["method"]]) for use in ("", "@8", "@all")]
    more = plots.budget_scatter(pd.concat(many))
    assert more.layout.height > few.layout.height + 100
    for figure in (few, more):
        margin, legend = figure.layout.margin, figure.layout.legend
        assert figure.layout.height - margin.t - margin.b == PANEL - margin.t
        below = -legend.y * (PANEL - margin.t)  # where the legend begins, in pixels below the panels
        assert pytest.approx(below) == AXIS and legend.maxheight == pytest.approx(margin.b - below)


def test_budget_scatter_says_what_is_missing(rows):
    assert words(plots.budget_scatter(rows, task_split="seen")) == ["seen tasks, pooled gallery: not run"]
    with pytest.raises(InputError, match="lack the columns k"):
        plots.budget_scatter(rows.drop(columns="k"))


@pytest.fixture
def tasks():
    frame = pd.DataFrame(
        itertools.product(["lora", "metalora-tr"], ["a", "b"], [0, 1]), columns=["method", "task", "seed"]
    )
    frame["accuracy"] = [0.5, 0.6, 0.7, 0.8, 0.3, 0.3, 0.4, 0.4]
    frame = frame.assign(backbone="resnet20", task_split="unseen", gallery="pooled", k=5)
    return frame[~((frame["method"] == "metalora-tr") & (frame["task"] == "b"))]


def test_task_heatmap_averages_seeds_and_names_what_was_not_run(tasks):
    figure = plots.task_heatmap(tasks, methods=["metalora-tr", "multi-lora", "lora"])
    measured, absent = figure.data
    nan = float("nan")
    assert values(measured.z) == pytest.approx(np.array([[30, nan], [nan, nan], [55, 75]]), nan_ok=True)
    assert np.isnan(values(absent.z)).tolist() == [[True, False], [False, False], [True, True]]
    texts = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(measured.text, absent.text, strict=True)]
    assert texts == [["30.0", "not<br>run"], ["not<br>run", "not<br>run"], ["55.0", "75.0"]]
    assert list(measured.y) == ["Meta-LoRA TR", "Multi-LoRA", "LoRA"] and list(measured.x) == ["a", "b"]
    assert (measured.zmin, measured.zmax) == (30, 80)


def test_task_heatmap_of_many_tasks_says_not_run_in_its_legend(tasks):
    lora, tr = tasks[tasks["method"] == "lora"], tasks[tasks["method"] == "metalora-tr"]
    many = pd.concat([tr, *(lora.assign(task=lora["task"] + str(i)) for i in range(10))])
    absent = plots.task_heatmap(many).data[1]
    assert absent.showlegend and absent.name == "not run" and not any(map("".join, absent.text))
    assert not plots.task_heatmap(lora).data[1].showlegend


def test_task_heatmap_without_results_says_so(tasks):
    assert words(plots.task_heatmap(tasks, methods=["original"])) == ["unseen tasks, pooled gallery: not run"]
    assert words(plots.task_heatmap(tasks, backbone="mixer_nano")) == ["unseen tasks, pooled gallery: not run"]


def test_curves_of_a_run_begin_at_the_original_backbone():
    events = pd.DataFrame({"step": [1, 2, 3], "loss": [2.0, 1.5, 1.0], "accuracy": [0.1, 0.2, 0.4]})
    events = events.assign(validation=[np.nan, np.nan, 0.6], original=[0.5, np.nan, np.nan])
    figure = plots.training_curves(events, "metalora-cp")
    traces = {trace.name.split(" ")[0]: trace for trace in figure.data}
    assert list(traces["original"].x) == [1, 3] and list(traces["original"].y) == [50, 50]
    assert list(traces["validation"].y) == [60] and traces["validation"].line.color == method_colour("metalora-cp")
    assert list(traces["loss"].y) == [2.0, 1.5, 1.0] and traces["loss"].yaxis == "y2"
    assert all(len(trace.x) == 0 for trace in plots.training_curves(events[:0], "lora").data)


def test_an_update_is_drawn_as_it_is_or_by_the_largest_of_its_blocks():
    delta = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * 1e-3
    delta[0, 0, 0, 0] = 0
    (map_,) = plots.update_weights(delta).data
    assert values(map_.z) == pytest.approx(delta.flatten(1).numpy(), rel=1e-3)
    assert map_.zmax == -map_.zmin == pytest.approx(float(delta.abs().max()), rel=1e-3)
    large = torch.zeros(5, 2000)
    large[2, 1234], large[2, 1235] = -7.0, 3.0
    (map_,) = plots.update_weights(large).data
    assert np.shape(map_.z) == (5, 500) and map_.dx == 4
    assert values(map_.z)[2][1234 // 4] == -7 and np.abs(values(map_.z)).sum() == 7
