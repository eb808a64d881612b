"""The normal form of texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.normalise import changes, garbled, normal_form, normalised


@pytest.mark.parametrize(
    ("text", "wanted", "why"),
    [
        ("plain text\nof two lines", "plain text\nof two lines", ()),
        ("cafe\u0301", "café", ("decomposed characters",)),
        ("a\u200bb\ufeff", "ab", ("characters that are not seen",)),
        ("safe\u202ecod\u202c", "safecod", ("characters that are not seen",)),
        ("hi\U000e0041\U000e0042", "hi", ("characters that are not seen",)),
        ("a\x00b\x1b[31m", "ab[31m", ("control characters",)),
        ("a\r\nb\rc\x0cd", "a\nb\nc\nd", ("line ends",)),
        ("10\u00a0km", "10 km", ("spaces of other widths",)),
        ("  a  \n\n\n\n\nb\t", "a\n\n\nb", ("white space",)),
        ("  indented\n    code", "indented\n    code", ("white space",)),
    ],
)
def test_what_is_written_in_another_way(text: str, wanted: str, why: tuple[str, ...]) -> None:
    """Each change is made, and is said in words."""
    assert normalised(text) == wanted
    assert changes(text) == why


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
        "\U0001f469\u200d\U0001f680",  # an astronaut is joined from two
        "\u0645\u06cc\u200c\u062e\u0648\u0631\u0645",  # a Persian word with a non-joiner
        "全角\u3000空白",
        "| a  |  b |\n|----|----|",
    ],
)
def test_what_carries_meaning_stays(text: str) -> None:
    """Joiners, flags, ideographic spaces and columns of tables are as they were."""
    assert normalised(text) == text


@given(
    st.text(
        alphabet=st.one_of(
            st.characters(codec="utf-8"), st.sampled_from(" \n\t\r\u200b\u202e\u0301\u00a0\x0c")
        )
    )
)
def test_the_normal_form_has_itself(text: str) -> None:
    """To normalise again changes nothing."""
    once = normalised(text)
    assert normalised(once) == once
    assert changes(once) == ()


@given(st.text())
def test_the_form_that_duplicates_share_has_itself(text: str) -> None:
    """Case and white space make no difference, also twice."""
    assert normal_form(f" {text}\n") == normal_form(text)


@pytest.mark.parametrize("text", ["CafÃ©", "donâ€™t", "lost \ufffd one", "Ã¼ber"])
def test_wrongly_decoded_text_is_noticed(text: str) -> None:
    """UTF-8 that was read as Windows-1252 leaves traces."""
    assert garbled(text)


@pytest.mark.parametrize(
    "text", ["Café", "don\u2019t", "über", "São Paulo", "Ångström", "naïve “quotes”", "日本語"]
)
def test_text_with_accents_is_no_damage(text: str) -> None:
    """Letters beyond ASCII alone say nothing."""
    assert not garbled(text)
