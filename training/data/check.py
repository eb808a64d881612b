"""Look at every row before any is trained on: clean, mask, drop what does harm, and report all of it.

The stages run in one order: normal form, personal data, copies, contradictions, lengths, what is held out
elsewhere. A row that is dropped is gone for the stages after. Without an optional library its stage is left
out, and the report says so.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from training.data import duplicates, labels, outliers, personal
from training.data.findings import SAMPLE_CHARS, Action, CheckReport, Finding, Lengths, Sample
from training.data.languages import SHORT, LanguagesUnavailable, languages, mix
from training.data.lengths import lengths_of, row_length
from training.data.normalise import changes, garbled, normal_form, normalised
from training.data.rows import DataError, Dataset, Example, Rated, Row
from training.data.texts import answers, prompt_texts, rewritten, texts
from training.data.tokens import Tokens
from training.publishing.lineage import fingerprint, read_fingerprint

DECIDING = ("near", "personal", "ner_model", "conflicts")
"""The options that decide which rows are left and what they say, and by that which ones are held out."""

NO_TOKENIZER = "without a tokenizer lengths are characters, and no row is dropped as too long"
Stage = Callable[[str], AbstractContextManager[Any]]


class NerModelMissing(DataError):
    """The model that is to find names is not there."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How rows are looked at.

    `personal`: data of persons is masked, its rows dropped, or only reported; `off`: it is not looked for.
    `normalise`: texts are written in their normal form.
    `ner_model`: a spaCy model that finds names too. `near`: from which similarity on prompts are near
    duplicates; None for copies only. `conflicts`: of labels that contradict each other the most frequent one
    is kept, or all. `max_tokens`: longer rows are dropped, where tokens can be counted. `held_out`: rows that
    nothing of may be trained on. `samples`: how many rows a finding shows.
    """

    personal: Literal["mask", "drop", "report", "off"] = "mask"
    normalise: bool = True
    ner_model: str | None = None
    near: float | None = duplicates.THRESHOLD
    conflicts: Literal["majority", "keep"] = "majority"
    max_tokens: int | None = None
    held_out: tuple[Row, ...] = ()
    samples: int = 3

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.near is not None and not 0.5 <= self.near <= 1:
            raise ValueError(f"--near {self.near} must be between 0.5 and 1; candidates below are not found")

    def document(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return {
            "personal": self.personal,
            "normalise": self.normalise,
            "ner_model": self.ner_model,
            "near": self.near,
            "conflicts": self.conflicts,
            "max_tokens": self.max_tokens,
            "held_out_rows": len(self.held_out),
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """The rows that are left, the number of each one's cluster of near duplicates, and what was found."""

    dataset: Dataset
    clusters: tuple[int, ...]
    report: CheckReport


def check(
    dataset: Dataset,
    options: CheckOptions | None = None,
    *,
    tokens: Tokens | None = None,
    limit: int | None = None,
    stage: Stage = lambda _: nullcontext(),
) -> Checked:
    """Return the cleaned rows with a report. `tokens` counts those of a text; without it, characters count.

    `limit` is how many of them a row may have to be trained on; how many rows have more is told.

    Raises:
        DataError: an option names a model or a limit that can't be used.
    """
    work = _Work(list(dataset.rows), options or CheckOptions(), tokens, stage)
    with work.timed("normal form", "Writing texts in their normal form"):
        _normalise(work)
    with work.timed("personal data", "Looking for personal data"):
        _personal(work)
    with work.timed("duplicates", "Looking for duplicates"):
        _conflicts(work, _duplicates(work))
    with work.timed("lengths", "Measuring lengths"):
        lengths = _lengths(work, limit)
    with work.timed("held out", "Comparing with held-out rows"):
        _held_out(work)
    with work.timed("languages", "Telling languages apart"):
        mixed = _languages(work)
    if any("weight" in row.columns for row in work.rows):
        work.notes.append("the field 'weight' is not used: --weight-column weight makes rows count by it")
    counts = labels.counted(work.rows)
    _fatal(work, dataset, counts)
    report = CheckReport(
        source=dataset.source,
        kind=dataset.kind,
        rows_read=len(dataset.rows),
        rows_kept=len(work.rows),
        fingerprint=fingerprint(work.rows),
        read_fingerprint=read_fingerprint(dataset.rows),
        findings=tuple(work.findings),
        lengths=lengths,
        labels=counts,
        languages=mixed,
        personal=dict(work.people.most_common()),
        notes=(*dataset.notes, *work.notes),
        settings=work.options.document(),
        seconds=work.seconds,
    )
    kept = Dataset(dataset.kind, tuple(work.rows), dataset.source, dataset.notes)
    return Checked(kept, tuple(work.clusters), report)


