"""The check of a data set: what is changed, dropped and reported."""

import json
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.data.test_duplicates import edited, prose
from training.data import check as module
from training.data import duplicates, languages, personal
from training.data.check import CheckOptions, check
from training.data.rows import Dataset, Example, Kind, Preference, Rated, Row, Text
from training.data.texts import answers

pytestmark = pytest.mark.usefixtures("light")


def asked(text: str, said: str, line: int = 0, **columns: str) -> Example:
    """Return one example."""
    return Example(({"role": "user", "content": text},), said, line, columns)


def dataset(*rows: Row, kind: Kind = "examples") -> Dataset:
    """Return a data set of these rows, numbered."""
    from dataclasses import replace

    return Dataset(kind, tuple(replace(row, line=line) for line, row in enumerate(rows, start=1)), "a.jsonl")


LABELLED = [asked(prose(number), "ab"[number % 2]) for number in range(20)]


def found(data: Dataset, options: CheckOptions | None = None) -> dict[str, tuple[str, int]]:
    """Return the action and the number of rows by finding."""
    return {one.name: (one.action, one.rows) for one in check(data, options).report.findings}


def test_clean_rows_come_out_as_they_went_in() -> None:
    """Nothing is found where there is nothing."""
    data = dataset(*LABELLED)
    checked = check(data)
    assert checked.dataset == data
    assert checked.report.findings == ()
    assert checked.report.labels == {"a": 10, "b": 10}
    assert checked.clusters == tuple(range(20))
    assert checked.report.fingerprint.startswith("sha256:")


def test_each_stage_drops_what_is_its_own() -> None:
    """Every dropped row is counted once, with its reason and its line."""
    rows = [
        *LABELLED,
        asked("\u200b\u200b", "a"),
        asked(LABELLED[3].messages[0]["content"].upper(), LABELLED[3].completion),
        asked(edited(LABELLED[5].messages[0]["content"]), LABELLED[5].completion),
        asked("torn", "a"),
        asked("torn", "b"),
        asked("caf\u0065\u0301 x" + prose(99), "a"),
        asked("mail a@b.example " + prose(98), "b"),
        asked("cafÃ© " + prose(97), "b"),
    ]
    checked = check(dataset(*rows))
    by_name = {one.name: one for one in checked.report.findings}
    assert {name: (one.action, one.rows) for name, one in by_name.items()} == {
        "empty": ("dropped", 1),
        "normalised": ("changed", 1),
        "garbled": ("noted", 1),
        "personal data": ("changed", 1),
        "copies": ("dropped", 1),
        "near duplicates": ("dropped", 1),
        "contradictions": ("dropped", 2),
    }
    assert (checked.report.rows_read, checked.report.dropped, checked.report.rows_kept) == (28, 5, 23)
    assert by_name["normalised"].why == "written in their normal form: decomposed characters in 1"
    assert by_name["copies"].samples[0].line == 22
    assert by_name["copies"].samples[0].note == "as line 4"
    assert by_name["near duplicates"].samples[0].note.startswith("as line 6 (0.")
    assert by_name["contradictions"].samples[0].note == "1x a, 1x b"
    texts = [row.messages[0]["content"] for row in checked.dataset.rows if isinstance(row, Example)]
    assert any(text.startswith("caf\u00e9 x") for text in texts)
    assert any(text.startswith("mail [E-MAIL] ") for text in texts)


def test_near_prompts_with_other_answers_stay_and_share_a_cluster() -> None:
    """They are no copies, and must not be on both sides of a split."""
    text = prose(50)
    checked = check(dataset(*LABELLED, asked(text, "a"), asked(edited(text), "b")))
    assert checked.report.dropped == 0
    assert checked.clusters[20] == checked.clusters[21] == 20


def test_of_labels_that_contradict_each_other_the_most_frequent_is_kept() -> None:
    """Copies count as votes although they are dropped; of a tie nothing is kept, and `keep` keeps all."""
    prompt = prose(70)
    many = [asked(prompt, "a"), *[asked(prompt.upper(), "a")] * 3, asked(prompt, "b")]
    checked = check(dataset(*LABELLED, *many))
    assert [(row.line, answers(row)) for row in checked.dataset.rows[20:]] == [(21, ("a",))]
    (finding,) = (one for one in checked.report.findings if one.name == "contradictions")
    assert (finding.action, finding.rows, finding.samples[0].note) == ("dropped", 1, "4x a, 1x b")
    tie = check(dataset(*LABELLED, *many, *[asked(prompt, "b")] * 3))
    assert len(tie.dataset.rows) == 20
    kept = check(dataset(*LABELLED, *many), CheckOptions(conflicts="keep"))
    assert [row.line for row in kept.dataset.rows[20:]] == [21, 25]


