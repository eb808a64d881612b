"""Curated rows and golden sets in the store."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete

from gateway.core.curation import CuratedRow, Verdict, golden_id, row_id
from gateway.store import loop_figures, schema
from gateway.store.control import ControlStore
from gateway.store.curation import RowsGone
from gateway.store.feedback import FeedbackRow
from gateway.store.golden import GoldenRow

MESSAGES = [{"role": "user", "content": "hi"}]


def row(number: int, **changes: Any) -> CuratedRow:
    """One proposed row."""
    plain: dict[str, Any] = {
        "id": f"row-{number}", "route": "r", "request_id": f"req-{number}", "other_id": None,
        "unit": f"u{number}", "key_id": "k", "adapter": "a@1", "kind": "demonstration", "split": "train",
        "trusted": False, "state": "proposed", "at": 1.0, "proposed_at": 2.0, "proposed_by": "loop-1",
        "messages": MESSAGES, "answer": "ho", "novelty": number / 10,
    }  # fmt: skip
    return CuratedRow(**{**plain, **changes})


def rated(control: ControlStore, *numbers: int) -> None:
    """Store a rating of each request."""
    for number in numbers:
        control.feedback.add(FeedbackRow(f"req-{number}", "r", "a@1", None, "thumbs", True, None, "k"))


def test_rows_are_proposed_once_and_only_with_their_feedback(control: ControlStore) -> None:
    """What was forgotten meanwhile is not proposed, and what is known stays as it was decided."""
    rated(control, 1, 2, 3)
    assert control.curation.propose([row(1), row(2), row(4), row(3, other_id="req-9")]) == 2
    control.curation.decide(["row-1"], Verdict("approve", {}), actor="ann")
    assert control.curation.propose([row(1), row(2)]) == 0
    assert control.curation.counts() == {"r": {"train": {"approved": 1, "proposed": 1}}}
    assert [each.id for each in control.curation.page("r", states=("approved",))] == ["row-1"]


def test_the_queue_has_the_most_novel_first(control: ControlStore) -> None:
    """What is not known to be novel comes last; other states are not in it."""
    rated(control, 1, 2, 3)
    control.curation.propose([row(1), row(2, novelty=None), row(3)])
    assert [each.id for each in control.curation.queue("r")] == ["row-3", "row-1", "row-2"]
    assert [each.id for each in control.curation.queue("r", limit=1, offset=1)] == ["row-1"]
    assert control.curation.queue("other") == []


def test_what_waits_for_a_person_is_counted_by_route(control: ControlStore) -> None:
    """For the status, and for the metrics, where a queue that was emptied is shown as empty."""
    rated(control, 1, 2)
    control.curation.propose([row(1), row(2)])
    assert control.curation.to_review() == {"r": 2}
    control.curation.decide(["row-1", "row-2"], Verdict("reject", {}), actor="ann")
    assert control.curation.to_review() == {}
    assert loop_figures.read(control.loops, control.database).to_review == (("r", 0),)


def test_a_decision_is_audited_without_the_text(control: ControlStore) -> None:
    """Events stay for ever, and the texts of people may have to go."""
    rated(control, 1, 2)
    control.curation.propose([row(1), row(2)])
    verdict = Verdict("edit", {"correct": True, "style": False}, why="typo", answer="secret text")
    (found,) = control.curation.decide(["row-1"], verdict, actor="ann")
    assert (found.state, found.answer, found.decided_by) == ("edited", "secret text", "ann")
    assert found.rubric == {"correct": True, "style": False}
    event = control.events.rows(action="curation.edit")[0]
    assert (event.subject, event.actor, event.before["row-1"]["state"]) == ("r", "ann", "proposed")
    assert "secret" not in str(event)
    with pytest.raises(RowsGone, match="row-9"):
        control.curation.decide(["row-2", "row-9"], Verdict("approve", {}), actor="ann")
    assert control.curation.get("row-2") == row(2)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"decision": "approve", "rubric": {"correct": False}}, "not correct"),
        ({"decision": "edit", "rubric": {"safe": False}, "answer": "x"}, "not safe"),
        ({"decision": "approve", "rubric": {"nice": True}}, "no 'nice'"),
        ({"decision": "edit", "rubric": {}}, "its new answer"),
        ({"decision": "reject", "rubric": {}, "answer": "x"}, "only an edit"),
        ({"decision": "edit", "rubric": {}, "answer": " "}, "empty"),
    ],
)
def test_decisions_that_contradict_themselves_are_refused(values: dict[str, Any], said: str) -> None:
    """What fails the rubric's musts can't count; to reject it needs no rubric."""
    with pytest.raises(ValueError, match=said):
        Verdict(**values)
    Verdict("reject", {"correct": False})


def test_a_run_uses_only_what_is_there(control: ControlStore) -> None:
    """What is gone or rejected is refused as a whole, and a run that chooses anew leaves nothing behind."""
    rated(control, 1, 2, 3)
    control.curation.propose([row(1), row(2), row(3)])
    control.curation.use("loop-1", {"row-1": "train", "row-2": "held_out_new"})
    control.curation.decide(["row-3"], Verdict("reject", {}), actor="ann")
    for uses in ({"row-1": "train", "row-9": "train"}, {"row-3": "train"}):
        with pytest.raises(RowsGone):
            control.curation.use("loop-1", uses)  # type: ignore[arg-type]  # its values are parts
    assert control.curation.uses("loop-1") == [("row-1", "train"), ("row-2", "held_out_new")]
    control.curation.use("loop-1", {"row-2": "train"})
    assert control.curation.uses("loop-1", part="train") == [("row-2", "train")]
    assert control.curation.used("loop-1", ["row-1", "row-2"]) == {"row-2"}


def test_rows_that_nobody_wants_any_more_are_withdrawn(control: ControlStore) -> None:
    """What was decided on, is used, or is to be kept stays."""
    rated(control, *range(1, 6))
    control.curation.propose([row(number) for number in range(1, 6)])
    control.curation.decide(["row-1"], Verdict("approve", {}), actor="ann")
    control.curation.use("loop-1", {"row-2": "train"})
    assert control.curation.withdraw("r", keep={"row-3"}) == 2
    assert [each.id for each in control.curation.page("r")] == ["row-1", "row-2", "row-3"]


def test_what_was_used_without_a_review_waits_for_nobody(control: ControlStore) -> None:
    """Until another run proposes it; one that does not want it leaves it alone."""
    rated(control, 1, 2)
    control.curation.propose([row(1), row(2)])
    control.curation.use("loop-1", {"row-1": "train", "row-2": "train"})
    assert control.curation.counts("r")["r"] == {"train": {"unreviewed": 2}}
    assert control.curation.propose([row(1)]) == 0
    assert [each.id for each in control.curation.queue("r")] == ["row-1"]
    assert control.curation.withdraw("r", keep=set()) == 0
    assert control.curation.queue("r") == []
    assert len(control.curation.uses("loop-1")) == 2


def test_ids_follow_from_what_a_row_is_of() -> None:
    """The same request gives the same row in every run; another kind, route or set gives another."""
    found = {row_id("r", "liked", "a"), row_id("r", "disliked", "a"), row_id("s", "liked", "a")}
    assert len(found) == 3
    assert row_id("r", "liked", "a") in found
    assert golden_id("r", 1, MESSAGES, "x") != golden_id("r", 2, MESSAGES, "x")


def golden(number: int, of: int = 1) -> GoldenRow:
    """One golden row."""
    return GoldenRow(f"gold-{number}", "r", of, MESSAGES, f"answer {number}", {"area": "x"})


def test_a_golden_set_is_used_counted_and_rotated(control: ControlStore) -> None:
    """Each run counts once; a retired set keeps its rows and takes none."""
    assert control.golden.current("r") is None
    assert control.golden.add([golden(1), golden(2)], route="r", number=1, actor="ann") == 2
    assert control.golden.add([golden(2), golden(3)], route="r", number=1, actor="ann") == 1
    assert [control.golden.use("r", 1, run=run) for run in ("a", "b", "a")] == [1, 2, 2]
    assert control.golden.rotate("r", actor="ann", why="worn") == 2
    current = control.golden.current("r")
    assert current is not None
    assert (current.number, current.rows, current.uses) == (2, 0, 0)
    with pytest.raises(ValueError, match="retired"):
        control.golden.add([golden(4)], route="r", number=1, actor="ann")
    assert [each.id for each in control.golden.rows("r")] == ["gold-1", "gold-2", "gold-3"]
    assert control.golden.rows("r", 2) == []
    actions = [event.action for event in control.events.rows("r")]
    assert actions == ["golden.rotate", "golden.add", "golden.add"]


def test_lineage_goes_from_a_version_to_requests_and_back(control: ControlStore) -> None:
    """Versions are found by the run that their manifest names; rows that are gone are not shown."""
    rated(control, 1, 2)
    control.curation.propose([row(1), row(2, split="held_out")])
    control.curation.use("loop-1", {"row-1": "train", "row-2": "held_out_new"})
    lineage = {"loop_run": "loop-1", "drift_id": 7, "data_source": "the loop", "curated_fingerprint": "f"}
    ref = control.versions.add("a", "d1", {"lineage": lineage}, actor="me")[0].ref
    control.versions.add("a", "d2", {"lineage": None}, actor="me")
    control.versions.add("a", "d3", {"lineage": {"data_source": "turnout:r"}}, actor="me")
    facts = control.lineages.facts(ref)
    assert facts is not None
    assert (facts["loop_run"], facts["drift_id"], facts["curated_fingerprint"]) == ("loop-1", 7, "f")
    assert control.lineages.facts(replace(ref, version=2)) is None
    assert control.lineages.parts("loop-1") == {"train": 1, "held_out_new": 1}
    assert [each.request_id for each in control.lineages.rows("loop-1")] == ["req-1", "req-2"]
    assert control.lineages.versions_of("loop-1") == ["a@1"]
    (use,) = control.lineages.of_request("req-1")
    assert (use.runs, use.versions) == ({"loop-1": "train"}, {"loop-1": ["a@1"]})
    assert control.lineages.possible("r", 0.0) == ["a@3"]
    assert control.lineages.possible("r", 4e9) == []
    with control.database.write() as connection:
        connection.execute(delete(schema.curated_rows))
    assert control.lineages.rows("loop-1") == []


def test_about_how_much_could_be_learned(control: ControlStore) -> None:
    """Requests that were rated since a time, each once, without internal ones and those that are held out."""
    for number in range(20):
        times = {"at": 100.0 + number, "exposed_at": float(number)}
        more = {"internal": number >= 15}
        for metric in ("thumbs", "stars"):
            control.feedback.add(
                FeedbackRow(f"req-{number}", "r", "a@1", None, metric, True, None, "k", **times, **more)
            )
    assert control.curation.learnable("r", since=0.0, most=100) == 12
    assert control.curation.learnable("r", since=5.0, most=100) == 8
    assert control.curation.learnable("r", since=0.0, most=7) == 7
    assert control.curation.learnable("other", since=0.0, most=7) == 0
