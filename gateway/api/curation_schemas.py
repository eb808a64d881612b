"""The documents of curation, golden sets, lineage and forgetting. Times are seconds since the epoch."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from gateway.api.admin_schemas import Shown, Taken, Text
from gateway.core.curation import RUBRIC, Decision, Kind, Part, Split, State

MAX_TEXT = 32_000
"""As long as a demonstration may be."""
MAX_ROWS = 500
Rubric = dict[str, bool]
Label = Annotated[str, Field(min_length=1, max_length=64)]
Long = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class Message(Taken):
    """One message of a prompt."""

    role: Annotated[str, Field(pattern="^(system|user|assistant)$")]
    content: Long


class CuratedRow(Shown):
    """A row that may be learned from or judged by, with what a person has said of it.

    `answer` is the wanted one; of a `disliked` row the bad one. `rejected` is the worse of two. `request_id`
    is the request that it came from, `other_id` the one of `rejected` where that is another, and `other_unit`
    whose that was. `novelty` is how far the prompt is from what the parent version was trained on, 0 to 2;
    null where that is not known.
    """

    id: str
    route: str
    request_id: str
    other_id: str | None
    unit: str | None
    key_id: str
    adapter: str
    kind: Kind
    split: Split
    trusted: bool
    state: State
    at: float
    proposed_at: float
    proposed_by: str
    messages: tuple[dict[str, str], ...]
    answer: str
    rejected: str | None
    other_unit: str | None
    novelty: float | None
    decided_by: str | None
    decided_at: float | None
    rubric: Rubric | None
    why: str | None


class CuratedPage(Shown):
    """A part of the queue, the most novel rows first, and what a reviewer answers of each."""

    data: tuple[CuratedRow, ...]
    next_offset: int | None
    rubric: dict[str, str]


class CuratedCounts(Shown):
    """How many rows there are by route, split and state."""

    data: dict[str, dict[str, dict[str, int]]]


class Decide(Taken):
    """A decision on rows, all of them or none. Texts are given for an edit, and for one row at a time."""

    decision: Decision
    ids: tuple[Annotated[str, Field(max_length=40)], ...] = Field(min_length=1, max_length=MAX_ROWS)
    rubric: Rubric = Field(default_factory=dict, description=f"any of {', '.join(RUBRIC)}: true or false")
    answer: Long | None = None
    rejected: Long | None = None
    why: Text | None = None

    @model_validator(mode="after")
    def _an_edit_is_of_one_row(self) -> "Decide":
        if (self.answer is not None or self.rejected is not None) and len(self.ids) > 1:
            raise ValueError("texts are given for one row at a time")
        return self


class Decided(Shown):
    """The rows as they are now."""

    data: tuple[CuratedRow, ...]


class GoldenIn(Taken):
    """A row for a golden set: the prompt, the wanted answer, and by what its results are told apart."""

    messages: tuple[Message, ...] = Field(min_length=1, max_length=200)
    answer: Long
    slices: dict[Label, Annotated[str, Field(max_length=200)]] = Field(default_factory=dict, max_length=32)


class GoldenAdd(Taken):
    """Rows for the present golden set of a route: written out, or reviewed rows by their ids."""

    rows: tuple[GoldenIn, ...] = Field(default=(), max_length=MAX_ROWS)
    curated: tuple[Annotated[str, Field(max_length=40)], ...] = Field(default=(), max_length=MAX_ROWS)

    @model_validator(mode="after")
    def _there_are_some(self) -> "GoldenAdd":
        if not self.rows and not self.curated:
            raise ValueError("name rows, or curated ones by their ids")
        return self


class GoldenSet(Shown):
    """One set. `rotation_due`: it has been used as often as the route's policy lets it be."""

    route: str
    number: int
    created_at: float
    created_by: str
    retired_at: float | None
    rows: int
    uses: int
    rotation_due: bool


class GoldenSets(Shown):
    """Sets by route, the newest first."""

    data: tuple[GoldenSet, ...]


class GoldenAdded(Shown):
    """What became of rows that were added."""

    route: str
    number: int
    added: int
    known: int


class GoldenRow(Shown):
    """One row of a golden set."""

    id: str
    number: int
    messages: tuple[dict[str, str], ...]
    answer: str
    slices: dict[str, str]
    request_id: str | None
    added_at: float
    added_by: str


class GoldenPage(Shown):
    """Rows of a set by id."""

    data: tuple[GoldenRow, ...]
    next_after: str | None


class LineageRow(Shown):
    """A row that a version learned from or was judged by, and the request that it came from."""

    row_id: str
    part: Part
    route: str
    kind: Kind
    state: State
    trusted: bool
    request_id: str
    other_id: str | None


class VersionLineage(Shown):
    """From a version to its run, its rows, their requests, and the drift report that started it.

    `facts` are what the manifest says, `rows` counts the run's rows by what for, `data` is a page of them.
    Rows of people who are forgotten are in neither. `drift` is the report's row, null without one.
    """

    adapter: str
    facts: dict[str, Any] | None
    run: str | None
    drift: dict[str, Any] | None
    rows: dict[str, int]
    data: tuple[LineageRow, ...]
    next_after: str | None


class RequestRow(Shown):
    """A row that a request became a part of, with runs (and what for) and the versions that these made."""

    row_id: str
    kind: Kind
    split: Split
    state: State
    runs: dict[str, Part]
    versions: dict[str, tuple[str, ...]]


class RequestVersions(Shown):
    """From a request forward to the versions that learned from it.

    `trained`: a row of it was among those that the version was trained on; `judged`: among those that it was
    judged by. `possibly`: trained by hand on the route's recorded traffic after the request, of which no list
    of rows is kept.
    """

    request_id: str
    route: str | None
    trained: tuple[str, ...]
    judged: tuple[str, ...]
    possibly: tuple[str, ...]
    data: tuple[RequestRow, ...]


class Forget(Taken):
    """Whom to forget. The subject is not written anywhere, neither in the store nor in the audit log."""

    subject: Annotated[str, Field(min_length=1, max_length=1024)]
    dry_run: bool = False


class Forgotten(Shown):
    """What was (or would be) removed, and the versions that have learned from it.

    `name` stands for the subject in the audit log. `complete` is false while there is more to remove: ask
    again. `trained` versions learned from removed rows, and `possibly` may have. **Their weights keep what
    they learned**: train them anew without the rows, and retire them.
    """

    name: str | None
    dry_run: bool
    complete: bool
    until: float
    counts: dict[str, int]
    routes: tuple[str, ...]
    runs: tuple[str, ...]
    trained: tuple[str, ...]
    possibly: tuple[str, ...]
    advice: str | None


class ForgottenPage(Shown):
    """Who is forgotten, by names that stand for them."""

    data: tuple[Forgotten, ...]
    next_after: str | None
