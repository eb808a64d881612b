"""Put the chosen candidates into the store as proposed rows, masked: no text goes there as it was written."""

import json
import time
from collections import Counter
from typing import Any

from gateway.core.curation import CuratedRow
from gateway.store.control import ControlStore
from training.curation.plan import Plan
from training.curation.workbook import DONE, Workbook
from training.data.normalise import normalised
from training.data.personal import Finder


def propose(plan: Plan, store: ControlStore, book: Workbook, mask: Finder) -> None:
    """Store the chosen candidates that are not there yet, page by page, from where it stopped.

    Rows of earlier runs that nobody has decided on or used, and that this one does not choose, are withdrawn.
    """
    place = book.place("propose")
    if place == DONE:
        return
    for page in book.chosen(after=place or ""):
        dropped: Counter[str] = Counter()
        rows = []
        for found in page:
            row = _row(plan, dict(found), mask)
            if row is None:
                dropped["empty"] += 1
            else:
                rows.append(row)
        store.curation.propose(rows)
        book.reached("propose", page[-1]["id"], dropped)
    store.curation.withdraw(plan.route, keep=set(book.chosen_ids()))
    book.reached("propose", DONE)


def _row(plan: Plan, found: dict[str, Any], mask: Finder) -> CuratedRow | None:
    """Return a candidate as a row, in its normal form and masked; None where nothing is left of a text."""

    def clean(text: str) -> str:
        return mask(normalised(text)).text

    messages = [
        {**message, "content": clean(message["content"])} for message in json.loads(found["messages"])
    ]
    answer = clean(found["answer"])
    if not answer or not all(message["content"] for message in messages):
        return None
    rejected = None if found["rejected"] is None else clean(found["rejected"])
    return CuratedRow(
        id=found["id"],
        route=plan.route,
        request_id=found["request_id"],
        other_id=found["other_id"],
        unit=found["unit"],
        other_unit=found["other_unit"],
        key_id=found["key_id"],
        adapter=found["adapter"],
        kind=found["kind"],
        split=found["split"],
        trusted=bool(found["trusted"]),
        state="proposed",
        at=found["at"],
        proposed_at=time.time(),
        proposed_by=plan.run,
        messages=messages,
        answer=answer,
        rejected=rejected or None,
        novelty=found["novelty"],
    )
