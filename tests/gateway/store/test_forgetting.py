"""Who is forgotten: what goes, what stays, and what can't come back."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.api.feedback import _add
from gateway.core.requests import RequestRow
from gateway.core.routes import RouteSpec
from gateway.errors import NotFound
from gateway.peppers import Peppers
from gateway.routing.experiments import Lottery
from gateway.store import forgetting, run_files, schema
from gateway.store.control import ControlStore
from gateway.store.database import StoreUnavailable
from gateway.store.feedback import FeedbackRow
from gateway.store.forgetting import Forgetting
from gateway.store.golden import GoldenRow
from gateway.store.requests import Requests
from gateway.store.shadows import Pair
from gateway.store.tombstones import Buried, Guard, Tombstone, made, unit_hash, unit_of
from tests.gateway.store.test_curation import row

PEPPER = b"p" * 32
ANN, BOB = unit_of("r", "ann"), unit_of("r", "bob")


def request(request_id: str, unit: str | None, *, at: float = 10.0, internal: bool = False) -> RequestRow:
    """One recorded request of the route `r`."""
    return RequestRow(
        id=request_id, at=at, endpoint="chat/completions", key_id="k", route="r", adapter="a@1", unit=unit,
        status=200, prompt="p", answer="a", internal=internal,
    )  # fmt: skip


def rating(request_id: str, unit: str | None, **changes: Any) -> FeedbackRow:
    """One rating of a request."""
    plain: dict[str, Any] = {"unit": unit, "exposed_at": 10.0, "at": 11.0}
    return FeedbackRow(request_id, "r", "a@1", None, "thumbs", True, None, "k", **{**plain, **changes})


def pair(request_id: str, shadow_id: str) -> Pair:
    """Two answers to one request."""
    return Pair(
        id=request_id, shadow_id=shadow_id, at=10.0, endpoint="chat/completions", route="r", adapter="a@1",
        shadow="a@2", prompt="p", answer="a", shadow_answer="b", shadow_status=200, shadow_error=None,
        finish_reason="stop", shadow_finish_reason="stop", completion_tokens=1, shadow_completion_tokens=1,
        latency_ms=1.0, shadow_latency_ms=1.0,
    )  # fmt: skip


@pytest.fixture
def filled(control: ControlStore, requests: Requests) -> ControlStore:
    """Stores with rows of everything about ann and bob, some of which a version was trained on."""
    control.routes.put("r", RouteSpec.model_validate({"arms": [{"adapter": "base", "share": 1}]}), actor="t")
    for name, unit in (("ann", ANN), ("bob", BOB)):
        requests.write([request(f"req-{name}-{number}", unit) for number in range(3)])
        requests.write([request(f"req-{name}-s", None, internal=True)])
        requests.pairs.add(pair(f"req-{name}-0", f"req-{name}-s"))
        requests.embeddings.add({f"req-{name}-0": b"\0\0"}, model="m")
        control.feedback.add(rating(f"req-{name}-0", unit), rating(f"req-{name}-s", None, internal=True))
        control.feedback.add(rating(f"req-{name}-gone", unit))
        mine = row(
            1 if name == "ann" else 2, id=f"row-{name}", request_id=f"req-{name}-0", unit=unit, at=10.0
        )
        control.curation.propose([mine])
        golden = GoldenRow(f"gold-{name}", "r", 1, [], "x", {}, request_id=f"req-{name}-0", unit=unit)
        control.golden.add([golden], route="r", number=1, actor="t")
        control.curation.use(f"loop-{name}", {f"row-{name}": "train"})
    control.versions.add("a", "d1", {"lineage": {"loop_run": "loop-ann"}}, actor="t")
    control.versions.add("a", "d2", {"lineage": {"loop_run": "loop-bob"}}, actor="t")
    control.versions.add("a", "d3", {"lineage": {"data_source": "turnout:r"}}, actor="t")
    return control


def about_ann(unit: str | None, at: float) -> bool:
    """What is to go."""
    return unit == ANN and at <= 100.0


def counts(control: ControlStore, requests: Requests) -> dict[str, int]:
    """How many rows each table has that says whom it is about."""
    found = {}
    for database, tables in (
        (control.database, ("feedback", "curated_rows", "curated_uses", "golden_rows")),
        (requests.database, ("requests", "shadow_pairs", "embeddings")),
    ):
        with database.read() as connection:
            for name in tables:
                table = {**schema.control.tables, **schema.requests.tables}[name]
                query = select(func.count()).select_from(table)
                found[name] = int(connection.execute(query).scalar_one())
    return found


def work(control: ControlStore, requests: Requests, **more: Any) -> Tombstone:
    """Forget ann."""
    begun = control.tombstones.begin(made(PEPPER, "ann", until=100.0), [unit_hash(PEPPER, ANN)])
    gone = Forgetting(control.database, requests.database, scrub=lambda _: 0)
    return gone.work(begun, about_ann, **more)


def test_a_pseudonym_is_the_one_that_is_recorded() -> None:
    """Whatever route and subject: a removal finds what the hot path wrote."""
    for route in ("r", "a" * 64):
        for subject in ("ann", "Jürgen", "x" * 300):
            assert unit_of(route, subject) == Lottery(route, "salt", ()).unit(subject)


def test_everything_of_one_subject_goes_and_nothing_else(filled: ControlStore, requests: Requests) -> None:
    """Also what hangs on their requests without naming them: pairs, embeddings, ratings of shadows."""
    before = counts(filled, requests)
    done = work(filled, requests)
    after = counts(filled, requests)
    assert after == {name: count // 2 for name, count in before.items()}
    assert requests.many(["req-ann-0", "req-ann-s"]) == {}
    assert set(requests.many(["req-bob-0", "req-bob-s"])) == {"req-bob-0", "req-bob-s"}
    assert (done.state, done.runs, list(done.routes)) == ("done", ["loop-ann"], ["r"])
    assert done.versions == {"trained": ["a@1"], "possibly": ["a@3"]}
    assert done.counts == {
        "requests": 4, "feedback": 3, "shadow_pairs": 1, "embeddings": 1, "curated_rows": 1, "golden_rows": 1,
    }  # fmt: skip


def test_the_worse_answer_of_a_pair_goes_though_its_request_is_pruned(
    filled: ControlStore, requests: Requests
) -> None:
    """A pair is about the subjects of both answers, and tells whose the worse one is itself."""
    filled.feedback.add(rating("req-ann-pruned", ANN))
    about: dict[str, Any] = {"request_id": "req-bob-0", "unit": BOB, "at": 10.0, "kind": "compared"}
    pairs = [
        row(number, **about, other_id="req-ann-pruned", other_unit=unit)
        for number, unit in ((3, ANN), (4, BOB))
    ]
    assert filled.curation.propose(pairs) == 2
    filled.curation.use("loop-pair", {"row-3": "train"})
    done = work(filled, requests)
    assert set(filled.curation.many(["row-3", "row-4"])) == {"row-4"}
    assert done.runs == ["loop-ann", "loop-pair"]


def test_every_table_is_known_to_hold_people_or_not() -> None:
    """A table that is new has to be decided on: it is removed from, or holds nobody's data."""
    holds_people = {
        "feedback", "curated_rows", "curated_uses", "golden_rows", "requests", "shadow_pairs", "embeddings",
    }  # fmt: skip
    named = {
        name
        for tables in (schema.control.tables, schema.requests.tables)
        for name, table in tables.items()
        if {"unit", "request_id", "prompt", "messages", "subject"} & set(table.c.keys()) - {"row_id"}
    }
    assert named - {"events"} <= holds_people  # an event's subject is a route, a version or a key


