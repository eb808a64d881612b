"""Findings: from requests and ratings to verdicts and guardrails, for arms that are alike or not."""

import random

import pytest

from gateway.core.canary import Canary, Slo
from gateway.core.routes import Metric
from gateway.experiments.experiment import Experiment
from gateway.experiments.findings import Findings, examine
from gateway.experiments.verdict import Finding
from gateway.experiments.watch import Watch
from tests.gateway.experiments.made import CANDIDATE, STABLE, Traffic, answer

HALVES = {STABLE: 0.5, CANDIDATE: 0.5}
THUMBS = {"thumbs": Metric(window_h=1, primary=True)}
LATER = 1e6


def experiment(traffic: Traffic, **more: object) -> Experiment:
    """An experiment on this traffic's route."""
    usual = {"metrics": THUMBS, "slo": Slo(window_s=60), "sticky": "none"}
    return Experiment("r", STABLE, (CANDIDATE,), traffic.epochs, **{**usual, **more})  # type: ignore[arg-type]


def look(traffic: Traffic, *, until: float = LATER, **more: object) -> Findings:
    """Examine what this traffic left."""
    return examine(experiment(traffic, **more), traffic.answers, traffic.said, until=until)


def test_a_better_candidate_is_said_to_be_better() -> None:
    """Liked in 90 of 100 cases against 50, it is safe to promote, and each request is said to be a unit."""
    traffic = Traffic(HALVES)
    traffic.run(600, liked={STABLE: 0.5, CANDIDATE: 0.9})
    said = look(traffic).candidates[CANDIDATE].verdict
    assert (said.finding, said.promote) == (Finding.BETTER, True)
    assert "safe to promote" in said.text
    assert "each request is a unit" in said.text


def test_equal_arms_are_not_told_apart() -> None:
    """On no metric does the interval leave zero out, and the pace says how long it takes."""
    traffic = Traffic(HALVES)
    traffic.run(600, liked={STABLE: 0.5, CANDIDATE: 0.5}, fails={STABLE: 0.05, CANDIDATE: 0.05})
    found = look(traffic, until=traffic.now + 3600)
    candidate = found.candidates[CANDIDATE]
    assert candidate.verdict.finding == Finding.UNKNOWN
    assert all(m.difference.low <= 0 <= m.difference.high for m in candidate.metrics.values())
    assert found.units_per_day == pytest.approx(600 / (599 + 3600) * 86_400, rel=0.01)
    difference = candidate.metrics["thumbs"].difference
    assert candidate.plan.days is not None
    assert candidate.plan.units is not None
    left = candidate.plan.units - difference.information / 0.25
    assert candidate.plan.days == pytest.approx(left / found.units_per_day)


def test_open_units_are_counted_apart() -> None:
    """Units whose window is running are exposed, and in no comparison of ratings."""
    traffic = Traffic(HALVES)
    traffic.run(100, liked={STABLE: 0.5, CANDIDATE: 0.9})
    found = look(traffic, until=traffic.now + 3550).candidates[CANDIDATE]
    thumbs, errors = found.metrics["thumbs"], found.metrics["errors"]
    closed = thumbs.difference.stable_units + thumbs.difference.candidate_units
    assert closed + thumbs.open_units == 100
    assert 40 < closed < 60
    assert errors.difference.stable_units + errors.difference.candidate_units == 100


def test_a_subject_asks_again() -> None:
    """Subjects of one arm who always ask again within the minute show on the implicit metric."""
    traffic = Traffic(HALVES, gap_s=100.0)
    traffic.run(300, subject=lambda n: f"user {n}")
    again = [a._replace(id=f"{a.id} again", at=a.at + 30) for a in traffic.answers if a.arm == CANDIDATE]
    traffic.answers += again
    found = look(traffic, sticky="subject").candidates[CANDIDATE].metrics["asked_again"].difference
    assert found.low > 0.2
    assert (found.stable_mean, found.candidate_mean) == (0.0, 0.5)


def test_lopsided_arms_withhold_the_verdict() -> None:
    """Where an arm's requests go missing there is a warning instead of a verdict."""
    traffic = Traffic(HALVES)
    traffic.run(600, liked={STABLE: 0.1, CANDIDATE: 0.9})
    lost = random.Random(5)
    traffic.answers = [a for a in traffic.answers if a.arm == STABLE or lost.random() < 0.6]
    found = look(traffic)
    assert found.mismatch.suspicious
    assert found.candidates[CANDIDATE].verdict.finding == Finding.WITHHELD


def test_the_same_version_twice() -> None:
    """Arms that are known to be equal are an A/A experiment, and nothing is promoted on its grounds."""
    traffic = Traffic(HALVES)
    traffic.run(300, liked={STABLE: 0.5, CANDIDATE: 0.5})
    said = look(traffic, same_expected=True).candidates[CANDIDATE].verdict
    assert (said.finding, said.promote) == (Finding.SAME, False)


# --- what a canary is watched by -----------------------------------------------------------------------


def watched(traffic: Traffic, *, until: float = LATER, step: int = 0, **more: object) -> Watch:
    """The watch of a canary with these terms."""
    terms = {"candidate": CANDIDATE, "guardrails": {"errors": 0.05, "thumbs": 0.05}}
    canary = Canary(**{**terms, **more})  # type: ignore[arg-type]
    found = look(traffic, until=until, canary=canary, step_after_generation=step).watch
    assert found is not None
    return found


