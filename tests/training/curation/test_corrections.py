"""Corrections that are corrected: before a run has used them, and after a version has learned them."""

from gateway.core.curation import Verdict
from tests.training.curation.conftest import ROUTE, Fleet, champion, numbers, rows


def texts(fleet: Fleet, run: str) -> dict[int, str]:
    """Return by number of the request what a run's rows want."""
    found = rows(fleet, "train", run) + rows(fleet, "held_out_new", run) + rows(fleet, "held_out_old", run)
    return {int(row["request_id"][4:], 16): row["messages"][-1]["content"] for row in found}


def test_a_correction_that_nobody_has_used_becomes_the_last_one(fleet: Fleet) -> None:
    """The row stays the same row; one that a person has decided on stays as that person left it."""
    fleet.shown(range(20))
    fleet.curate(min_new_examples=100)
    waiting = fleet.curate("loop-2", review=True)
    assert waiting["outcome"] == "waiting_review"
    ids = {row.request_id: row.id for row in fleet.store.curation.queue(ROUTE, limit=1000)}
    fleet.store.curation.decide([ids["req-00000003"]], Verdict("approve", {}), actor="ann")
    for number in (2, 3):
        fleet.rate(number, f"better {number}", key_id="others")
    fleet.curate("loop-3")
    found = texts(fleet, "loop-3")
    assert (found[2], found[3]) == ("better 2", "wanted 3")
    known = fleet.store.curation.get(ids["req-00000002"])
    assert known is not None
    assert (known.answer, known.key_id) == ("better 2", "others")


def test_a_trusted_key_corrects_what_a_version_has_learned(fleet: Fleet) -> None:
    """Its demonstration is a row of its own: it is learned, and the one before it is not replayed."""
    fleet.shown(range(30))
    fleet.curate()
    before = texts(fleet, "loop-1")
    champion(fleet, "loop-1")
    for number in range(30):
        said = f"wanted {number}" if number % 2 else f"right {number}"
        fleet.rate(number, said, key_id="staff")
    fleet.shown(range(100, 110))
    fleet.curate("loop-2", trusted_keys=["staff"], replay_share=0.5)
    found = texts(fleet, "loop-2")
    assert [said for number, said in found.items() if number < 30 and number % 2 == 0]
    assert {number: said for number, said in found.items() if number < 30} == {
        number: f"wanted {number}" if number % 2 else f"right {number}" for number in found if number < 30
    }
    fresh = [row for row in rows(fleet, "train", "loop-2") if row["replayed"] == "false"]
    assert all(number % 2 == 0 or number >= 100 for number in numbers(fresh))
    assert set(before) >= {number for number in found if number < 30}
