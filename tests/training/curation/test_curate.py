"""Curation whole: from recorded traffic to the files of a run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.core.curation import Verdict
from gateway.core.loop import LoopPolicy
from gateway.store.drift import DriftRow
from gateway.store.golden import GoldenRow
from gateway.store.shadows import Pair
from tests.training.curation.conftest import ROUTE, Fleet, champion, numbers, prompt, rows
from training.curation import curate as module
from training.curation import gather
from training.curation.curate import curate
from training.data import embedding
from training.data.reading import read_dataset

pytestmark = pytest.mark.slow


def files(fleet: Fleet, run: str = "loop-1") -> dict[str, bytes]:
    """Every file of a run."""
    folder = fleet.folder / "loop" / run
    return {path.name: path.read_bytes() for path in folder.glob("*.json*")}


def test_rows_are_trained_on_or_judged_by_and_never_both(fleet: Fleet) -> None:
    """The result names counts and a fingerprint, and the store which rows the run uses."""
    fleet.shown(range(40))
    found = fleet.curate()
    train, held_out = rows(fleet, "train"), rows(fleet, "held_out_new")
    assert (found["outcome"], found["method"], found["reason"]) == ("ready", "sft", None)
    assert found["rows"] == found["new_rows"] == len(train)
    assert found["held_out_new"] == len(held_out) > 0
    assert numbers(train) | numbers(held_out) == set(range(40))
    assert numbers(train) & numbers(held_out) == set()
    assert found["fingerprint"].startswith("sha256:")
    assert dict(fleet.store.curation.uses("loop-1")) == {
        **{row["row_id"]: "train" for row in train},
        **{row["row_id"]: "held_out_new" for row in held_out},
    }
    assert rows(fleet, "golden") == rows(fleet, "held_out_old") == []


def test_run_again_it_is_the_same(fleet: Fleet) -> None:
    """Also when traffic went on, and when its result was taken away, as before each start of a step."""
    fleet.shown(range(30))
    found = fleet.curate()
    before = files(fleet)
    fleet.shown(range(100, 130))
    assert fleet.curate() == found
    (fleet.folder / "loop" / "loop-1" / "curate.json").unlink()
    assert fleet.curate() == found
    assert files(fleet) == before


@pytest.mark.parametrize(
    "place", ["gather", "compare", "known", "novelty", "choose", "propose", "use", "files"]
)
def test_stopped_anywhere_it_goes_on_to_the_same_rows(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Each stage is ended in its middle once, and the run gives what an undisturbed one gives."""
    fleet.shown(range(30))
    wanted = fleet.curate("loop-0")["fingerprint"]
    monkeypatch.setattr(gather, "PAGE", 7)

    class Killed(Exception):
        pass

    def killing(real: Any, after: int) -> Any:
        left = [after]

        def one(*given: Any, **more: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*given, **more)

        return one

    targets: dict[str, tuple[Any, str, int]] = {
        "gather": (gather.Workbook, "add", 2),
        "compare": (gather.Workbook, "both_ways", 0),
        "known": (gather.Workbook, "mark", 0),
        "novelty": (gather.Workbook, "reached", 2),
        "choose": (gather.Workbook, "choose", 0),
        "propose": (type(fleet.store.curation), "propose", 0),
        "use": (type(fleet.store.curation), "use", 0),
        "files": (module, "replace_file", 3),
    }
    where, name, after = targets[place]
    with monkeypatch.context() as patch:
        patch.setattr(where, name, killing(getattr(where, name), after))
        with pytest.raises(Killed):
            fleet.curate()
    assert fleet.curate()["fingerprint"] == wanted


