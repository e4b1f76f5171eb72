"""The form of Train, as a person fills it."""

import re

import pytest
from playwright.sync_api import expect

from metalora.runs.presets import PRESETS


@pytest.fixture
def page(page, open_tab):
    """A page that shows the tab."""
    open_tab(page, "Train")
    return page


def advanced(page):
    page.get_by_role("button", name="Advanced").click()


def command(page):
    page.get_by_role("button", name="As a command, Python or JSON").click()


def choose(page, label, option):
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def error(page, text):
    return page.locator(".message.error", has_text=text)


def test_the_first_screen_has_five_fields_the_diagram_and_the_whole_budget(page):
    for label in ("Data", "Rank R", "Backbone", "Method", "Default"):
        expect(page.get_by_label(label, exact=True)).to_be_visible()
    expect(page.get_by_label("Learning rate")).to_be_hidden()
    expect(page.get_by_text("21 layers adapted: 58.3 k static parameters and 25.5 k in the generator")).to_be_visible()
    expect(page.locator(".diagram svg")).to_be_visible()
    expect(page.get_by_text("layer1.0.conv1").first).to_be_visible()
    table = page.locator(".budget .table-wrap").first
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth + 1")
    box = page.locator(".budget th", has_text="+ FLOPs").last.bounding_box()
    assert box["x"] + box["width"] <= 1280
    command(page)
    code = page.locator(".cm-editor:visible")
    expect(code).to_contain_text("python -m metalora train --rank 3")
    assert code.bounding_box()["height"] < 100


@pytest.mark.slow
def test_a_smaller_size_another_method_and_backbone_change_budget_and_command(page):
    expect(page.get_by_text("58.3 k static")).to_be_visible()
    page.get_by_label("Tiny").click()
    rank = PRESETS["Tiny"].rank
    expect(page.get_by_label("Rank R")).to_have_value(str(rank))
    choose(page, "Method", "LoRA")
    expect(page.get_by_label("Method", exact=True)).to_have_value("LoRA")
    expect(page.get_by_label("Tiny")).to_be_checked()
    expect(page.get_by_label("Rank R")).to_have_value(str(rank**2))
    command(page)
    expect(page.get_by_text("python -m metalora train --method lora")).to_be_visible()
    expect(page.get_by_text("in the generator")).to_be_hidden()


@pytest.mark.slow
def test_fields_that_do_not_apply_to_the_method_are_hidden(page):
    advanced(page)
    expect(page.get_by_label("Extractor")).to_be_visible()
    expect(page.get_by_label("Branches, or experts of a mixture")).to_be_hidden()
    choose(page, "Method", "Multi-LoRA")
    expect(page.get_by_label("Branches, or experts of a mixture")).to_be_visible()
    for label in ("Extractor", "Mapping net, code", "Set size", "The code predicts the suite's factors"):
        expect(page.get_by_label(label)).to_be_hidden()
    expect(page.get_by_text("Distribution of a core")).to_be_hidden()


@pytest.mark.slow
def test_gaussian_cores_enlarge_the_generator_and_stand_in_the_command(page):
    expect(page.get_by_text("25.5 k in the generator")).to_be_visible()
    advanced(page)
    page.get_by_label("gaussian", exact=True).click()
    expect(page.get_by_text("58.3 k static parameters and 28.7 k in the generator")).to_be_visible()
    command(page)
    expect(page.get_by_text("--core-distribution gaussian")).to_be_visible()


def test_a_form_in_error_dims_what_it_said_before_and_cannot_start(page):
    expect(page.locator(".diagram svg")).to_be_visible()
    start = page.get_by_role("button", name="Start", exact=True)
    page.get_by_label("Rank R").fill("99")
    expect(error(page, "Rank 99 needs a width of 99²")).to_be_visible()
    plan = page.locator(".summary", has=page.locator(".diagram"))
    expect(plan).to_have_class(re.compile(r"\binvalid\b"))
    expect(plan).to_have_css("opacity", "0.35")
    expect(start).to_be_disabled()
    page.get_by_label("Rank R").fill("2")
    expect(error(page, "Rank 99")).to_be_hidden()
    expect(plan).to_have_css("opacity", "1")
    expect(start).to_be_enabled()
    command(page)
    expect(page.get_by_text("--rank 2")).to_be_visible()


def test_a_size_sets_all_its_fields_also_after_a_reload(page, open_tab):
    def sizes(name):
        training = PRESETS[name].training()
        return {"Steps": training.steps, "Batch": training.batch_size, "Validate every": training.validate_every}

    def check(name):
        for label, value in sizes(name).items():
            expect(page.get_by_label(label, exact=True)).to_have_value(str(value))

    advanced(page)
    page.get_by_label("Tiny").click()
    check("Tiny")
    expect(page.locator(".cost .message", has_text="About")).to_be_visible()
    page.reload()
    open_tab(page, "Train")
    advanced(page)
    expect(page.get_by_label("Tiny")).to_be_checked()
    check("Tiny")
    page.get_by_label("Default").click()
    check("Default")
    page.get_by_label("Steps", exact=True).fill("7")  # by hand: no size any more
    expect(page.get_by_label("Default")).not_to_be_checked()
    expect(page.locator(".cost .message", has_text="About")).to_be_visible()
    page.reload()
    open_tab(page, "Train")
    advanced(page)
    expect(page.get_by_label("Steps", exact=True)).to_have_value("7")
    expect(page.get_by_label("Default")).not_to_be_checked()
    page.get_by_label("Default").click()
    check("Default")


