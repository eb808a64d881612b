"""`turnout status`."""

import json
import re

from gateway.store.feedback import FeedbackRow
from gateway.store.fleet import CONTROLLER
from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run, documents
from tests.gateway.loops import made as loops_made
from tests.gateway.store.test_curation import row as curated


def test_status_when_all_is_well(run: Run, two: AdminService) -> None:
    """One screen that ends with "All is well." and exit code 0."""
    two.controller()
    for row in two.control.versions.rows():
        two.register(row.ref)
    two.activate("support")
    two.beat()
    result = run("status")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Turnout ")
    assert result.stdout.endswith("\nAll is well.\n")
    assert re.search(r"r0\s+healthy\s+\d+ d\s+support@1, support@2", result.stdout)
    assert re.search(r"support\s+active\s+support@1 1", result.stdout)
    assert documents(run("status --json"))["problems"] == []


def test_status_says_what_is_wrong(run: Run, two: AdminService) -> None:
    """Each problem with what to do, and exit code 1."""
    two.controller()
    two.control.fleet.release(CONTROLLER, "controller-1")
    two.ready = False
    two.fail("support", "too big")
    result = run("status")
    assert result.exit_code == 1
    for said in ("NOT ready", "controller-1 (epoch 1), NOT at work", "3 problems:", "failed: too big"):
        assert said in result.stdout, said
    assert "`turnout routes rollback support`" in result.stdout
    assert run("status --json").exit_code == 1


def test_status_of_nothing(run: Run) -> None:
    """An empty gateway has empty sections and problems, not a crash."""
    result = run("status")
    assert (result.exit_code, "Replicas  none" in result.stdout) == (1, True)


def test_status_lists_what_waits_for_a_person(run: Run, two: AdminService) -> None:
    """An approval and a review, the longest first, with what to call; neither is a problem by itself."""
    for name, state, since in (("support", "waiting_review", 200.0), ("letters", "waiting_approval", 100.0)):
        two.control.loops.begin(loops_made.run(state, id=f"loop-{name}", route=name, since=since))
    two.control.feedback.add(FeedbackRow("req-1", "support", "support@1", None, "thumbs", True, None, "k"))
    two.control.curation.propose([curated(1, route="support")])
    found = json.loads(run("status --json").stdout)
    assert [(row["route"], row["asks"], row["rows"]) for row in found["waiting"]] == [
        ("letters", "start", None),
        ("support", "review", 1),
    ]
    shown = run("status").stdout
    assert "`turnout loop approve loop-letters`" in shown
    assert "review of 1 rows" in shown
    assert "loop-letters" not in str(found["problems"])


def test_one_screen_holds_many(run: Run, two: AdminService) -> None:
    """Of long lists what is not well comes first and the rest is counted, unless all is asked for."""
    two.controller()
    for row in two.control.versions.rows():
        two.register(row.ref)
    two.activate("support")
    for number in range(20):
        two.beat(f"w{number}")
    result = run("status")
    assert "… and 6 more (--all)" in result.stdout or "… and 5 more (--all)" in result.stdout
    assert "(--all)" not in run("status --all").stdout


def test_status_of_a_gateway_that_is_gone(run: Run) -> None:
    """A program gets a document in every case, and what to do is in it."""
    result = run("status --json --url http://127.0.0.1:9")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["ready"] is False
    assert "nothing answers" in document["problems"][0]["what"]
    assert "turnout serve" in document["problems"][0]["todo"]
