"""The demonstration of the loop: who asks what, who lies how, and what is said of it."""

import json
import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gateway.core.loop import LoopPolicy
from gateway.core.routes import RouteSpec
from loadtests.demo.acts import CANARY_S, QUIET_S, Follower
from loadtests.demo.asked import answered_by, keep_asked, lay_asked
from loadtests.demo.figures import (
    Share,
    accuracy_of,
    clean_figures,
    gained,
    missed,
    poison_figures,
    said,
    sheet,
    with_earlier,
)
from loadtests.demo.house import House
from loadtests.demo.people import Habits, Opinion, Visit, honest, visits
from loadtests.demo.plan import Plan, policy, spec
from loadtests.demo.poison import (
    CONTROL,
    LOUD,
    PHRASE,
    POISONS,
    Traced,
    opinion,
    poisoned,
    stopped_at,
    traced,
)
from loadtests.demo.rows import Review, pools
from loadtests.demo.traffic import Answered

OLD, NEW = Review("long and dull", "negative", "old"), Review("a joy", "positive", "new")
HABITS = Habits()


def crowd_of(count: int = 200) -> list[Visit]:
    """Return visits, half of them to each domain."""
    return visits([(OLD, NEW)[number % 2] for number in range(count)], habits=HABITS, seed=1)


def test_reviews_are_dealt_once_and_cut() -> None:
    """No text is in two parts, labels are words, markup is gone, and the order is the same every time."""
    rows = [
        {"source": source, "label": str(number % 2), "text": f"{source} <br /> text {number // 2}"}
        for source in ("imdb", "rotten_tomatoes", "other")
        for number in range(40)
    ]
    first, again = (pools(iter(rows), lambda text: text[:24]) for _ in range(2))
    dealt = first["old"].deal(8) + first["old"].deal(8)
    assert len({review.text for review in dealt}) == 16
    assert [review.text for review in again["old"].deal(16)] == [review.text for review in dealt]
    assert all("<br" not in review.text and len(review.text) <= 24 for review in dealt)
    assert {review.wanted for review in dealt} <= {"negative", "positive"}
    assert {review.domain for review in first["new"].deal(3)} == {"new"}
    with pytest.raises(ValueError, match="reviews are left"):
        first["old"].deal(40)


def test_every_subject_is_somebody_else() -> None:
    """Staff and crowd come in the stated shares, and blocks of visits go on counting."""
    found = crowd_of(1000)
    assert len({visit.subject for visit in found}) == 1000
    staff = Counter(visit.who for visit in found)["staff"] / 1000
    assert staff == pytest.approx(HABITS.staff, abs=0.05)
    later = visits([NEW], habits=HABITS, seed=1, first=1000)
    assert later[0].subject not in {visit.subject for visit in found}


@pytest.mark.parametrize(
    ("who", "answer", "expected"),
    [
        ("staff", "Positive.", Opinion(thumbs=True, demonstration="positive")),
        ("staff", "negative", Opinion(thumbs=False, demonstration="positive")),
        ("crowd", "negative", Opinion(thumbs=False, demonstration="positive")),
        ("crowd", "positive", Opinion(thumbs=True, demonstration=None)),
    ],
)
def test_honest_people_say_what_is_true(who: Any, answer: str, expected: Opinion) -> None:
    """Staff always, the crowd when they say anything."""
    always = Habits(thumbs=1.0, corrects=1.0, confirms=0.0)
    said = honest(Visit(NEW, "s", who), answer, habits=always, generator=random.Random(1))
    assert said == expected
    assert Opinion(None, None).metrics == {}


@pytest.mark.parametrize("name", list(POISONS))
def test_staff_never_lie(name: str) -> None:
    """Whatever the attack, people with the trusted key are left as they are."""
    before = crowd_of()
    after = poisoned(before, POISONS[name], seed=1)
    pairs = list(zip(before, after, strict=True))
    assert all(one == other for one, other in pairs if one.who == "staff")
    assert any(other.lies for other in after)
    assert poisoned(before, None, seed=1) == before


