"""Personal data in texts: found by presidio's pattern recognisers, masked in place. Nothing asks a network.

Patterns find forms: addresses of e-mail, numbers of phones, cards, accounts and social security, IP
addresses, secret keys. **Names of people and places have no form**: they are found only with a spaCy model
that recognises entities, whose name or folder the user gives.
"""

import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from gateway.core.redaction import redact

MIN_SCORE = 0.4
_IPV6_COLONS = 7
REGIONS = ("US", "GB", "DE", "FR", "IN", "BR")
"""Whose ways to write phone numbers without a country's prefix are known; with one, all countries' are."""

MASKS = {
    "EMAIL_ADDRESS": "[E-MAIL]",
    "PHONE_NUMBER": "[PHONE]",
    "CREDIT_CARD": "[CARD]",
    "IBAN_CODE": "[IBAN]",
    "IP_ADDRESS": "[IP]",
    "US_SSN": "[SSN]",
    "SECRET_KEY": "[KEY]",
    "PERSON": "[PERSON]",
    "LOCATION": "[PLACE]",
    "NRP": "[GROUP]",
}
"""What stands in place of each kind; the first four and keys are those that the gateway redacts by."""

_KEY_PATTERN = (
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----END)){0,8000}"
    r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    r"|\beyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{0,1024}"
    r"|\b(?:sk|pk|rk|tk)-[A-Za-z0-9_-]{16,256}"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|hf_|xox[abprs]-)[A-Za-z0-9_-]{16,256}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
)
# Seven digits with little between them (phones, cards, social security), parts of an IP address, the head of
# an IBAN.
_DIGITS = re.compile(r"\d(?:(?:\W{0,5}\d){6}|\.\d{1,3}\.\d|(?<=[A-Za-z]{2}\d)\d)")
_HEADS = (
    "@", "::", "-----BEGIN", "eyJ", "sk-", "pk-", "rk-", "tk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_",
    "github_pat_", "glpat-", "hf_", "xox", "AKIA", "ASIA",
)  # fmt: skip


class PersonalUnavailable(Exception):
    """The library that finds personal data, or the model that it was to use, is not there."""


@dataclass(frozen=True, slots=True)
class Found:
    """One text with personal data masked, and how much there was of each kind."""

    text: str
    kinds: Counter[str]


Finder = Callable[[str], Found]


def finder(model: str | None = None) -> Finder:
    """Return what finds and masks personal data; with a spaCy model's name or folder also people and places.

    Raises:
        PersonalUnavailable: presidio is not installed, or there is no such model.
    """
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    try:
        # A spaCy model may be one that runs on torch; patterns have no use for it.
        with nullcontext() if model else _without("torch", "transformers"):
            recognisers = _pattern_recognisers()
    except ImportError as error:
        raise PersonalUnavailable("presidio-analyzer is not installed; install turnout[training]") from error
    entities = _entity_finder(model) if model else None

    def find(text: str) -> Found:
        if entities is None and not _maybe(text):
            return Found(text, Counter())
        results = [
            result
            for recogniser in recognisers
            for result in recogniser.analyze(text, recogniser.supported_entities, None) or ()
        ]
        if entities is not None:
            results += entities(text)
        return _masked(text, [result for result in results if result.score >= MIN_SCORE])

    return find


def _maybe(text: str) -> bool:
    """Whether a text holds anything that every pattern needs; most do not, and are passed by."""
    return (
        any(head in text for head in _HEADS)
        or _DIGITS.search(text) is not None
        or text.count(":") >= _IPV6_COLONS
    )


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Make modules that are not imported yet seem missing: presidio tries them all, and some take seconds."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python marks them
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def by_form(text: str) -> Found:
    """Mask what the gateway's own redaction knows, where presidio is missing; kinds are not told apart."""
    masked = redact(text)
    return Found(masked, Counter({"UNSORTED": 1} if masked != text else {}))


def _pattern_recognisers() -> list[Any]:
    from presidio_analyzer import Pattern, PatternRecognizer  # noqa: PLC0415 - brings spaCy: seconds
    from presidio_analyzer.predefined_recognizers import (  # noqa: PLC0415
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        IpRecognizer,
        PhoneRecognizer,
        UsSsnRecognizer,
    )

    class AnyEmail(EmailRecognizer):  # type: ignore[misc,unused-ignore]
        """Every address, also of a domain that the internet does not know.

        As it comes, presidio asks the internet for the list of domains at the first address.
        """

        def validate_result(self, pattern_text: str) -> None:  # noqa: ARG002 - presidio's
            return None

    secret = PatternRecognizer(
        "SECRET_KEY", patterns=[Pattern("secret", _KEY_PATTERN, 0.9)], global_regex_flags=re.ASCII
    )
    return [
        AnyEmail(),
        PhoneRecognizer(supported_regions=REGIONS),
        CreditCardRecognizer(),
        IbanRecognizer(),
        IpRecognizer(),
        UsSsnRecognizer(),
        secret,
    ]


def _entity_finder(model: str) -> Callable[[str], list[Any]]:
    import spacy  # noqa: PLC0415
    from presidio_analyzer import RecognizerResult  # noqa: PLC0415

    kinds = {"PER": "PERSON", "PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION"}
    try:
        pipeline = spacy.load(model)
    except OSError as error:
        raise PersonalUnavailable(
            f"{model} is no spaCy model that is installed, and no folder with one; "
            "install one such as en_core_web_sm beside Turnout"
        ) from error

    def find(text: str) -> list[Any]:
        return [
            RecognizerResult(kinds[entity.label_], entity.start_char, entity.end_char, 0.85)
            for entity in pipeline(text).ents
            if entity.label_ in kinds
        ]

    return find


def _masked(text: str, results: Sequence[Any]) -> Found:
    """Mask the spans; of those that overlap the surest one stands, and the longer one of equals."""
    taken: list[Any] = []
    for result in sorted(results, key=lambda one: (-one.score, one.start - one.end, one.start)):
        if all(result.end <= other.start or result.start >= other.end for other in taken):
            taken.append(result)
    kinds = Counter(str(result.entity_type) for result in taken)
    for result in sorted(taken, key=lambda one: -one.start):
        mask = MASKS.get(result.entity_type, f"[{result.entity_type}]")
        text = text[: result.start] + mask + text[result.end :]
    return Found(text, kinds)