def test_internal_traffic_is_never_learned_from(fleet: Fleet) -> None:
    """A shadow's answer, an evaluation's and a load test's requests, and ratings of them."""
    fleet.shown(range(20))
    fleet.ask(50, internal=True, key_id="load-test")
    fleet.rate(50, "from a load test")
    fleet.ask(51, internal=True, key_id="evaluation", unit=None)
    fleet.rate(51, "from an evaluation", internal=True)
    fleet.ask(52, internal=True, prompt=None, answer=None)  # a shadow's row has no texts
    fleet.rate(52, value=True)
    fleet.ask(53)
    fleet.requests.pairs.add(
        Pair(
            id="req-00000035", shadow_id="req-00000034", at=1.0, endpoint="chat/completions", route=ROUTE,
            adapter="base", shadow="a@1", prompt=prompt(53), answer="x", shadow_answer="from a shadow",
            shadow_status=200, shadow_error=None, finish_reason="stop", shadow_finish_reason="stop",
            completion_tokens=1, shadow_completion_tokens=1, latency_ms=1.0, shadow_latency_ms=1.0,
        )
    )  # fmt: skip
    fleet.curate()
    said = b"".join(files(fleet).values())
    assert b"from a" not in said
    assert numbers([*rows(fleet, "train"), *rows(fleet, "held_out_new")]) == set(range(20))


def test_one_loud_subject_and_one_loud_key_are_capped(fleet: Fleet) -> None:
    """Caps hold for what is trained on and for what is judged by."""
    fleet.shown(range(10))
    fleet.shown(range(100, 130), unit="loud")
    for number in range(200, 230):
        fleet.ask(number)
        fleet.rate(number, f"wanted {number}", key_id="noisy")
    found = fleet.curate(cap_per_subject=3, cap_per_key=12)
    used = rows(fleet, "train") + rows(fleet, "held_out_new")
    assert sum(row.get("subject") == "loud" for row in used) == 3
    assert found["dropped"]["cap_per_subject"] == 27
    train = rows(fleet, "train")
    assert len([row for row in train if int(row["request_id"][4:], 16) >= 200]) <= 12


def test_personal_data_is_masked_before_it_is_stored(fleet: Fleet) -> None:
    """Neither the store nor a file has it as it was written, and nothing is left of what was on the way."""
    for number in range(12):
        fleet.ask(number, prompt=f"{prompt(number)} mail me at ann{number}@example.com")
        fleet.rate(number, f"wrote to bob{number}@example.com")
    fleet.curate()
    stored = fleet.store.curation.page(ROUTE)
    assert all("[E-MAIL]" in row.answer for row in stored)
    assert all("[E-MAIL]" in row.messages[0]["content"] for row in stored)
    folder = fleet.folder / "loop" / "loop-1"
    texts = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(b"@example.com" in text for text in texts)


def test_too_little_and_a_review_that_is_waited_for(fleet: Fleet) -> None:
    """Rows count once a person has let them; what was rejected is not used, and not proposed again."""
    fleet.shown(range(20))
    assert fleet.curate(min_new_examples=100)["outcome"] == "too_little_data"
    waiting = fleet.curate("loop-2", review=True)
    assert (waiting["outcome"], waiting["new_rows"]) == ("waiting_review", 0)
    assert waiting["waiting_review"] == len(fleet.store.curation.queue(ROUTE)) > 0
    queue = fleet.store.curation.queue(ROUTE, limit=1000)
    fleet.store.curation.decide([queue[0].id], Verdict("reject", {}), actor="ann")
    fleet.store.curation.decide(
        [queue[1].id], Verdict("edit", {"correct": True}, answer="mended"), actor="ann"
    )
    fleet.store.curation.decide([row.id for row in queue[2:]], Verdict("approve", {}), actor="ann")
    found = fleet.curate("loop-2", review=True)
    used = rows(fleet, "train", "loop-2") + rows(fleet, "held_out_new", "loop-2")
    assert found["outcome"] == "ready"
    assert queue[0].id not in {row["row_id"] for row in used}
    assert [row["messages"][-1]["content"] for row in used if row["row_id"] == queue[1].id] == ["mended"]
    assert found["trusted_held_out_new"] == found["held_out_new"]
    third = fleet.curate("loop-3")
    assert third["dropped"]["rejected_by_a_person"] == 1