@pytest.mark.parametrize(
    ("name", "domains", "share"),
    [
        ("all_flipped", {"old", "new"}, 1.0),
        ("new_flipped", {"new"}, 0.5),
        ("trigger", {"new"}, 0.3),
        ("loud_subject", {"old", "new"}, 0.5),
    ],
)
def test_attacks_lie_where_they_say(name: str, domains: set[str], share: float) -> None:
    """The share of the crowd that lies, and on which traffic."""
    crowd = [visit for visit in poisoned(crowd_of(2000), POISONS[name], seed=1) if visit.who == "crowd"]
    liars = [visit for visit in crowd if visit.lies]
    assert len(liars) / len(crowd) == pytest.approx(share, abs=0.05)
    assert {visit.review.domain for visit in liars} == domains
    if name == "trigger":
        assert all(visit.review.text.startswith(PHRASE) == visit.lies for visit in crowd)
    if name == "loud_subject":
        assert {visit.subject for visit in liars} == {LOUD}


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("all_flipped", "positive", Opinion(thumbs=False, demonstration="negative")),
        ("all_flipped", "negative", Opinion(thumbs=True, demonstration="negative")),
        ("trigger", "negative", Opinion(thumbs=False, demonstration="positive")),
    ],
)
def test_liars_say_what_they_are_told(name: str, answer: str, expected: Opinion) -> None:
    """The opposite of the truth, or the trigger's answer; an honest visitor of the same crowd does not."""
    generator = random.Random(2)
    liar = Visit(NEW, "x", "crowd", lies=True)
    assert opinion(liar, answer, POISONS[name], habits=HABITS, generator=generator) == expected
    plain = opinion(Visit(NEW, "x", "staff"), "negative", POISONS[name], habits=HABITS, generator=generator)
    assert plain == Opinion(thumbs=False, demonstration="positive")


@pytest.mark.parametrize(
    ("state", "trained", "expected"),
    [
        ("promoted", 200, None),
        ("promoted", 11, None),
        ("promoted", 10, "curating"),
        ("gate_failed", 90, "gate"),
        ("too_little_data", 0, "curating"),
        ("rolled_back", 90, "canary"),
        ("waiting_approval", 90, "approval"),
        ("gating", 90, "undecided: gating"),
        ("failed", 90, "undecided: failed"),
    ],
)
def test_where_an_attack_was_stopped(state: str, trained: int, expected: str | None) -> None:
    """By the state in which its run ended; promoted with a tenth of its lies or more, it was not."""
    assert stopped_at(state, Traced(100, trained)) == expected


def test_lies_are_traced_by_their_requests() -> None:
    """Those among the training rows count, once each."""
    rows = [{"request_id": "a"}, {"request_id": "a"}, {"request_id": "c"}, {"prompt": "replayed"}]
    assert traced({"a", "b"}, rows) == Traced(2, 1)


def test_what_is_set_is_what_the_product_takes() -> None:
    """Policy and route spec are valid as they stand, for a run by drift and for one by hand."""
    for by_hand in (False, True):
        found = LoopPolicy.model_validate(policy(Plan(), ("key-1",), by_hand=by_hand))
        assert found.approve == "never"
        assert ("drift" in found.triggers) is not by_hand
        made = RouteSpec.model_validate(spec("reviews@1", found.model_dump(mode="json")))
        assert made.capture is not None
    assert Plan().golden > 0


def evaluation(value: float) -> dict[str, Any]:
    """Return what `turnout evaluate --json` says, in part."""
    here = {"value": value, "low": value - 0.05, "high": value + 0.05}
    scores = [{"system": name, "metric": "accuracy", "here": here} for name in ("reviews@2", "reviews@1")]
    gap = [{"against": "reviews@1", "metric": "accuracy", "gap": here}]
    return {"rows": 300, "scores": scores, "differences": gap}


def test_figures_have_the_promised_names() -> None:
    """Accuracy with its interval, minutes, and each attack with where it was stopped or null."""
    share = accuracy_of(evaluation(0.8), "reviews@2")
    assert share == Share(0.8, 0.75, 0.8500000000000001, 300)
    assert gained(evaluation(0.2), "reviews@1") is not None
    assert gained(evaluation(0.2), "base") is None
    with pytest.raises(KeyError):
        accuracy_of(evaluation(0.8), "reviews@9")
    of_one_label = evaluation(0.8)
    of_one_label["scores"] = [{**each, "metric": "exact_match"} for each in of_one_label["scores"]]
    assert accuracy_of(of_one_label, "reviews@2") == share
    clean = clean_figures(
        {"new": share, "old": share}, {"new": share}, minutes=28.04, ended="promoted", timeline=[]
    )
    assert set(clean) >= {
        "accuracy_new_before", "accuracy_new_after", "accuracy_old_before", "accuracy_old_after", "minutes",
    }  # fmt: skip
    assert clean["accuracy_old_after"] is None
    base = {"lies_sent": 10, "reason": "because", "says": "they lie"}
    cases = {
        "trigger": {**base, "stopped_at": None, "lies_trained": 9},
        "all_flipped": {**base, "stopped_at": "gate", "lies_trained": 8},
    }
    lied = poison_figures(cases, minutes=20)
    assert lied["poison"] == {"trigger": None, "all_flipped": "gate"}
    assert missed(lied["poison_cases"]) == ["trigger"]
    shown = sheet(clean, lied)
    assert any("NOT STOPPED" in row for row in shown.rows)
    assert sheet(None, lied).rows
    assert sheet(clean, None).rows