@pytest.mark.slow
def test_looking_changes_nothing(filled: ControlStore, requests: Requests) -> None:
    """And names the versions all the same."""
    before = counts(filled, requests)
    found = Forgetting(filled.database, requests.database, scrub=lambda _: 1 / 0).look(about_ann)  # type: ignore[arg-type,return-value]  # it is not called
    assert counts(filled, requests) == before
    assert found.versions == {"trained": ["a@1"], "possibly": ["a@3"]}
    assert found.counts["requests"] == 3


@pytest.mark.slow
def test_what_came_later_stays(filled: ControlStore, requests: Requests) -> None:
    """Somebody who was forgotten and comes again is recorded again."""
    requests.write([request("req-ann-later", ANN, at=200.0)])
    work(filled, requests)
    assert set(requests.many(["req-ann-0", "req-ann-later"])) == {"req-ann-later"}


@pytest.mark.slow
def test_bounded_work_goes_on_where_it_stopped(
    filled: ControlStore, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call removes a page; what was found before is not lost."""
    monkeypatch.setattr(forgetting, "PAGE", 2)
    states = [work(filled, requests, budget_s=0.0).state]
    while states[-1] != "done":
        states.append(work(filled, requests, budget_s=0.0).state)
    assert len(states) > 3
    found = filled.tombstones.page()[0]
    assert found.versions == {"trained": ["a@1"], "possibly": ["a@3"]}
    assert found.counts["requests"] == 4


@pytest.mark.slow
def test_killed_between_two_lines_it_is_done_again(
    filled: ControlStore, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever transaction is the last one, the next removal leaves nothing and misses no version."""
    real: dict[str, Callable[..., Any]] = {
        name: getattr(type(database), name)
        for name, database in (("write", filled.database), ("read", requests.database))
    }
    left = [0]

    def failing(name: str) -> Callable[..., Any]:
        def one(self: Any) -> Any:
            if left[0] == 0:
                raise StoreUnavailable("killed here")
            left[0] -= 1
            return real[name](self)

        return one

    begun = filled.tombstones.begin(made(PEPPER, "ann", until=100.0), [unit_hash(PEPPER, ANN)])
    gone = Forgetting(filled.database, requests.database, scrub=lambda _: 0)
    for allowed in range(40):
        left[0] = allowed
        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(type(filled.database), name, failing(name))
            try:
                done = gone.work(begun, about_ann)
                break
            except StoreUnavailable:
                pass
        known = filled.tombstones.get(begun.id)
        assert known is not None
        begun = known
    assert done.versions == {"trained": ["a@1"], "possibly": ["a@3"]}
    assert requests.many(["req-ann-0", "req-ann-1", "req-ann-2", "req-ann-s"]) == {}


def test_a_tombstone_names_nobody(filled: ControlStore, requests: Requests) -> None:
    """Neither the subject nor the pseudonym is in it, and another pepper hashes them otherwise."""
    work(filled, requests)
    with filled.database.read() as connection:
        stored = [
            str(connection.execute(select(table)).all())
            for table in (schema.forgotten, schema.forgotten_units)
        ]
    assert "ann" not in "".join(stored).replace("loop-ann", "")
    assert ANN not in "".join(stored)
    assert unit_hash(PEPPER, ANN) in stored[1]
    assert unit_hash(b"q" * 32, ANN) != unit_hash(PEPPER, ANN)
    again = filled.tombstones.begin(made(PEPPER, "ann", until=300.0), [unit_hash(PEPPER, ANN)])
    assert (again.state, again.until) == ("running", 300.0)
    assert again.versions["trained"] == ["a@1"]


def test_who_writes_late_is_refused(filled: ControlStore, requests: Requests) -> None:
    """Before a row is written, and after it: who was forgotten in between is taken out again."""
    guard = Guard(filled.tombstones, Peppers(PEPPER))
    late, new = request("req-late", ANN, at=50.0), request("req-new", ANN, at=150.0)
    assert not guard.holds(late)
    guard.remember([("req-late", ANN, 50.0), ("req-new", ANN, 150.0), ("req-bob", BOB, 50.0)])
    assert guard.gone() == []
    work(filled, requests)
    assert guard.gone() == ["req-late"]
    guard.settled()
    assert guard.gone() == []
    refused = guard.refused([late, new, request("req-x", BOB), request("req-y", None)])
    assert [refused(each) for each in (late, new, request("req-x", BOB), request("req-y", None))] == [
        True, False, False, False,
    ]  # fmt: skip


def test_feedback_on_who_is_forgotten_finds_no_request(filled: ControlStore, requests: Requests) -> None:
    """Also when the request was found a moment before."""
    deps: Any = SimpleNamespace(forgotten=Guard(filled.tombstones, Peppers(PEPPER)), feedback=filled.feedback)
    ann, bob = request("req-ann-0", ANN), request("req-bob-0", BOB)
    work(filled, requests)
    before = counts(filled, requests)["feedback"]
    with pytest.raises(NotFound, match="no request"):
        _add(deps, ann, [rating("req-ann-0", ANN)])
    assert counts(filled, requests)["feedback"] == before
    _add(deps, bob, [rating("req-bob-0", BOB)])
    assert counts(filled, requests)["feedback"] == before + 1


def test_copies_that_come_back_are_swept(filled: ControlStore, requests: Requests) -> None:
    """A restored copy holds who was forgotten; the tombstones find them without knowing who it is."""
    work(filled, requests)
    requests.write([request("req-ann-copy", ANN), request("req-ann-new", ANN, at=200.0)])
    buried = Buried(Peppers(PEPPER), filled.tombstones.units(since=0.0))
    sweep = filled.tombstones.begin(Tombstone("sweep", "", 0.0), ())
    Forgetting(filled.database, requests.database, scrub=lambda _: 0).work(sweep, buried.holds)
    assert set(requests.many(["req-ann-copy", "req-ann-new", "req-bob-0"])) == {"req-ann-new", "req-bob-0"}
    former = Buried(Peppers(b"q" * 32, (PEPPER,)), filled.tombstones.units(since=0.0))
    assert former.holds(ANN, 50.0)
    assert not Buried(Peppers(b"q" * 32), filled.tombstones.units(since=0.0))


def test_files_of_runs_lose_the_lines_of_who_is_forgotten(tmp_path: Path) -> None:
    """Wherever a row names its subject; other lines, other files and what is no JSON stay as they are."""
    run = tmp_path / "loop" / "loop-1"
    run.mkdir(parents=True)
    lines = [
        '{"subject": "a", "x": 1}', '{"subject": "b"}', '{"columns": {"unit": "a"}, "x": 2}',
        '{"unit": "a", cut',
        '{"messages": [{"content": "\\"unit\\": \\"a\\""}]}',
        '{"subject": "b", "other_subject": "a"}', '{"columns": {"unit": "b", "other_unit": "a"}}',
        '{"subject": "b", "other_subject": "c"}',
    ]  # fmt: skip
    (run / "train.jsonl").write_text("\n".join(lines) + "\n")
    (run / "golden.jsonl").write_text('{"subject": "b"}\n')
    (run / "curate.json").write_text('{"subject": "a"}')
    before = (run / "golden.jsonl").stat().st_ino
    assert run_files.scrub(tmp_path, lambda unit: unit == "a") == 4
    assert (run / "train.jsonl").read_text().splitlines() == [lines[1], lines[3], lines[4], lines[7]]
    assert (run / "golden.jsonl").stat().st_ino == before
    assert run_files.scrub(tmp_path, lambda unit: unit == "a") == 0
    assert sorted(path.name for path in run.iterdir()) == ["curate.json", "golden.jsonl", "train.jsonl"]


def test_what_runs_have_read_for_their_rows_goes_whole(tmp_path: Path) -> None:
    """Whomever it is about, and whatever a crash has left of it; the plan beside it stays."""
    work = tmp_path / "loop" / "loop-1" / ".curation"
    work.mkdir(parents=True)
    (tmp_path / "loop" / "loop-2").mkdir()
    (tmp_path / "loop" / "notes").write_text("no run")
    for name in ("plan.json", "lock", "work.db", "work.db-wal", "work.db-shm"):
        (work / name).write_text("{}")
    assert run_files.scrub(tmp_path, lambda _: False) == 0
    (work / "work.db-wal").write_text("left")
    run_files.scrub(tmp_path, lambda _: False)
    assert sorted(path.name for path in work.iterdir()) == ["lock", "plan.json"]