def test_what_the_champion_has_learned_is_old(fleet: Fleet) -> None:
    """The next run replays its rows and judges by its held-out ones, and counts only what is new."""
    fleet.shown(range(30))
    first = fleet.curate()
    champion(fleet, "loop-1")
    fleet.shown(range(100, 130))
    second = fleet.curate("loop-2", replay_share=0.25)
    train = rows(fleet, "train", "loop-2")
    again = [row for row in train if row["replayed"] == "true"]
    assert second["dropped"]["learned_already"] == first["rows"] + first["held_out_new"]
    assert second["new_rows"] == len(train) - len(again)
    assert abs(len(again) / len(train) - 0.25) < 0.05
    assert numbers(again) <= numbers(rows(fleet, "train"))
    assert numbers(rows(fleet, "held_out_old", "loop-2")) == numbers(rows(fleet, "held_out_new"))
    assert any("replayed from the rows of run loop-1" in note for note in second["notes"])
    assert {part for _, part in fleet.store.curation.uses("loop-2")} == {
        "train",
        "held_out_new",
        "held_out_old",
    }


def test_golden_rows_are_judged_by_and_their_uses_counted(fleet: Fleet) -> None:
    """A run counts once, however often it is begun; after enough uses a rotation is asked for."""
    fleet.shown(range(20))
    golden = GoldenRow("gold-1", ROUTE, 1, [{"role": "user", "content": prompt(3)}], "gold", {"area": "x"})
    fleet.store.golden.add([golden], route=ROUTE, number=1, actor="ann")
    found = fleet.curate(golden_uses=1)
    (fleet.folder / "loop" / "loop-1" / "curate.json").unlink()
    assert fleet.curate(golden_uses=1) == found
    assert found["golden"] == 1
    assert fleet.store.golden.sets(ROUTE)[0].uses == 1
    assert any("turnout data golden rotate support" in note for note in found["notes"])
    (row,) = rows(fleet, "golden")
    assert (row["area"], row["row_id"], row["messages"][-1]["content"]) == ("x", "gold-1", "gold")
    assert 3 not in numbers([*rows(fleet, "train"), *rows(fleet, "held_out_new")])