@pytest.mark.slow
def test_layers_by_expression_are_listed_live_and_an_empty_one_is_said_to_mean_all(page):
    advanced(page)
    page.get_by_label("by expression").click()
    expect(page.get_by_text("The expression is empty, so every layer is adapted.")).to_be_visible()
    page.get_by_label("Regular expression over layer names").fill("layer3.*conv1")
    expect(page.get_by_text("3 layers adapted")).to_be_visible()
    expect(page.get_by_text("The expression is empty")).to_be_hidden()
    page.get_by_label("Regular expression over layer names").fill("layer9")
    expect(error(page, "layer9")).to_be_visible()


def test_settings_survive_a_reload(page, open_tab):
    choose(page, "Method", "Meta-LoRA CP")
    command(page)
    expect(page.get_by_text("--method metalora-cp")).to_be_visible()
    page.reload()
    open_tab(page, "Train")
    expect(page.get_by_label("Method", exact=True)).to_have_value("Meta-LoRA CP")
    command(page)
    expect(page.get_by_text("--method metalora-cp")).to_be_visible()


def test_a_mistyped_value_is_refused_at_once(page):
    advanced(page)
    for label, value, said in (
        ("Alpha", "-2", "alpha is -2: use a positive number"),
        ("Dropout on the adapter's input", "1.5", "dropout is 1.5: use a fraction"),
        ("Set size", "7", "does not divide into sets of 7"),
        ("Image size", "4", "image_size is 4: use a whole number from 8"),
    ):
        field = page.get_by_label(label, exact=True)
        usual = field.input_value()
        field.fill(value)
        expect(error(page, said)).to_be_visible()
        field.fill(usual)
        expect(error(page, said)).to_be_hidden()


@pytest.mark.slow
def test_a_backbone_without_weights_is_said_to_be_missing_at_its_field(page):
    field = page.get_by_label("Backbone", exact=True)
    for name, said in (
        ("resnet18.a1_in1k", "are not on this machine"),
        ("resnet2000", "Unknown backbone 'resnet2000'"),
    ):
        field.fill(name)
        field.press("Enter")
        expect(page.locator(".backbone-note .message.error", has_text=said)).to_be_visible()
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
        expect(page.get_by_text("Start waits for another choice of backbone.")).to_be_visible()


@pytest.mark.slow
def test_training_starts_from_a_trained_adapter_or_the_page_says_what_differs(page):
    advanced(page)
    choose(page, "Start from", "Meta-LoRA CP on mixer_nano, digits (bundled)")
    expect(page.get_by_label("Method", exact=True)).to_have_value("Meta-LoRA CP")
    expect(page.get_by_label("Rank R")).to_have_value("9")
    expect(page.get_by_label("Backbone", exact=True)).to_have_value("mixer_nano")
    page.get_by_label("Rank R").fill("4")
    differs = error(page, "was made with rank 9, not 4: set the same, or start at zero")
    expect(differs).to_be_visible()
    choose(page, "Start from", "a new adapter")
    expect(differs).to_be_hidden()


@pytest.mark.slow
def test_a_code_predicts_the_factors_of_the_chosen_data(page):
    advanced(page)
    page.get_by_label("The code predicts the suite's factors").check()
    command(page)
    expect(page.get_by_text("--factors 2 --factors 2 --factors 3")).to_be_visible()
    choose(page, "Data", "CIFAR-10, ten transforms")
    expect(error(page, "combine no named factors")).to_be_visible()
    choose(page, "Data", "CIFAR-10, 48 compositions of transforms")
    expect(error(page, "combine no named factors")).to_be_hidden()
    expect(page.get_by_text("--factors 4 --factors 6 --factors 2")).to_be_visible()
    expect(page.get_by_text("None chosen: 16 of 48.")).to_be_visible()


@pytest.mark.slow
def test_tasks_are_held_out_by_name(page):
    advanced(page)
    expect(page.get_by_text("None chosen: rotate-0+invert+green")).to_be_visible()
    choose(page, "Tasks held out", "rotate-90+plain+blue")
    page.keyboard.press("Escape")
    command(page)
    expect(page.get_by_text("--hold-out rotate-90+plain+blue")).to_be_visible()
    page.get_by_label("Tasks held out").fill("rotate-45")
    page.keyboard.press("Enter")
    expect(error(page, "There is no task 'rotate-45' to hold out")).to_be_visible()