def test_a_guardrail_is_breached_by_what_is_certain() -> None:
    """A candidate that fails breaches the limit on errors once the bound says so; thumbs are untouched."""
    traffic = Traffic({STABLE: 0.7, CANDIDATE: 0.3})
    traffic.run(600, fails={CANDIDATE: 0.3}, liked={STABLE: 0.9, CANDIDATE: 0.9})
    found = watched(traffic)
    assert [name for name, guard in found.guardrails.items() if guard.breached] == ["errors"]
    assert found.guardrails["errors"].leaning
    assert found.guardrails["errors"].alpha == 0.05  # a half of 5 % on each side of an interval
    assert not found.hard_stop


def test_dislike_breaches_in_its_own_direction() -> None:
    """Of thumbs higher is better: fewer of them breach, more of them do not."""
    for liked, breached in ((0.2, True), (1.0, False)):
        traffic = Traffic(HALVES)
        traffic.run(500, liked={STABLE: 0.7, CANDIDATE: liked})
        guard = watched(traffic).guardrails["thumbs"]
        assert (guard.breached, guard.leaning) == (breached, breached)


def test_answers_of_another_length_breach_either_way() -> None:
    """Answers that are much shorter are as suspect as longer ones."""
    for tokens in (0, 500):
        traffic = Traffic(HALVES)
        traffic.run(300)
        traffic.answers = [
            a._replace(completion_tokens=tokens if a.arm == CANDIDATE else 250) for a in traffic.answers
        ]
        assert watched(traffic, guardrails={"answer_length": 0.1}).guardrails["answer_length"].breached


def test_the_units_of_a_step() -> None:
    """They are the candidate's of the step's own epoch, closed on every guardrail."""
    traffic = Traffic({STABLE: 0.9, CANDIDATE: 0.1})
    traffic.run(200)
    traffic.change(HALVES)
    traffic.run(100)
    theirs = [a for a in traffic.answers if a.arm == CANDIDATE]
    in_step = sum(a.generation == 2 for a in theirs)
    assert watched(traffic).step_units == len(theirs)
    assert watched(traffic, step=1).step_units == in_step
    assert watched(traffic, step=1, until=traffic.now + 3500).step_units == 0
    assert watched(traffic, step=1, until=traffic.now + 1, guardrails={"errors": 0.1}).step_units == in_step


@pytest.mark.parametrize(
    ("story", "stops"),
    [
        ("sscccccs", True),
        ("ccccc", True),
        ("ccccgccc", False),
        ("ccccc g", False),
        ("sSccScScSc", False),
        ("SccccSc", False),
    ],
)
def test_failures_in_a_row(story: str, stops: bool) -> None:
    """Five in a row stop a canary, but not while the stable arm fails as well.

    s and g are good answers of the stable arm and of the candidate, S and c failed ones.
    """
    answers = [
        answer(
            f"q{place}",
            arm=STABLE if kind in "sS" else CANDIDATE,
            at=float(place),
            status=500 if kind in "Sc" else 200,
        )
        for place, kind in enumerate(story)
        if kind != " "
    ]
    traffic = Traffic(HALVES, answers=answers)
    assert watched(traffic).hard_stop is stops


def test_a_slow_arm_is_no_mismatch_for_ever() -> None:
    """While its first answers are under way the counts look odd; what is remembered is what is complete."""
    traffic = Traffic(HALVES)
    traffic.run(600)
    slow = [
        each._replace(latency_ms=300_000.0) if each.arm == CANDIDATE else each for each in traffic.answers
    ]
    soon, ended = traffic.answers[289].at, traffic.now + 1_000
    first = examine(experiment(traffic), slow, [], until=soon, settled_s=400.0)
    assert first.mismatch.suspicious
    assert first.mismatch.settled == {}
    last = examine(
        experiment(traffic), slow, [], until=ended, settled_s=400.0, earlier=first.mismatch.settled
    )
    assert not last.mismatch.suspicious
    assert last.mismatch.settled[1] > 0.05


def test_a_mismatch_is_remembered_by_epoch() -> None:
    """What an earlier look found of this experiment's epochs withholds the verdict; other epochs are past."""
    traffic = Traffic(HALVES)
    traffic.run(600, liked={STABLE: 0.5, CANDIDATE: 0.9})
    more = {"until": LATER, "settled_s": 300.0}
    told = examine(experiment(traffic), traffic.answers, traffic.said, earlier={1: 0.001, 99: 1e-9}, **more)  # type: ignore[arg-type]
    assert (told.mismatch.suspicious, told.mismatch.epoch) == (True, 1)
    assert told.candidates[CANDIDATE].verdict.finding == Finding.WITHHELD
    assert told.mismatch.settled.keys() == {1}


def test_json_that_is_none_breaches_its_guardrail() -> None:
    """Of answers to requests for JSON alone; requests that ask for none are not counted."""
    traffic = Traffic(HALVES)
    traffic.run(800)
    asked = [
        each._replace(schema_valid=each.arm == STABLE or number % 4 == 0) if number % 2 else each
        for number, each in enumerate(traffic.answers)
    ]
    guarded = experiment(traffic, canary=Canary(candidate=CANDIDATE, guardrails={"schema_validity": 0.05}))
    for answers, breached, leaning in ((asked, True, True), (traffic.answers, False, True)):
        watch = examine(guarded, answers, [], until=LATER).watch
        assert watch is not None
        guard = watch.guardrails["schema_validity"]
        assert (guard.breached, guard.leaning, guard.proven) == (breached, leaning, False)
        units = guard.difference.candidate_units + guard.difference.stable_units
        assert units == (400 if breached else 0)
