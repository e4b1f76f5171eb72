"""What the tabs answer where there is nothing to show yet, or what was typed cannot be used."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from gradio import DeepLinkButton
from gradio.state_holder import SessionState
from plotly.graph_objects import Figure, Scattergl

from metalora.runs.presets import PRESETS
from metalora.runs.status import RunStatus
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT
from metalora.views.embedding import MapRequest, Projection
from metalora.views.inspect import inspect_view
from pages import map_value
from pages.configure import texts
from pages.core_swap import FORGOTTEN
from pages.gradio_costs import POLLING, rest_queue
from pages.inspect import SIDE_BY_SIDE, Inspector
from pages.run_panel import BUTTONS, EMPTY, RunPanel, _state
from pages.shell import describe_status
from pages.train import _restore


def test_a_page_whose_images_are_forgotten_says_so():
    assert Inspector(None, None, {}, None).show_layer("", None, "layer1.0.conv1")[1] == FORGOTTEN


def test_a_run_that_is_deleted_while_it_is_shown_is_said_to_be_gone():
    def gone(visitor, run):
        raise InputError("There is no such run of yours.")

    status = RunStatus("run", "finished")
    app_state = SimpleNamespace(
        backend=SimpleNamespace(status=lambda visitor, run: status), workspace=SimpleNamespace(run_folder=gone)
    )
    fraction, why, *rest, log = RunPanel(app_state).show("visitor", "run")
    buttons, (curves, line, *result) = rest[: len(BUTTONS)], rest[len(BUTTONS) :]
    assert (fraction, why, line, log) == ("", "", "", "")
    assert all(not button["interactive"] for button in buttons)
    assert curves is EMPTY and not any(part.get("visible") for part in result[:2])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (RunStatus("run", "new", steps=9), "Not started: start it in Train, or delete it."),
        (RunStatus("run", "running", step=12, steps=200), "Running: step 12 of 200."),
        (RunStatus("run", "running", step=12, steps=200, seconds_left=82.0), "Running: step 12 of 200, 1:22 left."),
    ],
)
def test_a_status_is_said_without_a_time_that_is_not_known(status, words):
    assert describe_status(status) == words


def test_a_run_that_was_never_started_offers_to_start_or_delete_it():
    _, why, stop, resume, delete = _state(RunStatus("run", "new", steps=9))
    assert [button["interactive"] for button in (stop, resume, delete)] == [False, True, True]
    assert resume["value"] == "Start this run" and "never started" in why


def test_every_size_sets_its_fields_for_every_method(build_page):
    form = next(event.fn.__self__ for event in build_page().fns.values() if event.name == "describe")
    for preset, held in PRESETS.items():
        restored = dict(zip(form.fields, _restore(form.fields, {"preset": preset, "method": "lora"}, {}), strict=True))
        config = form.run_config(None, None, {n: f.value for n, f in form.fields.items()} | _only_set(restored))
        assert replace(config.training, set_size=1) == replace(held.training(), set_size=1, seed=config.training.seed)
        assert (config.adapter.rank, config.adapter.hidden) == (held.adapter("lora").rank, held.hidden)


def test_a_gaussian_core_reaches_the_run_and_leaves_methods_without_cores_alone(build_page):
    form = next(event.fn.__self__ for event in build_page().fns.values() if event.name == "describe")
    chosen = {name: field.value for name, field in form.fields.items()}
    assert form.run_config(None, None, chosen).adapter.core_distribution == "point"
    chosen |= {"core_distribution": "gaussian"}
    config = form.run_config(None, None, chosen)
    assert config.adapter.core_distribution == "gaussian" and "--core-distribution gaussian" in texts(config)[0]
    static = form.run_config(None, None, chosen | {"method": "lora"})
    assert static.adapter.core_distribution == "point"
    shown = dict(zip(form.conditional, form.show_fields("lora", "all layers"), strict=True))
    assert not shown[form.fields["core_distribution"]]["visible"]
    with pytest.raises(InputError, match="MOELoRA generates no core of an image"):
        form.run_config(None, None, chosen | {"method": "moelora"})


@pytest.mark.parametrize("found", [None, object()])
def test_look_shows_an_uncertainty_only_where_cores_have_one(build_page, monkeypatch, found):
    tab = next(event.fn.__self__ for event in build_page().fns.values() if event.name == "inspect")
    monkeypatch.setattr("pages.inspect.neighbours_html", lambda *arguments: "")
    monkeypatch.setattr("pages.inspect.uncertainty_table", lambda view: "the table")
    app_state, visitor = tab.context.app_state, ""
    view = inspect_view(app_state, visitor, DEFAULT)
    monkeypatch.setattr("pages.inspect.inspect_view", lambda *arguments: replace(view, uncertainty=found))
    shown = tab.inspect(visitor, DEFAULT, None, False, None, None, 0, [SIDE_BY_SIDE])
    assert shown[tab.parts["uncertain"]]["visible"] is (found is not None)
    assert shown[tab.parts["uncertainty"]] == "the table"


def test_a_kept_form_that_is_no_longer_offered_is_left_out(build_page):
    form = next(event.fn.__self__ for event in build_page().fns.values() if event.name == "describe")
    for kept, expected in (
        (None, {}),
        ([1, 2], {}),
        ({"preset": "Gigantic", "method": "no such", "steps": 7}, {"steps": 7}),
        ({"preset": None, "method": "lora", "steps": 7}, {"preset": None, "method": "lora", "steps": 7}),
    ):
        assert _only_set(dict(zip(form.fields, _restore(form.fields, kept, {}), strict=True))) == expected


def test_a_menu_listed_anew_leaves_a_choice_alone_that_may_have_changed_meanwhile(build_page):
    tab = next(event.fn.__self__ for event in build_page().fns.values() if event.name == "list_adapters")
    token, other = tab.context.app_state.ensure_visitor(None), "resnet20/lora/cifar10-corruptions"
    assert {other, DEFAULT} <= {name for _, name in tab.list_adapters(token, other)["choices"]}
    assert "value" not in tab.list_adapters(token, other)
    for run in (None, "gone"):
        assert "value" not in tab.follow_run(token, run, other)
    assert tab.list_adapters(token, "run:gone")["value"] == DEFAULT


def test_a_link_wins_over_the_form_that_the_browser_kept(build_page):
    form = next(event.fn.__self__ for event in build_page().fns.values() if event.name == "describe")
    link = {"train": {"method": "lora", "rank": 7, "run": "another"}}
    restored = dict(zip(form.fields, _restore(form.fields, {"preset": "Tiny", "steps": 9}, link), strict=True))
    assert (restored["method"], restored["rank"], restored["preset"]) == ("lora", 7, None)
    assert restored["steps"] == form.fields["steps"].value
    link["train"] = {"preset": "Tiny"}
    restored = dict(zip(form.fields, _restore(form.fields, None, link), strict=True))
    assert (restored["rank"], restored["steps"]) == (PRESETS["Tiny"].rank, PRESETS["Tiny"].steps)


def _only_set(values):
    return {name: value for name, value in values.items() if not isinstance(value, dict)}


def test_this_gradio_has_the_private_settings_of_an_idle_queue(build_page):
    queue = build_page()._queue
    assert {name: getattr(queue, name) for name in POLLING} == POLLING


@pytest.mark.parametrize("demo", [SimpleNamespace(), SimpleNamespace(_queue=SimpleNamespace())])
def test_a_gradio_without_them_keeps_its_own_pace(demo):
    rest_queue(demo)
    assert not hasattr(getattr(demo, "_queue", None), "sleep_when_free")


def test_sessions_describe_no_components(build_page):
    """A description of all of them takes 92 ms and 0.7 MB, and is for Gradio's deep links only."""
    page = build_page()
    session = SessionState(page)
    assert not any(session.config_values.values()) and len(session.config_values) > 300
    assert all(component["props"] for component in page.get_config_file()["components"])
    assert not any(isinstance(block, DeepLinkButton) for block in page.blocks.values())