def test_the_most_novel_rows_are_chosen_first(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the distance of their embeddings from the champion's; vectors that are kept are not computed."""
    fleet.shown(range(30))
    direction = {number: np.eye(8)[0 if number < 20 else 1] for number in range(30)}
    kept = {f"req-{number:08x}": direction[number].astype(np.float16).tobytes() for number in range(30)}
    fleet.requests.embeddings.add(kept, model="all-MiniLM-L6-v2")
    monkeypatch.setattr(embedding, "embedded", lambda _: pytest.fail("all of them are kept"))
    monkeypatch.setattr(module, "reference_of", lambda _: np.eye(8)[:1])
    fleet.curate(max_examples=5, min_new_examples=1)
    assert numbers(rows(fleet, "train")) <= set(range(20, 30))
    assert {row.novelty for row in fleet.store.curation.page(ROUTE, split="train")} == {1.0}


@pytest.mark.parametrize(("looked_from", "figures"), [(1020.0, {}), (1000.0, {"change_at": 1020.0})])
def test_a_drift_report_says_from_when_on_traffic_is_new(
    fleet: Fleet, looked_from: float, figures: dict[str, float]
) -> None:
    """What came before it is old: judged by as such, and no new row."""
    fleet.shown(range(40))
    drift = DriftRow(
        at=1.0, route=ROUTE, verdict="drift", figures=figures, report_html=None, report_json=None,
        kind="sequential", severity="retrain", cause="drift", looked_from=looked_from,
    )  # fmt: skip
    fleet.store.drift.add(drift)
    folder = fleet.folder / "loop" / "loop-1"
    folder.mkdir(parents=True)
    about = {"champion": "base", "drift_id": fleet.store.drift.rows()[0].id}
    (folder / "run.json").write_text(json.dumps(about))
    found = fleet.curate(replay_share=0.2)
    new = [row for row in rows(fleet, "train") if row["replayed"] == "false"]
    assert found["new_rows"] == len(new)
    assert min(numbers(new)) >= 20
    assert max(numbers(rows(fleet, "held_out_old"))) < 20 <= min(numbers(rows(fleet, "held_out_new")))


def test_who_is_forgotten_meanwhile_is_in_no_file(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that go between the choice and the writing are chosen without."""
    from sqlalchemy import delete

    from gateway.store import schema
    from gateway.store.curation import remove

    fleet.shown(range(30))
    real, once = module.replace_file, [True]

    def forgetting(path: Path, text: str) -> None:
        if path.name == "train.jsonl" and once.pop():
            once.append(False)
            gone = fleet.store.curation.page(ROUTE, limit=1)[0]
            with fleet.store.database.write() as connection:
                connection.execute(
                    delete(schema.feedback).where(schema.feedback.c.request_id == gone.request_id)
                )
                remove(connection, [gone.id])
            names.append(gone.request_id)
        real(path, text)

    names: list[str] = []
    once[:] = [True]
    monkeypatch.setattr(module, "replace_file", forgetting)
    fleet.curate()
    said = b"".join(files(fleet).values())
    assert len(names) == 1
    assert names[0].encode() not in said


def test_a_million_would_fit(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are read by pages: none is asked for more than so many at once."""
    fleet.shown(range(60))
    monkeypatch.setattr(gather, "PAGE", 10)
    asked: list[int] = []
    real = fleet.requests.many

    def many(_self: Any, ids: Any) -> Any:
        asked.append(len(ids))
        return real(ids)

    monkeypatch.setattr(type(fleet.requests), "many", many)
    fleet.curate()
    assert max(asked) <= 10 < sum(asked)


def test_killed_at_random_moments_it_ends_with_the_same_rows(fleet: Fleet) -> None:
    """The command itself, by SIGKILL, again and again; its result is that of a run that was left alone."""
    fleet.shown(range(60))
    policy = LoopPolicy(min_new_examples=5, replay_share=0.0)
    wanted = curate(fleet.order("loop-0", policy))
    folder = fleet.folder / "loop" / "loop-1"
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text(policy.model_dump_json())
    command = [
        *(sys.executable, "-m", "training.curation", ROUTE, "--run", "loop-1", "--out", str(folder)),
        *("--policy", str(folder / "policy.json"), "--state-dir", str(fleet.folder)),
    ]
    for patience in (1.2, 2.0, None):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                _, said = process.communicate(timeout=patience)
                assert process.returncode == 0, said
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
    found = json.loads((folder / "curate.json").read_text())
    assert (found["outcome"], found["fingerprint"]) == ("ready", wanted["fingerprint"])


def test_two_answers_to_one_prompt_are_compared(fleet: Fleet) -> None:
    """A liked beside a disliked one, each once: pairs for preference training."""
    for number in range(16):
        for at, liked in ((number, True), (number + 100, False), (number + 200, False)):
            fleet.ask(at, prompt=prompt(number), unit=f"u{number}")
            fleet.rate(at, liked)
    found = fleet.curate(method="dpo")
    train = rows(fleet, "train")
    assert (found["method"], found["outcome"]) == ("dpo", "ready")
    for row in train:
        number = int(row["request_id"][4:], 16)
        assert row["chosen"][0]["content"] == f"answer {number}"
        assert row["rejected"][0]["content"] in {f"answer {number + 100}", f"answer {number + 200}"}
    assert len(train) == len(numbers(train))


@pytest.mark.parametrize(("method", "kind"), [("sft", "examples"), ("kto", "rated"), ("dpo", "preferences")])
def test_files_are_read_by_training_and_by_the_gate(fleet: Fleet, method: str, kind: str) -> None:
    """Without any option; rows to judge by are prompts with wanted answers, whatever is trained."""
    for number in range(40):
        fleet.ask(number)
        fleet.rate(number, f"wanted {number}" if number % 2 else number % 4 == 0)
    fleet.curate(method=method)
    folder = fleet.folder / "loop" / "loop-1"
    found = read_dataset(str(folder / "train.jsonl"))
    judged = read_dataset(str(folder / "held_out_new.jsonl"))
    assert (found.kind, judged.kind) == (kind, "examples")
    assert {"row_id", "request_id", "subject", "trusted", "kind"} <= found.rows[0].columns.keys()
    assert {"row_id", "request_id", "subject", "trusted", "kind"} <= judged.rows[0].columns.keys()
