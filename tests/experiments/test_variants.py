"""Variants: from and to text, what they share, what is refused."""

import pytest

from metalora.experiments.variants import CONTROLS, DEFAULT, Variant, expand_contexts, parse_variant
from metalora.util.errors import InputError


def test_the_text_says_method_control_and_set_size():
    row = parse_variant("metalora-tr-shuffled@8")
    assert (row.method, row.control, row.set_size) == ("metalora-tr", "shuffled", 8)
    assert parse_variant("metalora-cp@all").set_size is None
    assert parse_variant("lora-equal-budget").control == "equal-budget"
    assert parse_variant("multi-lora") == parse_variant("multi-lora") != parse_variant("lora")


def test_only_generated_rows_earn_stars_and_only_static_ones_are_compared_with():
    generated = [name for name in (*DEFAULT, *CONTROLS) if parse_variant(name).generated]
    static = [name for name in (*DEFAULT, *CONTROLS) if parse_variant(name).static]
    assert generated == ["metalora-cp", "metalora-tr", "metalora-tr@8"]
    assert static == [
        "original",
        "lora",
        "multi-lora",
        "lora-equal-budget",
        "metalora-cp-constant",
        "metalora-tr-constant",
        "lora@8",
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("metalora-tr", "metalora-tr-shuffled", True),
        ("metalora-tr@8", "metalora-tr@all", True),
        ("lora", "lora@8", True),
        ("metalora-tr", "metalora-tr@8", False),
        ("metalora-tr", "metalora-tr-constant", False),
        ("lora", "lora-equal-budget", False),
        ("metalora-tr-factors@8", "metalora-tr-factors-oracle", True),
        ("metalora-tr@1", "metalora-tr@all", True),
        ("metalora-tr@1", "metalora-tr", False),
        ("metalora-tr-factors@8", "metalora-tr@8", False),
        ("lora", "lora@8-routed", True),
        ("lora", "lora-factors", False),
        ("metalora-tr@0", "metalora-tr@50", True),
        ("icrm@1", "icrm@all", True),
        ("icrm@8", "icrm", False),
        ("lora@1-augbn", "lora", True),
    ],
)
def test_variants_that_differ_only_in_use_share_a_training(one, other, same):
    assert (parse_variant(one).training == parse_variant(other).training) is same


def test_variants_with_sets_say_what_they_assume():
    assert "8 unlabelled images" in parse_variant("metalora-tr@8").assumption
    assert "standardised" in parse_variant("lora@8").assumption
    assert parse_variant("lora").assumption is None
    assert "nearest" in parse_variant("lora@8-routed").assumption
    assert "BatchNorm" in parse_variant("original@all-bn-adapted").assumption
    assert "ceiling" in parse_variant("metalora-tr-factors-oracle").assumption
    assert parse_variant("metalora-tr@0").assumption.startswith("no image is read: all get the identity core")
    assert "are read together" in parse_variant("icrm-equal-budget@8").assumption
    assert "augmentations" in parse_variant("lora@1-augbn").assumption
    assert parse_variant("icrm@1").assumption is None


def test_titles_differ():
    names = [
        "metalora-tr",
        "metalora-tr@1",
        "metalora-tr@8",
        "metalora-tr@all",
        "metalora-tr-factors@8",
        "lora@8-routed",
    ]
    names += ["metalora-tr@0", "icrm", "icrm@1", "icrm@8", "lora@1-augbn", "arm-bn-equal-budget@8"]
    names += ["metalora-tr-factors-oracle", "metalora-tr-factors-shuffled@8", "lora@8", "lora-factors", "lora"]
    assert len({parse_variant(name).title for name in names}) == len(names)
    assert parse_variant("metalora-tr@4").title == "Meta-LoRA TR, sets of 4"
    assert parse_variant("metalora-tr@all").title == "Meta-LoRA TR, whole tasks"