def test_events_without_progress_burden_one_hidden_component(build_page):
    events = [event for event in build_page().fns.values() if event.show_progress == "hidden"]
    targets = {tuple(target._id for target in event.show_progress_on) for event in events}
    assert len(events) > 30 and len(targets) == 1


def test_two_galleries_that_turn_into_each_other_share_one_plot(monkeypatch):
    def figure(view, i, colour, frame):
        return Figure(Scattergl(x=frame["x"], y=frame["y"]))

    monkeypatch.setattr(map_value, "_figure", figure)
    monkeypatch.setattr(map_value, "hover_sprites", lambda adapter: {"sprite": "", "columns": 1, "tile": 16})
    names = {"name": ["a", "b"], "label": ["1", "2"], "task": ["t", "t"], "predicted": ["1", "1"]}
    frames = [pd.DataFrame({"x": [0.0, 1.0], "y": [2.0, 3.0], **names})]
    frames.append(frames[0].assign(x=[4.0, 5.0], y=[6.0, 7.0]))
    request = MapRequest("mine", "original", "morph", Projection())
    view = SimpleNamespace(
        request=request,
        morphs=True,
        frames=frames,
        titles=("Original", "LoRA"),
        same_images=True,
        accuracy=lambda i: "50.0 %",
    )
    guest = {"name": "mine.png", "image": "data:", "lines": ["says 1"], "place": [0, 0]}
    guests = [[guest], [{**guest, "lines": ["says 2"], "place": [1, 1]}]]
    opened = SimpleNamespace(cached=lambda key, compute: compute())
    (plot,) = map_value.values(view, [SimpleNamespace(opened=opened)] * 2, guests, "class")
    assert list(plot["figure"].data[0].x) == [0, 1]
    ends = {"from": "Original, 50.0 %", "to": "LoRA, 50.0 %", "play": True}
    assert plot["morph"] == {"towards": [[4.0, 6.0], [5.0, 7.0]], **ends}
    assert plot["guests"] == [{**guest, "lines": ["Original: says 1", "LoRA: says 2"], "towards": [1, 1]}]
    assert plot["link"] is None and plot["busy"] is None