def test_an_answer_that_was_liked_more_often_than_disliked_is_liked() -> None:
    """Ratings of one answer to one prompt are votes, however their copies are written."""

    def rated(said: str, liked: bool) -> Rated:
        return Rated(({"role": "user", "content": prose(71)},), said, liked)

    other = Rated(({"role": "user", "content": prose(72)},), "x", liked=False)
    ratings = [rated("Fine.", False), *[rated("Fine.", True)] * 2, rated("fine.", True), other]
    checked = check(dataset(*ratings, kind="rated"))
    assert [(row.line, row.liked) for row in checked.dataset.rows if isinstance(row, Rated)] == [
        (2, True),
        (5, False),
    ]
    tie = check(dataset(*ratings, rated("FINE.", False), rated("fine.", False), kind="rated"))
    assert [row.line for row in tie.dataset.rows] == [5]


@pytest.mark.parametrize("mode", ["mask", "report", "off"])
def test_answers_that_contradict_each_other_are_shown_masked(
    mode: Literal["mask", "report", "off"],
) -> None:
    """Whatever is done with personal data itself, and before an answer is cut."""
    prompt = ({"role": "user", "content": "How do I reach you?"},)
    said = "Write to me, whenever you like: anna.b@example.org"
    rows = [Preference(prompt, said, "Not at all"), Preference(prompt, "Not at all", said)]
    report = check(dataset(*rows, kind="preferences"), CheckOptions(personal=mode)).report
    (finding,) = (one for one in report.findings if one.name == "contradictions")
    assert finding.samples[0].note.startswith("1x Write to me, whenever you like: [E-MAIL]")
    assert "anna" not in json.dumps(report.document())


def test_texts_may_be_left_as_they_are_written() -> None:
    """Where white space is what is learned; what holds nothing that is seen is dropped all the same."""
    data = dataset(*LABELLED, asked(f"{prose(60)}\u00a0b", "a"), asked("\u200b", "b"))
    checked = check(data, CheckOptions(normalise=False))
    assert checked.dataset.rows == data.rows[:21]
    assert [one.name for one in checked.report.findings] == ["empty"]


def test_personal_data_is_masked_dropped_or_only_reported() -> None:
    """In every case the samples of the report are masked."""
    data = dataset(*LABELLED, asked("mail a@b.example", "a", mail="a@b.example"))
    masked = check(data)
    assert masked.dataset.rows[20].messages[0]["content"] == "mail [E-MAIL]"  # type: ignore[union-attr]
    dropped = check(data, CheckOptions(personal="drop"))
    assert (len(dropped.dataset.rows), len(dropped.clusters)) == (20, 20)
    reported = check(data, CheckOptions(personal="report"))
    assert reported.dataset.rows == data.rows
    around = check(dataset(*LABELLED, asked("x " * 200 + "a@b.example" + " y" * 200, "a")))
    assert "x [E-MAIL] y" in around.report.findings[0].samples[0].text
    for checked in (masked, dropped, reported, check(data, CheckOptions(personal="off"))):
        assert "a@b.example" not in json.dumps(checked.report.document())


def test_a_long_secret_is_masked_before_a_sample_is_cut() -> None:
    """No piece of an address is left at the end of a sample."""
    data = dataset(*LABELLED, asked("x" * 150 + " mail.address@example.com", "a"), asked("y", "c"))
    text = json.dumps(check(data, CheckOptions(samples=50)).report.document())
    assert "mail.add" not in text


def test_rows_longer_than_the_context_are_dropped_where_tokens_can_be_counted() -> None:
    """Without a tokenizer nothing is dropped for its length, and the report says so."""
    data = dataset(*LABELLED, asked(prose(77, 400), "a"))
    counted = check(data, CheckOptions(max_tokens=100), tokens=lambda text: len(text.split()))
    assert counted.report.lengths is not None
    assert (counted.report.lengths.unit, counted.report.rows_kept) == ("tokens", 20)
    blind = check(data, CheckOptions(max_tokens=100))
    assert blind.report.rows_kept == 21
    assert any("without a tokenizer" in note for note in blind.report.notes)
    assert {"odd lengths": ("noted", 1)}.items() <= found(data).items()


