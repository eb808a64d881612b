"""Personal data, found by presidio and masked, without a network."""

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data import personal
from training.data.personal import MASKS, Finder, PersonalUnavailable, by_form, finder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def find() -> Finder:
    """The finder of patterns."""
    return finder()


@pytest.fixture(scope="module")
def recognisers(find: Finder) -> list[Any]:
    """What looks at the texts that are not passed by; presidio is imported already."""
    del find
    return personal._pattern_recognisers()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test may open a connection."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return iter(())


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to ada.lovelace@example.co.uk now", "Write to [E-MAIL] now"),
        ("Call +49 30 901820 or 212-555-0143.", "Call [PHONE] or [PHONE]."),
        ("Card 4111 1111 1111 1111, please", "Card [CARD], please"),
        ("To DE89 3704 0044 0532 0130 00 by Friday", "To [IBAN] by Friday"),
        ("From 192.168.17.4 at noon", "From [IP] at noon"),
        ("SSN 536-90-4399 on file", "SSN [SSN] on file"),
        ("key sk-abcdefghijklmnopqrstuvwx", "key [KEY]"),
    ],
)
def test_each_kind_is_masked(find: Finder, text: str, masked: str) -> None:
    """The mask says what stood there, and is the gateway's own where it has one."""
    assert find(text).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "Ada Lovelace lives in London.",
        "In 1843 it cost 12,000 pounds.",
        "Version 2.10.3 of 2024-05-01",
        "card 4111 1111 1111 1112",
        "snake_case_name = 3",
        "[E-MAIL] wrote to [PHONE]",
    ],
)
def test_what_has_no_form_is_left(find: Finder, text: str) -> None:
    """Names of people and places are not found without a model, nor are years, sums and wrong numbers."""
    assert find(text).text == text


PIECES = st.sampled_from(
    [
        "ada@example.com", "+49 30 901820", "(212) 555-0143", "4111 1111 1111 1111", "DE89370400440532013000",
        "::1", "192.168.0.1", "a", "12", "de89 3704 0044 0532 0130 00", "536-90-4399", "1999", "x.y", "1.2",
        "fe80:abcd:abcd:abcd:abcd:abcd:abcd:abcd", "AKIAABCDEFGHIJKLMNOP", "ghp_abcdefghijklmnopqrst", "-",
        "-----BEGIN PRIVATE KEY-----", "020 7946 0958", "2001:db8::8a2e:370:7334", "word", "\u0661\u0662",
        "eyJhbGciOiJI.eyJzdWIiOiIx.abc",
    ]
)  # fmt: skip


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(PIECES, max_size=6), st.sampled_from([" ", "", "\n", ", "]))
def test_what_is_passed_by_holds_nothing(recognisers: list[Any], pieces: list[str], between: str) -> None:
    """Most texts are not looked at by every pattern; those that are passed by would give nothing."""
    text = between.join(pieces)
    if not personal._maybe(text):
        assert not [
            result
            for recogniser in recognisers
            for result in recogniser.analyze(text, recogniser.supported_entities, None)
            if result.score >= personal.MIN_SCORE
        ]


def test_masking_again_changes_nothing(find: Finder) -> None:
    """No mask looks like personal data."""
    for mask in MASKS.values():
        assert find(f"to {mask} and 1234 {mask}").text == f"to {mask} and 1234 {mask}"


def test_kinds_are_counted(find: Finder) -> None:
    """Each find counts once; of those that overlap the surest one stands."""
    assert find("a@example.com, b@example.com, 10.1.2.3").kinds == Counter(EMAIL_ADDRESS=2, IP_ADDRESS=1)


def test_a_model_finds_names(tmp_path: Path) -> None:
    """With a spaCy model that recognises entities, people and places are masked too."""
    import spacy

    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns(
        [{"label": "PERSON", "pattern": "Ada Lovelace"}, {"label": "GPE", "pattern": "London"}]
    )  # type: ignore[attr-defined]
    pipeline.to_disk(tmp_path / "model")
    find = finder(str(tmp_path / "model"))
    assert find("Ada Lovelace (ada@example.com) of London").text == "[PERSON] ([E-MAIL]) of [PLACE]"


def test_a_model_that_is_not_there_is_named() -> None:
    """The message says what was looked for."""
    with pytest.raises(PersonalUnavailable, match="no_such_model"):
        finder("no_such_model")


def test_without_presidio_the_gateways_patterns_do() -> None:
    """They know fewer kinds, and do not tell them apart."""
    assert by_form("a@example.com").text == "[E-MAIL]"
    assert by_form("a@example.com").kinds == Counter(UNSORTED=1)
    assert not by_form("nothing").kinds
