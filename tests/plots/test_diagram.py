"""Diagrams: the nodes, the legs and their true sizes; nothing from outside is markup."""

import re
from collections import Counter
from xml.etree import ElementTree

import pytest

import metalora
from metalora.adapters.cp import CP
from metalora.adapters.film import FiLM
from metalora.adapters.lora import LoRA
from metalora.adapters.methods import METHODS, Method
from metalora.adapters.multi_lora import MultiLoRA
from metalora.adapters.tr import TR
from metalora.plots.diagram import diagram, network
from metalora.plots.palette import method_colour
from metalora.util.errors import InputError

NS = "{http://www.w3.org/2000/svg}"
CONV, LINEAR = (32, 16, 3, 5), (32, 16)
NAMES = {LoRA: "lora", MultiLoRA: "multi-lora", CP: "metalora-cp", TR: "metalora-tr", FiLM: "film"}


def draw(format, shape=CONV, **settings):
    """The diagram, its tree, and how often each label is in it."""
    svg = diagram(NAMES[type(format)], format, shape, **settings)
    root = ElementTree.fromstring(svg)
    return svg, root, Counter("".join(text.itertext()) for text in root.iter(f"{NS}text"))


def boxes(element, top=0.0):
    """(left, top, right, bottom) of every label, letters taken as wide as 0.6 of their size."""
    top += float(re.sub(r"translate\(0 (.*)\)", r"\1", element.get("transform", "0")))
    for child in element:
        yield from boxes(child, top)
    if element.tag == f"{NS}text":
        x, y, kind = float(element.get("x")), float(element.get("y")) + top, element.get("class").split()
        size = 17 if "name" in kind else 22 if "plus" in kind else 14
        width = 0.6 * size * len("".join(element.itertext()))
        left = x - (0 if "start" in kind else width if "end" in kind else width / 2)
        yield left, y - size, left + width, y


@pytest.mark.parametrize(
    ("format", "nodes", "ranks"),
    [
        (LoRA(9), ["A", "B", "ΔW"], 1),
        (MultiLoRA(9, 2), ["A1", "B1", "s1", "A2", "B2", "s2", "ΔW"], 2),
        (CP(9), ["A", "B", "cn", "ΔWn"], 3),
        (TR(9), ["A", "B", "Cn", "ΔWn"], 3),
    ],
)
def test_nodes_and_legs_with_their_sizes(format, nodes, ranks):
    _, _, labels = draw(format)
    branches = getattr(format, "branches", 1)
    assert all(labels[name] == 1 for name in (*nodes, "W"))
    assert labels["R = 9"] == ranks
    assert [labels[name] for name in ("I = 16", "K = 3", "K = 5", "O = 32")] == [branches] * 4
    _, _, labels = draw(format, LINEAR)
    assert labels["I = 16"] == branches and not any(label.startswith("K") for label in labels)


def test_the_ring_is_three_arcs_of_one_circle():
    _, root, _ = draw(TR(3))
    paths = [path.get("d") for path in root.iter(f"{NS}path") if "A" in path.get("d")]
    arcs = [re.findall(r"[\d.]+", arc) for arc in paths[0].split("M")[1:]]
    assert len(arcs) == 3 and {arc[2] for arc in arcs} == {"72"}
    ends = [(float(x), float(y)) for arc in arcs for x, y in (arc[:2], arc[-2:])]
    nodes = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{NS}circle")]
    assert len(nodes) == 3
    for node in nodes:  # two arcs end at the rim of every node
        distances = [((x - node[0]) ** 2 + (y - node[1]) ** 2) ** 0.5 for x, y in ends]
        assert sum(abs(distance - 22) < 0.3 for distance in distances) == 2


@pytest.mark.parametrize("format", [LoRA(128), MultiLoRA(64, 3), MultiLoRA(64, 7), CP(128), TR(16), FiLM(2, 4096)])
@pytest.mark.parametrize("kernel", [(), (7, 7)])
def test_labels_stay_inside_and_apart(format, kernel):
    _, root, _ = draw(format, (4096, 1024, *kernel), scale=0.25)
    _, _, width, height = map(float, root.get("viewBox").split())
    labels = list(boxes(root))
    for left, top, right, bottom in labels:
        assert left >= 0 and top >= 0 and right <= width and bottom <= height
    for i, a in enumerate(labels):
        for b in labels[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_many_branches_are_counted_in_words():
    _, _, labels = draw(MultiLoRA(2, 7))
    assert labels["+ 4 more +"] == 1 and labels["A7"] == 1 and labels["A3"] == 0


def test_colours_follow_the_page_and_the_method():
    svg, root, labels = draw(TR(3))
    assert method_colour("metalora-tr") in svg and "fill: currentColor" in svg
    assert labels["generated for each image"] == 1
    assert root.get("role") == "img" and root[0].tag == f"{NS}title" and "ring" in root[1].text


def test_a_constant_core_is_not_called_generated():
    _, _, labels = draw(CP(3), generated=False, scale=0.5)
    assert labels["c"] == 1 and labels["ΔW"] == 1 and labels["generated for each image"] == 0
    assert labels["A holds the scale α / R = 0.5"] == 1


def test_names_are_escaped():
    svg, root, _ = draw(LoRA(2), layer="<script>&")
    assert "<script>" not in svg and "<script>&" in root[0].text


def test_a_method_of_another_package_is_drawn_as_the_tensors_of_its_format():
    class Toy(LoRA):
        def parameter_shapes(self, kernel, inputs, outputs):
            return {"<down>": (self.rank, inputs), "B": (outputs, self.rank)}

    METHODS.register("toy", Method("Toy", Toy, "nowhere"))
    try:
        root = ElementTree.fromstring(diagram("toy", Toy(2), LINEAR))
    finally:
        METHODS.unregister("toy")
    labels = ["".join(text.itertext()) for text in root.iter(f"{NS}text")]
    assert {"<down>", "2×16", "B", "32×2", "I = 16", "O = 32", "ΔW"} <= set(labels)
    assert "<down> (2×16), B (32×2)" in root[1].text


def test_a_network_has_the_sizes_of_the_models_layer(small_net, images):
    settings = {"rank": 2, "alpha": 1.0}
    model = metalora.adapt(small_net, metalora.AdapterConfig("metalora-tr", **settings), example=images)
    labels = Counter(re.findall(r">([^<>]+)</text>", network(model, "grouped")))
    assert labels["I = 4"] == labels["O = 8"] == 1 and labels["K = 3"] == 2  # I is the width of one of its two groups
    assert labels["R = 2"] == 3 and labels["A holds the scale α / R = 0.5"] == 1
    labels = Counter(re.findall(r">([^<>]+)</text>", network(model, "token")))
    assert labels["I = 8"] == labels["O = 12"] == 1
    with pytest.raises(InputError, match="'norm' has no update to draw"):
        network(model, "norm")