def test_rows_that_are_held_out_elsewhere_are_dropped() -> None:
    """Near duplicates of them too, whatever their answers."""
    held = (asked(edited(LABELLED[2].messages[0]["content"]), "z", 7),)
    checked = check(dataset(*LABELLED), CheckOptions(held_out=held))
    (finding,) = checked.report.findings
    assert (finding.name, finding.action, finding.rows) == ("held out", "dropped", 1)
    assert finding.samples[0].note.startswith("as held-out line 7 (0.")


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (dataset(asked("\u200b", "a")), "nothing left", "none of 1 rows"),
        (dataset(*[asked("a", "b")] * 30), "one row left", "one of 30 rows is left"),
        (dataset(*[asked(prose(number), "a") for number in range(20)]), "one class", "every answer is 'a'"),
        (
            dataset(
                *[Rated(({"role": "user", "content": prose(one)},), "x", True) for one in range(9)],
                kind="rated",
            ),
            "one class",
            "every rating is 'liked'",
        ),
    ],
)
def test_what_nothing_can_be_learned_from_is_fatal(data: Dataset, name: str, said: str) -> None:
    """The finding says why."""
    report = check(data).report
    assert [one.name for one in report.fatal] == [name]
    assert said in report.fatal[0].why
    assert report.document()["trainable"] is False


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(st.lists(st.text("ab \n\u200b\u00a0A", max_size=8), min_size=1, max_size=12))
def test_what_was_checked_checks_clean(said: list[str]) -> None:
    """Whatever the texts, a second check of what is left changes and drops nothing."""
    once = check(dataset(*map(Text, said), kind="texts"), CheckOptions(near=None))
    again = check(once.dataset, CheckOptions(near=None))
    assert again.dataset == once.dataset
    assert not [one for one in again.report.findings if one.action in ("dropped", "changed")]
    dropped = sum(one.rows for one in once.report.findings if one.action == "dropped")
    assert once.report.rows_kept + dropped == len(said)


def test_other_kinds_are_checked_alike() -> None:
    """Preferences and texts are cleaned, and their copies dropped."""
    prompt = ({"role": "user", "content": "What  is it?\u200b"},)
    pairs = dataset(
        Preference(prompt, "good\r\n", "bad"), Preference(prompt, "good", "bad"), kind="preferences"
    )
    (pair,) = check(pairs).dataset.rows
    assert isinstance(pair, Preference)
    assert (pair.chosen, pair.messages[0]["content"]) == ("good", "What  is it?")
    texts = dataset(Text(prose(1)), Text(edited(prose(1))), Text(prose(2)), kind="texts")
    assert len(check(texts).dataset.rows) == 2


def test_missing_libraries_leave_their_stage_out_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the check is done, and the report names what to install."""

    def missing(kind: type[Exception]) -> object:
        def fail(*_: object, **__: object) -> None:
            raise kind("it is not installed; install turnout[training]")

        return fail

    monkeypatch.setattr(personal, "finder", missing(personal.PersonalUnavailable))
    monkeypatch.setattr(duplicates, "_Index", missing(duplicates.DuplicatesUnavailable))
    monkeypatch.setattr(module, "languages", missing(languages.LanguagesUnavailable))
    report = check(dataset(*LABELLED, LABELLED[0], asked("mail a@b.example", "a"))).report
    assert report.dropped == 1
    assert report.personal == {"UNSORTED": 1}
    assert sum("install turnout[training]" in note for note in report.notes) == 3


def test_a_model_of_names_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for by name is never left out in silence."""

    def fail(model: str | None) -> None:
        raise personal.PersonalUnavailable(f"{model} is not there")

    monkeypatch.setattr(personal, "finder", fail)
    with pytest.raises(ValueError, match="--ner-model: xx is not there"):
        check(dataset(*LABELLED), CheckOptions(ner_model="xx"))


def test_a_threshold_that_finds_nothing_is_refused() -> None:
    """Candidates below a half are not looked for."""
    with pytest.raises(ValueError, match=r"--near 0\.2"):
        CheckOptions(near=0.2)


def test_the_fingerprint_does_not_depend_on_order_or_columns() -> None:
    """It is over what is trained on."""
    one = check(dataset(*LABELLED)).report.fingerprint
    assert check(dataset(*LABELLED[::-1])).report.fingerprint == one
    assert check(dataset(*LABELLED[1:])).report.fingerprint != one