REFUSED = [
    "lorra",
    "lora-constant",
    "multi-lora-shuffled",
    "metalora-tr-equal-budget",
    "metalora-tr-constant@8",
    "lora@0",
    "lora@1",
    "lora-factors-oracle",
    "metalora-tr-oracle",
    "metalora-tr-factors-constant",
    "original-factors",
    "lora-factors-equal-budget",
    "lora\n",
    "lora\nx",
    f"metalora-tr@{10**23}",
    f"metalora-tr@{'9' * 5000}",
    "metalora-tr@8-routed",
    "lora@8-guessed",
    "lora@8-augbn",
    "metalora-tr@1-augbn",
    "icrm@0",
    "icrm@8-bn-adapted",
    "icrm-factors",
    "icrm-constant",
    "metalora-tr-shuffled@0",
    "metalora-tr-constant@0",
    "lora-per-task@0",
    "original-equal-budget",
    "lora@contexts",
]


@pytest.mark.parametrize("name", [*REFUSED, ""])
def test_variants_that_are_not_offered_are_refused_in_one_sentence(name):
    with pytest.raises(InputError, match=r": use|, use|is not offered"):
        parse_variant(name)


TEXTS = [*DEFAULT, *CONTROLS, "metalora-tr@1", "metalora-tr-factors@all", "metalora-tr-factors-oracle", "lora-factors"]
TEXTS += ["metalora-tr@0", "lora@1-augbn", "icrm-equal-budget@8", "arm-cml@1", "lora-mixture-factors-equal-budget@all"]
TEXTS += ["metalora-tr-factors-shuffled@8", "lora@8-routed", "original@all-bn-adapted", "lora-equal-budget@4-inverted"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_variant_is_written_as_it_is_read(text):
    assert str(parse_variant(text)) == text


def test_contexts_stand_for_all_sizes_that_a_method_offers():
    assert expand_contexts("metalora-tr@contexts") == [f"metalora-tr@{size}" for size in (0, 1, 2, 4, 8, 25, 50)]
    assert expand_contexts("icrm-equal-budget@contexts")[0] == "icrm-equal-budget@1"
    assert expand_contexts("lora@8") == ["lora@8"]
    assert len({parse_variant(name).training for name in expand_contexts("arm-cml@contexts")}) == 1


def test_rivals_are_static_rows_that_are_trained_with_sets():
    rival = parse_variant("arm-cml-equal-budget@8")
    assert rival.static and not rival.generated and rival.has_context and rival.training_set_size == 8
    assert not rival.is_embedded_singly and parse_variant("lora@8").is_embedded_singly
    assert parse_variant("icrm").training_set_size == 1 == parse_variant("lora@8").training_set_size
    mixture = parse_variant("lora-mixture-equal-budget@8")
    assert mixture.generated and not mixture.static and mixture.has_latent_code


@pytest.mark.parametrize(
    ("name", "has_head"),
    [
        ("original", False),
        ("lora", True),
        ("lora@8", False),  # its features are standardised, the head's were not
        ("lora@8-routed", False),
        ("lora@8-bn-adapted", True),
        ("lora@1-augbn", True),
        ("metalora-tr@0", True),
        ("icrm@8", True),
        ("metalora-tr-shuffled", True),
    ],
)
def test_a_head_reads_the_embeddings_that_it_was_trained_on(name, has_head):
    assert parse_variant(name).has_head is has_head


def test_a_variant_can_be_made_from_its_parts():
    assert Variant("metalora-tr", set_size=8) == parse_variant("metalora-tr@8")
    assert Variant("metalora-tr", factor_code=True, control="oracle") == parse_variant("metalora-tr-factors-oracle")
    with pytest.raises(InputError, match="'lora-constant' is not offered: lora has no core"):
        Variant("lora", control="constant")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("metalora-tr-named@8", "metalora-tr-factors@8"),
        ("metalora-tr-named-oracle", "metalora-tr-factors-oracle"),
        ("lora@8-undone", "lora@8-inverted"),
        ("original@all-renormalised", "original@all-bn-adapted"),
    ],
)
def test_old_spellings_are_read(old, new):
    assert str(parse_variant(old)) == new
