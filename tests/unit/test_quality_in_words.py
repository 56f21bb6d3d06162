"""Quality in words: names by bounds, shares that audits bear out."""

import pytest

from tonnage.cli.render.choice_words import quality_in_words

# Audits of docs/results: mean divergence in nats, tokens of 100 that stay the likeliest.
AUDITS = [
    (0.0006, 98.4), (0.0015, 97.8), (0.0028, 96.8), (0.0035, 96.1), (0.0037, 96.4), (0.0041, 95.7),
    (0.0070, 94.9), (0.0156, 94.6), (0.0188, 91.0), (0.0203, 92.3), (0.0227, 89.0), (0.0836, 81.3),
    (0.2340, 70.4),
]  # fmt: skip


@pytest.mark.parametrize(("mean_kld", "measured"), AUDITS)
def test_the_share_of_unchanged_words_is_about_what_audits_found(mean_kld, measured) -> None:
    changed = 100 - int(quality_in_words(mean_kld).split("about ")[1].split(" of 100")[0])
    assert changed == pytest.approx(100 - measured, rel=0.5, abs=0.6)


@pytest.mark.parametrize(
    ("mean_kld", "word"),
    [
        (0.0, "almost lossless"),
        (0.01, "almost lossless"),
        (0.011, "noticeable"),
        (0.1, "noticeable"),
        (0.11, "poor"),
        (9.0, "poor"),
    ],
)
def test_a_divergence_has_a_word(mean_kld, word) -> None:
    assert quality_in_words(mean_kld).startswith(f"{word}: about ")


def test_a_share_is_never_below_zero() -> None:
    assert quality_in_words(100.0) == "poor: about 0 of 100 next words unchanged"
