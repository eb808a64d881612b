"""One way to write what looks the same: Unicode's composed form, plain spaces, line feeds, nothing unseen.

What carries meaning stays: joiners that scripts and emoji need, marks of direction, ideographic spaces,
indentation, and up to two empty lines in a row.
"""

import re
import unicodedata

_NEWLINES = re.compile("\r\n?|[\x0b\x0c\u0085\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
# Zero-width spaces and word joiners, soft hyphens, and the embeddings and overrides of direction.
_UNSEEN = re.compile("[\u00ad\u200b\u2060-\u2064\ufeff\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]")
# Tags spell flags after a black flag, and anything unseen elsewhere.
_TAGS = re.compile("(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0001\U000e0020-\U000e007f]+")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]")
_LINE_ENDS = re.compile("[ \t]+\n")
_EMPTY_LINES = re.compile("\n{4,}")
_ODD = re.compile("[^\x20-\x7e\n]|\n{4}|[ ]\n")

_REPLACEMENT = "\ufffd"
# UTF-8 that was read as Windows-1252: a letter such as Ã, then what stands for bytes of 0x80 and up.
_MISREAD = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc"
    "\u2013-\u2014\u2018-\u201a\u201c-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]+"
)


def normalised(text: str) -> str:
    """Return the text in its normal form. To normalise again changes nothing."""
    if _ODD.search(text) is None:  # most texts, by one look
        return text.strip()
    text = _NEWLINES.sub("\n", text)
    text = _CONTROL.sub("", text)
    text = _UNSEEN.sub("", text)
    text = _TAGS.sub("", text)
    text = _SPACES.sub(" ", text)
    text = unicodedata.normalize("NFC", text)
    text = _LINE_ENDS.sub("\n", text)
    return _EMPTY_LINES.sub("\n\n\n", text).strip()


def changes(text: str) -> tuple[str, ...]:
    """Return in words what `normalised` would take out of a text or write differently."""
    found = {
        "control characters": _CONTROL.search(text),
        "characters that are not seen": _UNSEEN.search(text) or _TAGS.search(text),
        "spaces of other widths": _SPACES.search(text),
        "line ends": _NEWLINES.search(text),
        "decomposed characters": not unicodedata.is_normalized("NFC", text),
        "white space": text != text.strip() or _LINE_ENDS.search(text) or _EMPTY_LINES.search(text),
    }
    return tuple(name for name, there in found.items() if there)


def garbled(text: str) -> bool:
    """Whether a text seems to have been decoded wrongly: `Ã©` stands for `é`, or a character is lost."""
    if text.isascii():
        return False
    return _REPLACEMENT in text or any(_was_utf8(found[0]) for found in _MISREAD.finditer(text))


def normal_form(text: str) -> str:
    """Return what two texts share that differ in case, width and white space only."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _was_utf8(text: str) -> bool:
    raw = bytearray()
    for character in text:
        try:
            raw += character.encode("cp1252")
        except UnicodeEncodeError:
            if ord(character) > 0xFF:
                return False
            raw.append(
                ord(character)
            )  # five bytes have no character in Windows-1252, and stand for themselves
    try:
        return len(raw.decode()) < len(text)
    except UnicodeDecodeError:
        return False
