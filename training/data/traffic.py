"""`turnout:ROUTE`: recorded requests with what came back on them, as rows to train on.

Demonstrations become examples, ratings rated answers, and two answers to one prompt of which one is better
become preferences. Only requests whose texts were captured are there to read; internal requests (evaluations,
load tests, shadows) never are, except a shadow's answer that was rated beside its client's. Where the route
has a loop, the subjects that it judges by are left out, and so is what is nearly a golden row: a version that
had learned them would be judged by what it knows.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gateway.core.requests import MAX_TEXT_CHARS, RequestRow
from gateway.store.control import ControlStore
from gateway.store.database import Database, Schema, StoreUnavailable
from gateway.store.requests import Requests
from gateway.store.shadows import Pair
from training.data.evidence import Answered, Evidence
from training.data.rows import DataError, Dataset, Example, Kind, Message
from training.data.subjects import split_of

SCHEME = "turnout:"

_ROWS_AT_ONCE = 1_000  # short reads: the gateway writes to the same file
_PAIRS_AT_ONCE = 500
_CHATS = ("chat/completions", "responses", "messages")
_TURN = re.compile(
    r"^(user|assistant|tool|function|function_call|function_call_output|reasoning): ", re.MULTILINE
)
_BY_TURNS = ("user", "assistant")
_JUDGED_BY = "requests left out: the route's loop judges by their subjects"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Where traffic is recorded, and what of it is wanted.

    Times are seconds since the epoch; `version` is `NAME@N` or a number; `metric` is what answers are judged
    by, and `at_least` from which value on one is liked, of a metric that is a number. Texts of
    `max_text_chars` characters were cut when they were recorded.
    """

    control_url: str
    requests_url: str
    since: float = 0.0
    until: float | None = None
    version: str | None = None
    metric: str | None = None
    at_least: float | None = None
    max_text_chars: int = MAX_TEXT_CHARS


def recorded(source: str, wanted: Traffic, *, kind: Kind | None = None) -> Dataset:
    """Return the rows of `turnout:ROUTE`, oldest first, as the one kind that there is evidence for.

    Raises:
        DataError: there is nothing to train on, or evidence for several kinds and `kind` says none.
        StoreUnavailable: a database is missing or can't be read.
    """
    name = source.removeprefix(SCHEME)
    if kind == "texts":
        raise DataError(f"{source}: recorded traffic gives examples, rated answers or preferences, no texts")
    left_out: Counter[str] = Counter()
    with (
        closing(open_store(wanted.control_url, "control")) as control,
        closing(open_store(wanted.requests_url, "requests")) as database,
    ):
        store, requests = ControlStore(control), Requests(database)
        route = store.routes.get(name)
        looped = route is not None and route.spec.loop is not None
        answered = list(_answered(requests, name, wanted, left_out, looped=looped))
        golden = tuple(_golden(store, name))
        ratings = store.feedback.rows(name, since=wanted.since, internal=True)
        there = {row.id for row in answered}
        found_pairs = _pairs(requests, name, wanted, left_out)
        pairs = {pair.id: pair for pair in found_pairs if not looped or pair.id in there}
    if route is None and not answered:
        raise DataError(f"{source}: there is no route {name!r}, and nothing was recorded under that name")
    metrics = route.spec.metrics if route else {}
    evidence = Evidence(
        source=source,
        answered=answered,
        said={(row.request_id, row.metric): row.value for row in ratings},  # the last one counts
        pairs=tuple(pairs.values()),
        metric=wanted.metric,
        at_least=wanted.at_least,
        lower=frozenset(each for each, metric in metrics.items() if metric.better == "lower"),
    )
    found, rows = evidence.rows(kind)
    notes = tuple(f"{count:,} recorded {why}" for why, count in left_out.most_common())
    return Dataset(found, rows, source, notes, golden)


def as_messages(prompt: str) -> tuple[Message, ...] | None:
    """Return the messages of a recorded prompt, which is one text, or lines of `role: text`.

    None where the turns are not the user's and the assistant's by turns, the user first and last. A single
    message that is itself written as such lines is taken for what it looks like.
    """
    starts = list(_TURN.finditer(prompt))
    if len(starts) < 2 or starts[0].start() != 0:
        return ({"role": "user", "content": prompt.strip()},)
    ends = [*(start.start() for start in starts[1:]), len(prompt)]
    found = [
        {"role": start[1], "content": prompt[start.end() : end].strip()}
        for start, end in zip(starts, ends, strict=True)
    ]
    by_turns = all(one["role"] == _BY_TURNS[place % 2] for place, one in enumerate(found))
    whole = len(found) % 2 == 1 and all(one["content"] for one in found)
    return tuple(found) if by_turns and whole else None


