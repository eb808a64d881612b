"""`turnout loop review`, `turnout data golden` and `forget`, and lineage."""

import json
from pathlib import Path

import pytest

from gateway.store.feedback import FeedbackRow
from gateway.store.tombstones import unit_of
from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run, documents
from tests.gateway.store.test_curation import row
from tests.gateway.store.test_forgetting import request

pytestmark = pytest.mark.slow


@pytest.fixture
def queue(admin: AdminService) -> AdminService:
    """The admin API with a route `support` and four rows that wait for a person."""
    admin.adapter()
    for number in range(1, 5):
        unit = unit_of("support", f"s{number}")
        admin.requests.write([request(f"req-{number}", unit)])
        admin.control.feedback.add(
            FeedbackRow(f"req-{number}", "support", "a@1", None, "thumbs", True, None, "k")
        )
        split = "held_out" if number == 4 else "train"
        admin.control.curation.propose([row(number, route="support", unit=unit, split=split)])
    return admin


def states(admin: AdminService) -> dict[str, str]:
    """The state of each row."""
    return {each.id: each.state for each in admin.control.curation.page("support")}


def test_rows_are_reviewed_without_a_terminal(run: Run, queue: AdminService) -> None:
    """Listed, approved, rejected and edited by their ids, or the whole queue at once."""
    assert "row-4" in run("loop review").stdout
    assert documents(run("loop review support --json"))["data"][0]["id"] == "row-4"
    assert (
        run("loop review --approve row-1 --rubric correct=yes --rubric style=no").stdout
        == "1 rows: approve\n"
    )
    assert run("loop review --edit row-2 --answer better").exit_code == 0
    assert run("loop review --edit row-2 --answer -", stdin="from a pipe").exit_code == 0
    assert run("loop review support --reject all --why old").stdout == "2 rows: reject\n"
    assert states(queue) == {"row-1": "approved", "row-2": "edited", "row-3": "rejected", "row-4": "rejected"}
    found = queue.control.curation.get("row-2")
    assert found is not None
    assert found.answer == "from a pipe"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("loop review --approve row-9", 1, "no curated row"),
        ("loop review --approve row-1 --rubric safe=no", 1, "not safe"),
        ("loop review --approve row-1 --reject row-2", 2, "one thing at a time"),
        ("loop review --edit row-1", 2, "go together"),
        ("loop review --reject all", 2, "needs a ROUTE"),
        ("loop review --approve row-1 --rubric nice", 2, "correct=yes"),
        ("data forget", 2, "name one subject"),
        ("data forget --subject x --json", 1, "--yes or --dry-run"),
        ("data golden add support", 2, "name a file"),
        ("data golden add support missing.jsonl", 1, "can't be read"),
        ("adapters trained-on req-none", 1, "there is no request"),
    ],
)
def test_mistakes_are_named(run: Run, queue: AdminService, line: str, code: int, said: str) -> None:
    """And nothing is changed by them."""
    result = run(line)
    assert (result.exit_code, said in " ".join(result.output.split())) == (code, True), result.output
    assert set(states(queue).values()) == {"proposed"}


def test_rows_are_reviewed_at_a_terminal(
    run: Run, queue: AdminService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row after row: approve with the rubric, edit, reject, skip; what a text holds moves no cursor."""
    monkeypatch.setattr("gateway.cli.loop_review._interactive", lambda: True)
    keys = ["a", "y", "y", "n", "y", "e", "better", "y", "y", "y", "y", "r", "s"]
    result = run("loop review support", stdin="\n".join(keys) + "\n")
    assert result.exit_code == 0, result.output
    assert "Nothing more waits" in result.output
    assert states(queue) == {"row-1": "proposed", "row-2": "rejected", "row-3": "edited", "row-4": "approved"}
    found = queue.control.curation.get("row-4")
    assert found is not None
    assert found.rubric == {"correct": True, "complete": True, "style": False, "safe": True}


@pytest.mark.usefixtures("queue")
def test_golden_sets_from_a_file_and_from_reviewed_rows(run: Run, tmp_path: Path) -> None:
    """Chats or prompts with completions; further fields tell results apart."""
    lines = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "area": "x"},
        {"prompt": "p", "completion": "c"},
    ]
    file = tmp_path / "gold.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert (
        run(f"data golden add support {file}").stdout
        == "2 rows added to set 1 of support, 0 were there already\n"
    )
    assert run("loop review --approve row-4").exit_code == 0
    assert documents(run(f"data golden add support {file} --row row-4 --json"))["known"] == 2
    rows = documents(run("data golden show support --json"))["data"]
    assert {"area": "x"} in [each["slices"] for each in rows]
    assert "support" in run("data golden list").stdout
    assert run("data golden rotate support --why worn").stdout.startswith("set 2 of support")
    assert len(documents(run("data golden list support --json"))["data"]) == 2
    assert "ANSWER" in run("data golden show support --set 1").stdout
    long = [json.dumps({"prompt": f"p{number}", "completion": "x" * 30_000}) for number in range(40)]
    file.write_text("\n".join(long))
    assert documents(run(f"data golden add support {file} --json"))["added"] == 40  # more than one body holds
    file.write_text('{"prompt": "p"}\n')
    assert "gold.jsonl:1" in run(f"data golden add support {file}").output


def test_a_subject_is_forgotten_after_a_question(run: Run, queue: AdminService) -> None:
    """What would go is shown first; without a yes nothing does, and --yes does not ask."""
    assert "would remove" in run("data forget --subject s1 --dry-run").stdout
    assert run("data forget --subject s1", stdin="n\n").exit_code == 1
    assert queue.requests.find("req-1") is not None
    assert run("data forget --subject s1 --yes --why asked").exit_code == 0
    assert queue.requests.find("req-1") is None
    found = documents(run("data forget --subject s2 --yes --json"))
    assert (found["complete"], found["counts"]["requests"]) == (True, 1)
    assert run("data forget --subject s3", stdin="y\n").exit_code == 0
    assert documents(run("data forget --sweep --json"))["counts"] == {}


def test_lineage_on_the_command_line(run: Run, queue: AdminService) -> None:
    """A version without a run says so; a request names its versions."""
    queue.control.curation.use("loop-1", {"row-1": "train", "row-2": "train"})
    ref = queue.adapter(seed=1)
    with queue.control.database.write() as connection:
        from sqlalchemy import update

        from gateway.store.schema import versions

        manifest = {**queue.control.versions.get(ref).manifest, "lineage": {"loop_run": "loop-1"}}  # type: ignore[union-attr]  # it is there
        connection.execute(
            update(versions).where(versions.c.version == ref.version).values(manifest=manifest)
        )
    shown = run(f"adapters show {ref} --lineage --limit 1")
    assert ("loop-1" in shown.stdout, "req-1" in shown.stdout, "--limit 2" in shown.stderr) == (
        True,
        True,
        True,
    )
    assert len(documents(run(f"adapters show {ref} --lineage --json"))["data"]) == 2
    assert "no list of the requests" in run("adapters show support@1 --lineage").stderr
    assert str(ref) in run("adapters trained-on req-1").stdout
    assert documents(run("adapters trained-on req-1 --json"))["trained"] == [str(ref)]
