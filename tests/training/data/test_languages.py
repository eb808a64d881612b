"""Languages of texts."""

import pytest

from training.data.languages import SHORT, languages, mix

TEXTS = [
    "The quick brown fox jumps over the lazy dog near the river bank every morning.",
    "Der schnelle braune Fuchs springt jeden Morgen am Ufer über den faulen Hund.",
    "Le renard brun saute par-dessus le chien paresseux près de la rivière chaque matin.",
    "素早い茶色の狐は毎朝川のほとりでのろまな犬を飛び越えます。とても元気です。",
    "ok",
    "1234567890 1234567890 1234567890",
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_languages_are_told_apart() -> None:
    """Long enough texts have a language, and others none."""
    assert languages(TEXTS) == ("en", "de", "fr", "ja", SHORT, SHORT)


def test_the_mix_begins_with_the_most_frequent() -> None:
    """The first one is the main language."""
    assert list(mix(("de", "en", "en"))) == ["en", "de"]
