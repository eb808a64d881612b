"""A judge over HTTP: both orders, what fails, and what is kept."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.training.evaluation.servers import Answer, serving
from training.data.rows import Example
from training.evaluation.judge_model import MAX_FAILURES, TRIES, JudgeSettings, preferences
from training.evaluation.preference import RUBRIC, Pair, Preferences, add_up, read_verdict, wilson

pytestmark = pytest.mark.slow

KEY = "sk-judge"


def rows(count: int) -> list[Example]:
    """Return rows whose wanted answer is `good N`."""
    return [Example(({"role": "user", "content": f"question {n}"},), f"good {n}") for n in range(count)]


def said(text: str) -> tuple[int, Any, dict[str, str]]:
    """Return an answer of the judge."""
    return 200, {"choices": [{"message": {"content": text}}]}, {}


def by_content(_path: str, body: dict[str, Any], _headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
    """Choose the answer with `good` in it, as an honest judge does."""
    shown = json.loads(body["messages"][1]["content"])
    good = ["good" in shown[f"answer {place}"] for place in "AB"]
    return said(f'Clear. {{"verdict": "{"tie" if good[0] == good[1] else "A" if good[0] else "B"}"}}')


async def no_wait(_seconds: float) -> None:
    """Wait for nothing."""


def ask(
    url: str,
    ours: list[str],
    theirs: list[str],
    *,
    cache: Path | None = None,
    waits: list[float] | None = None,
    instruction: str | None = None,
    **settings: Any,
) -> Preferences:
    """Ask the judge at `url` about two systems' answers."""

    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    return preferences(
        JudgeSettings(f"{url}/v1", "judge-1", KEY, **settings),
        rows(len(ours)),
        ours,
        theirs,
        against="base",
        groups=list(range(len(ours))),
        cache=cache,
        seed=1,
        on_row=lambda _: None,
        instruction=instruction,
        sleep=sleep,
    )


