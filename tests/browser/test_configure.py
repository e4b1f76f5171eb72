"""Configure, as a person uses it."""

import pytest
from playwright.sync_api import expect


@pytest.fixture
def page(page, open_tab):
    """A page that shows the tab, once the first one is complete."""
    expect(page.locator(".look-table tbody tr").first).to_be_visible()
    open_tab(page, "Configure")
    return page


def test_the_first_screen_is_full(page):
    expect(page.get_by_text("21 layers adapted: 58.3 k static parameters and 25.5 k in the generator")).to_be_visible()
    expect(page.locator(".diagram svg")).to_be_visible()
    expect(page.get_by_text("python -m metalora train --rank 3")).to_be_visible()
    expect(page.get_by_text("layer1.0.conv1").first).to_be_visible()


def test_a_smaller_size_another_method_and_backbone_change_budget_and_command(page):
    expect(page.get_by_text("58.3 k static")).to_be_visible()
    page.get_by_label("Tiny").click()
    expect(page.get_by_text("25.9 k static")).to_be_visible()
    page.get_by_label("LoRA", exact=True).click()
    expect(page.get_by_label("LoRA", exact=True)).to_be_checked()
    expect(page.get_by_label("Tiny")).to_be_checked()
    expect(page.get_by_label("Rank R")).to_have_value("4")
    expect(page.get_by_text("python -m metalora train --method lora --hidden 16")).to_be_visible()
    expect(page.get_by_text("in the generator")).to_be_hidden()


def test_a_rank_too_large_is_refused_with_a_message(page):
    expect(page.locator(".diagram svg")).to_be_visible()
    page.get_by_label("Rank R").fill("99")
    expect(page.locator(".message.error", has_text="Rank 99 needs a width of 99²")).to_be_visible()
    page.get_by_label("Rank R").fill("2")
    expect(page.get_by_text("--rank 2")).to_be_visible()
    expect(page.locator(".message.error", has_text="Rank 99")).to_be_hidden()


def test_layers_by_expression_are_listed_live(page):
    page.get_by_label("by expression").click()
    page.get_by_label("Regular expression over layer names").fill("layer3.*conv1")
    expect(page.get_by_text("3 layers adapted")).to_be_visible()
    page.get_by_label("Regular expression over layer names").fill("layer9")
    expect(page.locator(".message.error", has_text="layer9")).to_be_visible()


def test_settings_survive_a_reload(page, open_tab):
    page.get_by_label("Meta-LoRA CP").click()
    expect(page.get_by_text("--method metalora-cp")).to_be_visible()
    page.reload()
    open_tab(page, "Configure")
    expect(page.get_by_label("Meta-LoRA CP")).to_be_checked()
    expect(page.get_by_text("--method metalora-cp")).to_be_visible()


def test_opening_a_section_is_no_error_and_a_mistyped_value_is(page):
    expect(page.get_by_text("58.3 k static")).to_be_visible()
    page.get_by_role("button", name="Scale and dropout").click()
    error = page.locator(".message.error")
    for label, value, said in (
        ("Alpha", "-2", "alpha is -2: use a positive number"),
        ("Branches of Multi-LoRA", "1.5", "is 1.5: use a whole number"),
        ("Dropout on the adapter's input", "1.5", "dropout is 1.5: use a fraction"),
    ):
        field = page.get_by_label(label, exact=True)
        usual = field.input_value()
        field.fill(value)
        expect(error.filter(has_text=said)).to_be_visible()
        field.fill(usual)
        expect(error.filter(has_text=said)).to_be_hidden()
        expect(error.locator("visible=true")).to_have_count(0)


def test_training_starts_from_a_trained_adapter_or_the_page_says_what_differs(page):
    page.get_by_label("Start from").click()
    page.get_by_role("option", name="Meta-LoRA CP on mixer_nano, digits (bundled)").click()
    expect(page.get_by_text("--start mixer_nano/metalora-cp")).to_be_visible()
    expect(page.get_by_label("Meta-LoRA CP")).to_be_checked()
    expect(page.get_by_label("Rank R")).to_have_value("9")
    expect(page.get_by_label("Backbone", exact=True)).to_have_value("mixer_nano")
    page.get_by_label("Rank R").fill("4")
    error = page.locator(".message.error", has_text="was made with rank 9, not 4: set the same, or start at zero")
    expect(error).to_be_visible()
    page.get_by_label("Start from").click()
    page.get_by_role("option", name="nothing: a new adapter").click()
    expect(error).to_be_hidden()
    expect(page.get_by_text("--start")).to_be_hidden()


def test_a_code_predicts_the_factors_of_the_chosen_suite(page, open_tab):
    expect(page.get_by_text("58.3 k static")).to_be_visible()
    page.get_by_role("button", name="Generation").click()
    page.get_by_label("The code predicts the suite's factors").check()
    expect(page.get_by_text("--factors 2 --factors 2 --factors 3")).to_be_visible()
    open_tab(page, "Train")
    expect(page.get_by_text("rank 3, predicting factors, on resnet20 (from Configure)")).to_be_visible()
    page.get_by_label("CIFAR-10, ten transforms").click()
    expect(page.locator(".message.error", has_text="combine no named factors")).to_be_visible()
    page.get_by_label("CIFAR-10, 48 compositions").click()
    expect(page.locator(".message.error", has_text="combine no named factors")).to_be_hidden()
    open_tab(page, "Configure")
    expect(page.get_by_text("--factors 4 --factors 6 --factors 2")).to_be_visible()
    page.get_by_label("The code predicts the suite's factors").uncheck()
    expect(page.get_by_text("--factors")).to_have_count(0)
