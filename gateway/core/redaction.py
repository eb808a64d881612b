"""Removes what looks like personal data or a secret from captured text. Pure.

Patterns find forms, not meanings: a name or a street stays. Each is linear in the text, so that a hostile
prompt costs no more than a long one.
"""

import re

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----END)){0,8000}"
    r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    r"|\bBearer\s{1,4}[A-Za-z0-9._~+/=-]{16,2048}"
    r"|\beyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{0,1024}"
    r"|\b(?:sk|pk|rk|tk)-[A-Za-z0-9_-]{16,256}"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|hf_|xox[abprs]-)[A-Za-z0-9_-]{16,256}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bAIza[A-Za-z0-9_-]{35}"
)
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{2,5}(?:[ .-]\d{2,5}){1,4}(?![\w])|\+\d{8,15}\b"
)
_MIN_PHONE_DIGITS = 9


def redact(text: str) -> str:
    """Return `text` with [E-MAIL], [KEY], [CARD] and [PHONE] in place of what looks like one."""
    text = _SECRET.sub("[KEY]", text)
    text = _EMAIL.sub("[E-MAIL]", text)
    text = _CARD.sub(_card, text)
    return _PHONE.sub(_phone, text)


def _card(match: re.Match[str]) -> str:
    return "[CARD]" if _luhn(_digits(match[0])) else match[0]


def _phone(match: re.Match[str]) -> str:
    digits = len(_digits(match[0]))
    return "[PHONE]" if _MIN_PHONE_DIGITS <= digits <= 15 else match[0]


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def _luhn(digits: str) -> bool:
    """Whether the check digit fits (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