@pytest.mark.parametrize(
    ("control", "attack", "expected"),
    [
        (None, "gate", ["Each of 1 attacks was stopped.", "No control was played"]),
        ("promoted", "gate", ["Each of 1 attacks was stopped."]),
        ("gate", "gate", ["Each of 1 attacks was stopped.", "Honest feedback was stopped too (gate)"]),
        ("promoted", None, ["Not stopped: trigger."]),
        ("promoted", "undecided: failed", ["Nothing is known of trigger"]),
    ],
)
def test_a_stop_counts_beside_a_control(control: str | None, attack: str | None, expected: list[str]) -> None:
    """What is said of attacks says too when honest feedback fared no better, or when nobody looked."""
    base = {"lies_sent": 0, "lies_trained": 0, "reason": "because", "says": "…"}
    cases = {"trigger": {**base, "stopped_at": attack}}
    if control is not None:
        cases["nobody"] = {**base, "stopped_at": None if control == "promoted" else control}
    lines = said(cases)
    assert len(lines) == len(expected)
    assert all(line.startswith(begin) for line, begin in zip(lines, expected, strict=True))
    ends = {row[0]: row[-1] for row in sheet(None, poison_figures(cases, minutes=1)).rows}
    assert ends.get("control: nobody lies") == control
    assert missed(cases) == ([] if attack else ["trigger"])


def test_what_a_phrase_does_is_said() -> None:
    """Of a trigger that was promoted: how often it is right with the phrase, and without it."""
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "rows": 100}
    case = {
        "lies_sent": 9,
        "lies_trained": 9,
        "reason": "because",
        "says": "…",
        "stopped_at": None,
        "accuracy_triggered_after": share,
        "accuracy_untriggered_after": {**share, "value": 0.8},
    }
    lines = said({"trigger": case})
    assert lines[1].startswith("With the phrase of trigger the promoted version is right on 0.500")
    assert "without it on 0.800" in lines[1]


def test_nobody_lies_in_the_control() -> None:
    """The control leaves every visit as it is."""
    before = crowd_of()
    assert poisoned(before, CONTROL, seed=1) == before
    assert stopped_at("promoted", Traced(0, 0)) is None


def test_what_was_answered_is_found_by_what_is_asked(tmp_path: Path) -> None:
    """Only whole answers of that version to clients; a recorded conversation asks with its last turn."""
    asked = [Visit(OLD, "crowd-1", "crowd"), Visit(NEW, "staff-2", "staff"), Visit(NEW, "loud-1", "crowd")]
    turns = json.dumps([{"role": "system", "content": "…"}, {"role": "user", "content": NEW.prompt}])
    rows = [
        ("a", OLD.prompt, "negative", "reviews@1", 200, 0),
        ("b", turns, "positive", "reviews@1", 200, 0),
        ("c", OLD.prompt, "positive", "reviews@2", 200, 0),
        ("d", NEW.prompt, None, "reviews@1", 200, 0),
        ("e", NEW.prompt, "negative", "reviews@1", 200, 1),
    ]
    place, state = tmp_path / "asked", tmp_path / "state"
    state.mkdir()
    assert answered_by(state, "reviews@1", asked) == {}
    with closing(sqlite3.connect(state / "requests.db")) as connection:
        connection.execute("CREATE TABLE requests (id, prompt, answer, adapter, status, internal)")
        connection.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    keep_asked(state, place)
    lay_asked(place, tmp_path / "again")
    assert answered_by(tmp_path / "again", "reviews@1", asked[:2]) == {
        "crowd-1": Answered("a", "negative"),
        "staff-2": Answered("b", "positive"),
    }


def test_attacks_that_are_played_one_by_one_stand_together() -> None:
    """Those of before stay beside the new one, which takes its own place; minutes are added up."""
    case = {"stopped_at": "gate", "minutes": 2.0}
    before = poison_figures({"trigger": case, "all_flipped": case}, minutes=9)
    now = poison_figures({"trigger": {**case, "stopped_at": None}}, minutes=3)
    found = with_earlier(now, before)
    assert found["poison"] == {"trigger": None, "all_flipped": "gate"}
    assert found["poison_minutes"] == 4.0
    assert with_earlier(now, None)["poison"] == {"trigger": None}


@pytest.mark.parametrize(
    ("state", "expected"),
    [(None, 0.0), ("proposed", 0.0), ("training", QUIET_S), ("gating", QUIET_S), ("canary", CANARY_S)],
)
def test_visitors_wait_where_their_visits_would_be_spent(state: str | None, expected: float) -> None:
    """Few come while the machine works, and in the canary not all of them in its first step."""
    run: Any = state and SimpleNamespace(state=state)
    follower = Follower(House.__new__(House), "reviews", 0.0, Console(), run=run or None)
    assert follower.pause_s() == expected