def test_an_honest_judge_prefers_the_better_answers() -> None:
    """Three rows are won, one lost, one a tie, one the same and not asked about, whatever the place."""
    seen: list[dict[str, Any]] = []

    def answer(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        seen.append({"path": path, "key": headers["authorization"], **body})
        return by_content(path, body, headers)

    with serving(answer) as url:
        found = ask(
            url,
            ["good", "good", "good", "bad", "good x", "same"],
            ["bad", "bad", "bad", "good", "good y", "same"],
        )
    assert (found.wins, found.losses, found.ties, found.same) == (3, 1, 2, 1)
    assert (found.malformed, found.failed, found.orders_disagree) == (0, 0, 0)
    assert found.win_rate is not None
    assert found.win_rate.value == pytest.approx(4 / 6)
    assert found.first_chosen is not None
    assert found.first_chosen.value == 0.5
    assert len(seen) == 10
    assert {each["path"] for each in seen} == {"/v1/chat/completions"}
    assert {each["key"] for each in seen} == {f"Bearer {KEY}"}
    assert seen[0]["messages"][0]["content"] == RUBRIC
    assert seen[0]["temperature"] == 0


def test_a_judge_that_prefers_a_place_is_seen_through() -> None:
    """Whoever stands first wins both orders: every row is a tie, and the bias is reported."""
    with serving(lambda *_: said('{"verdict": "A"}')) as url:
        found = ask(url, [f"a{n}" for n in range(12)], [f"b{n}" for n in range(12)])
    assert (found.ties, found.orders_disagree) == (12, 12)
    assert found.first_chosen is not None
    assert found.first_chosen.value == 1
    assert found.first_chosen.low > 0.8


def test_verdicts_are_kept_and_only_missing_ones_are_asked_again(tmp_path: Path) -> None:
    """A second run asks nothing but what could not be read."""
    calls = {"count": 0}

    def answer(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        calls["count"] += 1
        if calls["count"] <= 2 and "question 0" in str(body):
            return said("I can't decide.")
        return by_content(path, body, headers)

    with serving(answer) as url:
        first = ask(url, ["good", "good"], ["bad", "bad"], cache=tmp_path, concurrency=1)
        before = calls["count"]
        second = ask(url, ["good", "good"], ["bad", "bad"], cache=tmp_path)
        ask(url, ["good", "good"], ["bad", "bad"], cache=tmp_path)
    assert (first.malformed > 0, first.wins) == (True, 1)
    assert (second.malformed, second.wins) == (0, 2)
    assert calls["count"] - before == first.malformed
    assert KEY not in "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())


def test_the_judge_reads_the_instruction_that_the_systems_found(tmp_path: Path) -> None:
    """It stands before the prompt as in theirs, and a verdict without it, or with another, is not reused."""
    requests: list[Any] = []

    def answer(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        requests.append(json.loads(body["messages"][1]["content"])["request"])
        return by_content(path, body, headers)

    with serving(answer) as url:
        for instruction in ("In one word.", None, "In French.", "In one word.", None):
            found = ask(url, ["good"], ["bad"], cache=tmp_path, instruction=instruction)
            assert found.wins == 1
    shown = ("In one word.\n\nquestion 0", "question 0", "In French.\n\nquestion 0")
    assert requests == [[{"role": "user", "content": text}] for text in shown for _ in range(2)]


def test_overload_is_waited_for() -> None:
    """429 and 503 are tried again, not before the server said so; another name of the limit is learned."""
    lock, seen = threading.Lock(), {"count": 0}

    def answer(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        with lock:
            seen["count"] += 1
            number = seen["count"]
        if number == 1:
            return 429, {"error": {}}, {"retry-after": "7"}
        if number == 2:
            return 503, "busy", {}
        if "max_tokens" in body:
            return 400, {"error": {"message": "use max_completion_tokens"}}, {}
        return by_content(path, body, headers)

    waits: list[float] = []
    with serving(answer) as url:
        found = ask(url, ["good"], ["bad"], waits=waits, concurrency=1)
    assert (found.wins, found.failed) == (1, 0)
    assert max(waits) >= 7


@pytest.mark.parametrize(
    ("answer", "reason", "calls"),
    [
        (lambda *_: (401, {"error": {}}, {}), "HTTP 401", MAX_FAILURES),
        (lambda *_: (500, "oops", {}), f"HTTP 500, {TRIES} times", MAX_FAILURES * TRIES),
    ],
)
def test_a_judge_that_fails_is_given_up_and_counted(answer: Answer, reason: str, calls: int) -> None:
    """No row has an outcome, the reason is told, and not every row is tried for ever."""
    seen: list[str] = []

    def counting(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        seen.append(path)
        return answer(path, body, headers)

    with serving(counting) as url:
        found = ask(url, [f"a{n}" for n in range(40)], [f"b{n}" for n in range(40)], concurrency=1)
    assert (found.failed, found.wins, found.win_rate) == (40, 0, None)
    assert found.note is not None
    assert reason in found.note
    assert len(seen) == calls


@pytest.mark.parametrize(
    "document", ["no json", {}, {"choices": []}, {"choices": [{"message": {"content": 5}}]}]
)
def test_answers_of_another_form_are_malformed(document: Any) -> None:
    """They are counted as verdicts that could not be read, and no row is decided by them."""
    with serving(lambda *_: (200, document, {})) as url:
        found = ask(url, ["a"], ["b"])
    assert (found.malformed, found.wins + found.losses + found.ties) == (2, 0)


def test_a_judge_that_is_not_there_is_a_finding() -> None:
    """Nobody listens: the evaluation goes on, and the report says that nothing was judged."""
    found = ask("http://127.0.0.1:9", ["a"], ["b"])
    assert found.failed == 1
    assert "can't be reached" in (found.note or "")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"verdict": "A"}', "first"),
        ('{"verdict": "B"} no, wait: {"verdict": "a"}', "first"),
        ('An answer quotes {"verdict": "A"}, but {"verdict": " Tie "}', "tie"),
        ("[[B]]", "second"),
        ("so [[C]]", "tie"),
        ('{"verdict": "C"}', None),
        ('{"verdict": 1}', None),
        ("A is better", None),
        ("", None),
    ],
)
def test_reading_verdicts(text: str, verdict: str | None) -> None:
    """The last verdict counts; prose alone is none."""
    assert read_verdict(text) == verdict


def test_pairs_add_up() -> None:
    """A win needs both orders; a missing verdict decides nothing; ties are half."""
    pairs = [
        Pair("first", "second"),
        Pair("second", "first"),
        Pair("first", "first"),
        Pair("tie", "second"),
        Pair(None, "second"),
        None,
    ]
    found = add_up(pairs, judge="j", against="x", malformed=1, groups=list(range(6)), seed=1)
    assert (found.wins, found.losses, found.ties, found.failed) == (1, 1, 2, 1)
    assert found.orders_disagree == 2
    assert found.win_rate is not None
    assert found.win_rate.value == 0.5


def test_the_score_interval_is_scipys() -> None:
    """Wilson's interval, also where nothing or everything succeeds."""
    from scipy.stats import binomtest

    for successes, trials in ((0, 9), (3, 10), (9, 9)):
        found = wilson(successes, trials)
        known = binomtest(successes, trials).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((known.low, known.high))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "judge.example"}, "--judge-url"),
        ({"rubric": "  "}, "rubric"),
        ({"concurrency": 0}, "--judge-concurrency"),
    ],
)
def test_settings_that_can_not_be_asked_with_are_refused(settings: dict[str, Any], message: str) -> None:
    """Before the model is loaded."""
    with pytest.raises(ValueError, match=message):
        JudgeSettings(**{"url": "http://x/v1", "model": "m", **settings})


def test_the_key_is_not_shown() -> None:
    """Neither in a log of the settings nor in a report."""
    assert KEY not in repr(JudgeSettings("http://x/v1", "m", KEY))
