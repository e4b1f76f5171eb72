"""Diagrams: the nodes, the legs and their true sizes; nothing from outside is markup."""

import re
from collections import Counter
from xml.etree import ElementTree

import pytest

import metalora
from metalora.adapters.cp import CP
from metalora.adapters.lora import LoRA
from metalora.adapters.multi_lora import MultiLoRA
from metalora.adapters.tr import TR
from metalora.plots.diagram import diagram, network
from metalora.plots.palette import HUES
from metalora.util.errors import InputError

NS = "{http://www.w3.org/2000/svg}"
CONV = {"inputs": 16, "outputs": 32, "kernel": (3, 5)}


def read(svg):
    """The tree, and how often each label stands in it."""
    root = ElementTree.fromstring(svg)
    return root, Counter("".join(text.itertext()) for text in root.iter(f"{NS}text"))


def boxes(root):
    """(left, top, right, bottom) of every label, letters taken as wide as 0.6 of their size."""
    for text in root.iter(f"{NS}text"):
        x, y, size = (float(text.get(key)) for key in ("x", "y", "font-size"))
        width = 0.6 * size * len("".join(text.itertext()))
        left = x - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
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
    _, labels = read(diagram(format, **CONV))
    branches = getattr(format, "branches", 1)
    assert all(labels[name] == 1 for name in (*nodes, "W"))
    assert labels["R = 9"] == ranks
    assert [labels[name] for name in ("I = 16", "K = 3", "K = 5", "O = 32")] == [branches] * 4
    _, labels = read(diagram(format, inputs=16, outputs=32))
    assert labels["I = 16"] == branches and not any(label.startswith("K") for label in labels)


def test_the_ring_is_three_arcs_of_one_circle():
    root, _ = read(diagram(TR(3), **CONV))
    arcs = [re.findall(r"-?[\d.]+", path.get("d")) for path in root.iter(f"{NS}path")]
    assert len(arcs) == 3 and len({arc[2] for arc in arcs}) == 1
    ends = [(float(x), float(y)) for arc in arcs for x, y in (arc[:2], arc[-2:])]
    nodes = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{NS}circle") if float(c.get("r")) == 22]
    assert len(nodes) == 3
    for node in nodes:  # two arcs end at the rim of every node
        distances = [((x - node[0]) ** 2 + (y - node[1]) ** 2) ** 0.5 for x, y in ends]
        assert sum(abs(distance - 22) < 0.3 for distance in distances) == 2


@pytest.mark.parametrize("format", [LoRA(128), MultiLoRA(64, 3), MultiLoRA(64, 7), CP(128), TR(16)])
@pytest.mark.parametrize("kernel", [(), (7, 7)])
def test_labels_stay_inside_and_apart(format, kernel):
    root, _ = read(diagram(format, inputs=1024, outputs=4096, kernel=kernel, scale=0.25))
    _, _, width, height = map(float, root.get("viewBox").split())
    found = list(boxes(root))
    for left, top, right, bottom in found:
        assert left >= 0 and top >= 0 and right <= width and bottom <= height
    for i, a in enumerate(found):
        for b in found[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_many_branches_are_counted_in_words():
    _, labels = read(diagram(MultiLoRA(2, 7), **CONV))
    assert labels["+ 4 more +"] == 1 and labels["A7"] == 1 and labels["A3"] == 0


def test_colours_follow_the_page_and_the_method():
    svg = diagram(TR(3), **CONV)
    assert f"var(--metalora-accent, {HUES['metalora-tr']})" in svg and "currentColor" in svg
    root, labels = read(svg)
    assert labels["generated for each image"] == 1
    assert root.get("role") == "img" and root[0].tag == f"{NS}title" and "ring" in root[1].text


def test_a_constant_core_is_not_called_generated():
    _, labels = read(diagram(CP(3), **CONV, generated=False, scale=0.5))
    assert labels["c"] == 1 and labels["ΔW"] == 1 and labels["generated for each image"] == 0
    assert labels["A holds the scale α / R = 0.5"] == 1


def test_names_are_escaped():
    svg = diagram(LoRA(2), **CONV, layer="<script>&")
    assert "<script>" not in svg and "<script>&" in read(svg)[0][0].text


def test_network_reads_a_models_layers(small_net, images):
    settings = {"rank": 2, "alpha": 1.0}
    model = metalora.adapt(small_net, metalora.AdapterConfig("metalora-tr", **settings), example=images)
    _, labels = read(network(model, "grouped"))  # I is the width of one of its two groups
    assert labels["I = 4"] == labels["O = 8"] == 1 and labels["K = 3"] == 2 and labels["R = 2"] == 3
    assert labels["A holds the scale α / R = 0.5"] == 1
    _, labels = read(network(model, "token"))
    assert labels["I = 8"] == labels["O = 12"] == 1
    with pytest.raises(InputError, match="'norm' has no update to draw"):
        network(model, "norm")
