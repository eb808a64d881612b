"""Units: who was exposed to what in which epoch, whatever comes back, late or torn."""

import random

from gateway.experiments.units import Exposed, Unit, expose
from tests.gateway.experiments.made import CANDIDATE, STABLE, Traffic, answer

EPOCHS = {1: {STABLE: 1.0}, 5: {STABLE: 0.9, CANDIDATE: 0.1}, 9: {STABLE: 0.5, CANDIDATE: 0.5}}
LATER = 1e9


def names(exposed: Exposed) -> list[tuple[str, int, str]]:
    """What the units are, in their order."""
    return [(unit.name, unit.epoch, unit.arm) for unit in exposed.units]


def test_a_request_without_a_subject_is_a_unit() -> None:
    """Requests of one subject are one unit; the others are each their own."""
    made = [
        answer("q1", chance=0.9, generation=5, unit="u"),
        answer("q2", chance=0.9, generation=6, unit="u", at=1.0),
        answer("q3", chance=0.9, generation=6, at=2.0),
    ]
    exposed = expose(made, EPOCHS, until=LATER)
    assert names(exposed) == [("u", 5, STABLE), ("q3", 5, STABLE)]
    assert [a.id for a in exposed.units[0].answers] == ["q1", "q2"]
    assert exposed.counts == {5: {STABLE: 2}}


def test_a_unit_counts_in_its_first_arm_only() -> None:
    """What a subject meets in another arm while shares stand still is left out."""
    made = [
        answer("q2", arm=CANDIDATE, chance=0.5, generation=9, unit="u", at=5.0),
        answer("q1", chance=0.5, generation=9, unit="u"),
    ]
    exposed = expose(made, EPOCHS, until=LATER)
    assert names(exposed) == [("u", 9, STABLE)]
    assert [a.id for a in exposed.units[0].answers] == ["q1"]


def test_the_first_answer_is_the_one_that_ended_first() -> None:
    """A long request that began earlier, and ends later, exposes nobody before it has ended."""
    made = [
        answer("long", chance=0.5, generation=9, unit="u", at=0.0, latency_ms=60_000.0),
        answer("short", chance=0.5, generation=9, unit="u", at=10.0),
    ]
    for until in (11.0, 100.0):
        exposed = expose(made, EPOCHS, until=until)
        assert exposed.units[0].exposed_at == 10.1
        assert [a.id for a in exposed.units[0].answers] == ["short", "long"][: 1 + (until > 60)]


def test_a_torn_table_is_known_by_its_chance() -> None:
    """A table may bear the generation from before a flip and the shares from after it."""
    made = [
        answer("old", chance=0.9, generation=8),
        answer("torn", arm=CANDIDATE, chance=0.5, generation=8),
        answer("strange", arm=CANDIDATE, chance=0.7, generation=9),
        answer("unsaid", chance=None, generation=9),
        answer("before", chance=1.0, generation=0),
        answer("too early", chance=0.4, generation=0),
    ]
    exposed = expose(made, EPOCHS, until=LATER)
    assert sorted(names(exposed)) == [("before", 1, STABLE), ("old", 5, STABLE), ("torn", 9, CANDIDATE)]
    assert exposed.astray == 3


def test_who_comes_back_is_counted_with_the_chance_that_was_left() -> None:
    """From 10 % to 50 %: who had the candidate tells nothing new, who had the stable arm moves with 4/9."""
    unit = Unit("u", 9, CANDIDATE, sticky=True, answers=[answer()], before=((5, STABLE),))
    chances = unit.chances(EPOCHS, stable=STABLE, candidate=CANDIDATE)
    assert chances is not None
    assert round(chances[CANDIDATE], 9) == round(0.4 / 0.9, 9)
    unit.before = ((5, CANDIDATE),)
    assert unit.chances(EPOCHS, stable=STABLE, candidate=CANDIDATE) == {STABLE: 0.0, CANDIDATE: 1.0}
    unit.before = ()
    assert unit.chances(EPOCHS, stable=STABLE, candidate=CANDIDATE) == EPOCHS[9]


def test_looking_later_changes_no_unit() -> None:
    """At every moment the units are the first of those that are seen at the end, with the same beginnings."""
    traffic = Traffic({STABLE: 0.8, CANDIDATE: 0.2})
    made = random.Random(3)
    for shares in ({STABLE: 0.5, CANDIDATE: 0.5}, {STABLE: 0.9, CANDIDATE: 0.1}):
        traffic.run(200, subject=lambda _: f"user {made.randrange(60)}")
        traffic.change(shares)
    answers = [a._replace(latency_ms=made.expovariate(1 / 20_000)) for a in traffic.answers]
    whole = expose(answers, traffic.epochs, until=LATER)
    for until in (1_050.0, 1_200.0, 1_260.0, 1_390.0):
        then = expose(answers, traffic.epochs, until=until)
        assert names(then) == names(whole)[: len(then.units)]
        assert [u.before for u in then.units] == [u.before for u in whole.units[: len(then.units)]]
    assert sum(map(len, (unit.before for unit in whole.units))) > 20