def open_store(url: str, schema: Schema) -> Database:
    """Open a database that exists: reading makes none."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreUnavailable(f"the address of the {schema} database is not a database URL") from error
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise StoreUnavailable(
            f"there is no {schema} database at {parsed.database}: start the gateway first, or name another "
            "place with --state-dir"
        )
    return Database(url, schema)


def _golden(store: ControlStore, route: str) -> Iterator[Example]:
    after = ""
    while page := store.golden.rows(route, None, after=after):
        yield from (Example(tuple(row.messages), row.answer) for row in page)
        after = page[-1].id


def _answered(
    requests: Requests, route: str, wanted: Traffic, left_out: Counter[str], *, looped: bool
) -> Iterator[Answered]:
    for row in _requests(requests, route, wanted):
        if wanted.version is not None and wanted.version not in (row.adapter, row.adapter.rpartition("@")[2]):
            continue
        if looped and split_of(route, unit=row.unit, key_id=row.key_id, at=row.at) == "held_out":
            left_out[_JUDGED_BY] += 1
            continue
        why = no_prompt(row, wanted.max_text_chars)
        messages = None if why else as_messages(row.prompt or "")
        if why or messages is None:
            left_out[why or "conversations left out: of tools, or not by turns"] += 1
            continue
        lost = no_answer(row, wanted.max_text_chars)
        if lost:
            left_out[lost] += 1
        columns = {
            "request": row.id,
            "route": route,
            "version": row.adapter,
            "at": datetime.fromtimestamp(row.at, UTC).isoformat(timespec="seconds"),
            **({} if row.unit is None else {"unit": row.unit}),
        }
        yield Answered(row.id, messages, "" if lost else (row.answer or "").strip(), columns)


def no_prompt(row: RequestRow, max_text_chars: int) -> str | None:
    """Return why a request can't be trained on at all, if it can't."""
    if row.endpoint.replace(".", "/") not in _CHATS:
        return "completions left out: they have no messages"
    if len(row.prompt or "") >= max_text_chars:
        return f"prompts left out: cut when recorded, at {max_text_chars:,} characters"
    return None if (row.prompt or "").strip() else "prompts left out: they are empty"


def no_answer(row: RequestRow, max_text_chars: int) -> str | None:
    """Return why an answer is none to learn from; a demonstration in its place still is."""
    if row.status != 200:
        return "answers left out: they ended in an error, or the client left"
    return _cut(row.finish_reason, row.answer, max_text_chars)


def _cut(finish_reason: str | None, answer: str | None, max_text_chars: int) -> str | None:
    """Return how an answer was cut, if it was."""
    if finish_reason == "length":
        return "answers left out: cut at the limit of tokens"
    if len(answer or "") >= max_text_chars:
        return f"answers left out: cut when recorded, at {max_text_chars:,} characters"
    return None


def _requests(requests: Requests, route: str, wanted: Traffic) -> Iterator[RequestRow]:
    """Yield requests with captured texts, oldest first, each once, in short reads."""
    since, limit = wanted.since, _ROWS_AT_ONCE
    seen: set[str] = set()
    while True:
        page = requests.window(route, since=since, until=wanted.until, limit=limit, with_prompt=True)
        yield from (row for row in page if row.id not in seen)
        if len(page) < limit:
            return
        last = page[-1].at
        if page[0].at == last:  # a whole page of one moment: the next one must be larger
            limit *= 2
        seen = {row.id for row in page if row.at == last}
        since = last


def _pairs(requests: Requests, route: str, wanted: Traffic, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield the pairs whose shadow's answer is whole: one that breaks off can't be compared."""
    offset = 0
    while page := requests.pairs.rows(route, since=wanted.since, limit=_PAIRS_AT_ONCE, offset=offset):
        for pair in page:
            cut = _cut(pair.shadow_finish_reason, pair.shadow_answer, wanted.max_text_chars)
            if cut is None:
                yield pair
            else:
                left_out[f"shadows' {cut}"] += 1
        offset += len(page)