@dataclass(slots=True)
class _Work:
    """The rows as they are so far, and what was found on the way."""

    rows: list[Row]
    options: CheckOptions
    tokens: Tokens | None
    stage: Stage
    clusters: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    people: Counter[str] = field(default_factory=Counter)
    mask: Callable[[str], personal.Found] = personal.by_form

    @contextmanager
    def timed(self, name: str, text: str) -> Iterator[None]:
        """Show a stage, and note how long it took."""
        started = time.monotonic()
        with self.stage(text):
            yield
        self.seconds[name] = round(time.monotonic() - started, 3)

    def find(
        self,
        name: str,
        action: Action,
        why: str,
        found: Sequence[tuple[Row, str]],
        *,
        rows: int | None = None,
        around: Collection[str] = (),
    ) -> None:
        """Note a finding about rows, each with a note of its own, if there are any.

        Samples are the beginnings of rows, or what stands around the first of some words.
        """
        if not found:
            return
        shown = found[: self.options.samples]
        samples = tuple(Sample(row.line, self.shown(row, around), note) for row, note in shown)
        self.findings.append(Finding(name, action, len(found) if rows is None else rows, why, samples))

    def shown(self, row: Row, around: Collection[str] = ()) -> str:
        """Return a piece of a row, masked before it is cut."""
        if around:
            masked = self.mask(" ".join(" → ".join(texts(row)).split())).text
            first = min((at for word in around if (at := masked.find(word)) >= 0), default=0)
            start = max(0, first - SAMPLE_CHARS // 2)
            masked = f"…{masked[start:]}" if start else masked
        else:
            said = " → ".join((prompt_texts(row)[-1], *answers(row)[:1]))[: 8 * SAMPLE_CHARS]
            masked = self.mask(" ".join(said.split())).text
        return masked if len(masked) <= SAMPLE_CHARS else f"{masked[: SAMPLE_CHARS - 1]}…"

    def drop(self, places: set[int]) -> None:
        """Take rows out, by their places."""
        self.rows = [row for place, row in enumerate(self.rows) if place not in places]
        self.clusters = [one for place, one in enumerate(self.clusters) if place not in places]


def _normalise(work: _Work) -> None:
    changed: list[tuple[Row, str]] = []
    empty: list[tuple[Row, str]] = []
    odd: list[tuple[Row, str]] = []
    kinds: Counter[str] = Counter()
    rows: list[Row] = []
    for row in work.rows:
        clean = rewritten(row, normalised)
        if not all(texts(clean)):
            empty.append((row, ""))
            continue
        if not work.options.normalise:
            clean = row
        if clean is not row:
            found = dict.fromkeys(change for text in texts(row) for change in changes(text))
            kinds.update(list(found))
            changed.append((clean, ", ".join(found)))
        if any(map(garbled, texts(clean))):
            odd.append((clean, ""))
        rows.append(clean)
    work.rows, work.clusters = rows, list(range(len(rows)))
    work.find("empty", "dropped", "a text holds nothing but what is not seen", empty)
    said = ", ".join(f"{kind} in {count}" for kind, count in kinds.most_common())
    work.find("normalised", "changed", f"written in their normal form: {said}", changed)
    work.find("garbled", "noted", "seem decoded wrongly (é as Ã©, or a lost character); mend the source", odd)


def _personal(work: _Work) -> None:
    if work.options.personal == "off":
        work.notes.append("personal data was not looked for (--personal off)")
        return
    try:
        work.mask = personal.finder(work.options.ner_model)
    except personal.PersonalUnavailable as error:
        if work.options.ner_model:
            raise NerModelMissing(f"--ner-model: {error}") from error
        work.notes.append(
            f"{error}: e-mail addresses, keys, cards and phone numbers were masked by their form"
        )
    if not work.options.ner_model:
        work.notes.append("names of people and places are not looked for without --ner-model")
    changed: list[tuple[Row, str]] = []
    having: set[int] = set()
    for place, row in enumerate(work.rows):
        kinds: Counter[str] = Counter()

        def masked(text: str, kinds: Counter[str] = kinds) -> str:
            found = work.mask(text)
            kinds.update(found.kinds)
            return found.text

        clean = rewritten(row, masked)
        if kinds:
            work.people.update(kinds)
            changed.append((clean, ", ".join(sorted(kinds))))
            having.add(place)
            if work.options.personal == "mask":
                work.rows[place] = clean
    said = ", ".join(f"{count} {kind}" for kind, count in work.people.most_common())
    actions: dict[str, tuple[Action, str]] = {
        "mask": ("changed", "masked"),
        "drop": ("dropped", "dropped with their rows"),
        "report": ("noted", "left as they are (--personal report)"),
    }
    action, done = actions[work.options.personal]
    work.find("personal data", action, f"{done}: {said}", changed, around=personal.MASKS.values())
    if action == "dropped":
        work.drop(having)


def _duplicates(work: _Work) -> list[int]:
    """Drop rows that say again what an earlier one says; the clusters of the others keep them together.

    Returns of each row that is left how often it was there, itself and its copies.
    """
    keys, said = [row.key for row in work.rows], [_said(row) for row in work.rows]
    near = work.options.near
    try:
        found = duplicates.find(keys, said, near)
    except duplicates.DuplicatesUnavailable as error:
        work.notes.append(f"near duplicates were not looked for: {error}")
        found = duplicates.find(keys, said, None)
    work.clusters = list(found.of)
    same: list[tuple[Row, str]] = []
    close: list[tuple[Row, str]] = []
    often = [1] * len(keys)
    for place, pair in found.repeats.items():
        as_line = f"as line {work.rows[pair.first].line}"
        alike = normal_form(keys[pair.first]) == normal_form(keys[place])
        if alike:
            same.append((work.rows[place], as_line))
            often[pair.first] += 1
        else:
            close.append((work.rows[place], f"{as_line} ({pair.similarity:.2f})"))
    work.find("copies", "dropped", "say the same as an earlier row, up to case and white space", same)
    work.find(
        "near duplicates", "dropped", f"nearly an earlier row's prompt (from {near}), and its answer", close
    )
    work.drop(set(found.repeats))
    return [count for place, count in enumerate(often) if place not in found.repeats]


def _said(row: Row) -> tuple[Any, ...]:
    liked = (row.liked,) if isinstance(row, Rated) else ()
    return (*map(normal_form, answers(row)), *liked)


def _conflicts(work: _Work, often: Sequence[int]) -> None:
    found = labels.conflicts(work.rows, [normal_form(row.key) for row in work.rows], often)
    shown = [
        # What nobody is shown is not masked: a model that finds names takes its time for every text.
        (work.rows[one.places[0]], _votes(work, one) if number < work.options.samples else "")
        for number, one in enumerate(found)
    ]
    rows = sum(len(one.places) for one in found)
    if work.options.conflicts == "keep":
        work.find(
            "contradictions", "noted", "one prompt with answers that exclude each other", shown, rows=rows
        )
        return
    drop = {place for one in found for place in one.places if place not in one.kept}
    why = "one prompt with answers that exclude each other; the most frequent one is kept, and none of a tie"
    work.find("contradictions", "dropped", why, shown, rows=len(drop))
    work.drop(drop)


def _votes(work: _Work, one: labels.Conflict) -> str:
    """Return what was said how often, masked before it is cut."""
    return ", ".join(f"{count}x {work.mask(said).text:.40}" for said, count in one.votes[:5])


def _lengths(work: _Work, most: int | None) -> Lengths | None:
    measured = [row_length(row, work.tokens or len) for row in work.rows]
    unit: Literal["tokens", "characters"] = "characters" if work.tokens is None else "tokens"
    limit = work.options.max_tokens
    if work.tokens is None:
        work.notes.append(NO_TOKENIZER)
    elif limit is not None:
        long = {place for place, length in enumerate(measured) if length > limit}
        found = [(work.rows[place], f"{measured[place]:,} tokens") for place in sorted(long)]
        work.find(
            "too long", "dropped", f"longer than {limit:,} tokens, which a cut answer would hide", found
        )
        work.drop(long)
        measured = [length for place, length in enumerate(measured) if place not in long]
    far = [(work.rows[place], f"{measured[place]:,} {unit}") for place in outliers.by_length(measured)]
    work.find("odd lengths", "noted", f"far longer or shorter than the others, in {unit}", far)
    return lengths_of(measured, unit, limit=None if work.tokens is None else most)


def _held_out(work: _Work) -> None:
    held = work.options.held_out
    if not held:
        return
    keys, theirs = [row.key for row in work.rows], [row.key for row in held]
    try:
        found = duplicates.across(keys, theirs, work.options.near)
    except duplicates.DuplicatesUnavailable as error:
        work.notes.append(f"near duplicates of held-out rows were not looked for: {error}")
        found = duplicates.across(keys, theirs, None)
    shown = [
        (work.rows[place], f"as held-out line {held[pair.second].line} ({pair.similarity:.2f})")
        for place, pair in sorted(found.items())
    ]
    work.find("held out", "dropped", "prompts of rows that are held out", shown)
    work.drop(set(found))


def _languages(work: _Work) -> dict[str, int]:
    try:
        found = languages(["\n".join(prompt_texts(row)) for row in work.rows])
    except LanguagesUnavailable as error:
        work.notes.append(f"languages were not told apart: {error}")
        return {}
    counts = mix(found)
    main = next((name for name in counts if name != SHORT), None)
    others = [(row, name) for row, name in zip(work.rows, found, strict=True) if name not in (main, SHORT)]
    work.find("other languages", "noted", f"not in the main language, {main}, as far as can be told", others)
    return counts


def _fatal(work: _Work, dataset: Dataset, counts: dict[str, int]) -> None:
    """Note why nothing can be learned from what is left."""
    if not work.rows:
        why = f"none of {len(dataset.rows)} rows is left; the findings above say why"
        work.findings.append(Finding("nothing left", "fatal", len(dataset.rows), why))
    elif len(work.rows) == 1 and len(dataset.rows) > 1:
        why = f"one of {len(dataset.rows)} rows is left; the others are copies of it or were dropped"
        work.findings.append(Finding("one row left", "fatal", len(dataset.rows), why))
    elif len(counts) == 1 and len(work.rows) > 1:
        only = next(iter(counts))
        of = "answer is" if isinstance(work.rows[0], Example) else "rating is"
        why = f"every {of} {only!r:.60}: nothing tells right from wrong"
        work.findings.append(Finding("one class", "fatal", len(work.rows), why))
