"""What the model reads: a row's prompt with worked examples that fit, and the labels as endings. Pure."""

from collections.abc import Sequence

from training.data.rows import Example
from training.evaluation.asking import is_text
from training.fitting.template import Template


def prompt_with(
    template: Template, row: Example, shots: Sequence[Example], *, room: int, most: int
) -> list[int]:
    """Return a row's prompt after as many of the worked examples as leave `room` of `most` tokens.

    Of a text it is the first token, which nothing says how likely it is.
    """
    if is_text(row):
        return template.text_ids(row.completion)[:1]
    kept = list(shots)
    while True:
        ids = template.prompt_ids(template.messages(row, kept))
        if not kept or len(ids) + room <= most:
            return ids
        kept = kept[1:]


def fits(template: Template, row: Example, *, room: int, most: int) -> bool:
    """Whether a row with its wanted answer, and with `room` for another, is within `most` tokens.

    A text always is, since it is cut.
    """
    prompt = len(prompt_with(template, row, (), room=0, most=most))
    return prompt + max(room, len(wanted_ending(template, row, most=most))) <= most


def wanted_ending(template: Template, row: Example, *, most: int) -> list[int]:
    """Return what training's loss is on: the wanted answer with the end of the turn.

    Of a text it is all but the first token, within the first `most` of them.
    """
    if is_text(row):
        return template.text_ids(row.completion)[1:most]
    return [*template.answer_ids(row.completion), template.end_id]


def label_endings(template: Template, labels: Sequence[str]) -> list[list[int]]:
    """Return the labels' token ids, by whose summed log-likelihood they are compared.

    The end of the turn belongs to them only where one label begins with all of another: without it the longer
    one could never win.
    """
    plain = [template.answer_ids(label) for label in labels]
    nested = any(one != other and other[: len(one)] == one for one in plain for other in plain)
    return [[*ids, template.end_id] for ids in plain] if nested else plain


def room_for(template: Template, rows: Sequence[Example], most: int) -> int:
    """Return how many tokens an answer gets: half as many again as the longest wanted one, or `most`.

    Texts get none: nothing is asked of a system but how likely they are.
    """
    if all(is_text(row) for row in rows):
        return 0
    longest = max(len(template.answer_ids(row.completion)) for row in rows)
    return min(most, longest + longest // 2 + 8)
