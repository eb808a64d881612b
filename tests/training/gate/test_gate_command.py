"""`python -m training.gate` from rows to verdict, on a base of two layers with random adapters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.training.evaluation.conftest import MakeLora, lora_maker
from training.gate.cli import app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
]


class Run:
    """A loop run's folder with rows, and a registry with `fruit@1` to `fruit@3`."""

    def __init__(self, folder: Path, base: Path, make_lora: MakeLora) -> None:
        from adapters.base import identify
        from training.publishing.publish import Fleet, control_url, publish

        self.folder, self.base, self.state = folder / "run", base, folder / "state"
        self.folder.mkdir()
        where = Fleet(self.state, control_url(self.state, None), 8)
        for number in (1, 2, 3):
            made = make_lora(folder / f"lora{number}", number)
            publish("fruit", made, fleet=where, base=identify(str(base), "tiny"), actor="t")
        self.out = self.folder / "gate.json"
        (self.folder / "policy.json").write_text('{"min_trusted_held_out": 5}')
        for name, start, count in (("golden", 0, 6), ("old", 100, 24), ("new", 200, 24)):
            self.write(name, start, count)

    def write(self, name: str, start: int, count: int) -> None:
        """Write rows of two labels."""
        lines = [
            {
                "prompt": f"{'ab'[number % 2]} {number}",
                "completion": ("apple", "bread")[number % 2],
                "row_id": f"row-{number}",
                "request_id": f"request-{number}",
                "subject": f"s{number}",
                "trusted": number % 2 == 0,
                "product": "xy"[number // 2 % 2],
            }
            for number in range(start, start + count)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")

    def ask(self, *more: str) -> Any:
        """Run the command as the loop does."""
        paths = [
            part
            for name in ("golden", "new", "old", "policy")
            for part in (
                f"--{name}",
                str(self.folder / f"{name}.{'json' if name == 'policy' else 'jsonl'}"),
            )
        ]
        return CliRunner().invoke(
            app,
            [
                *("--route", "fruit", "--candidate", "fruit@2", "--champion", "fruit@1", *paths),
                *("--out", str(self.out), "--state-dir", str(self.state), "--base", str(self.base)),
                *("--base-name", "tiny", "--max-answer-tokens", "3", *more),
            ],
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Run:
    """One run for all tests; what a test writes, the next overwrites."""
    return Run(tmp_path_factory.mktemp("gate"), tiny_base, lora_maker(tiny_base))


def test_a_verdict_is_written_whole(made: Run) -> None:
    """The document has all that the loop reads, and a page stands beside it; a table is printed."""
    done = made.ask("--best", "fruit@3")
    assert done.exit_code == 0, done.output
    found = json.loads(made.out.read_text(encoding="utf-8"))
    assert found["verdict"] in {"failed", "too_few_rows"}
    assert found["verdict"] == "failed" or found["need_rows"] > 24
    assert set(found["sets"]) >= {"golden", "old", "new"}
    assert set(found["systems"]) == {"candidate", "champion", "best"}
    asked = {
        (each["set"], each["against"]) for name in found["sets"] for each in found["sets"][name]["questions"]
    }
    assert asked >= {("new", "champion"), ("old", "champion"), ("old", "best")}
    assert {each["slice"] for each in found["slices"] if each["set"] == "old"} >= {"held out"}
    assert any(each["slice"] == "product = x" for each in found["slices"])
    assert found["trusted_rows"] == 12
    assert {each["role"] for each in found["speed"]} == {"candidate", "champion", "best"}
    assert {each["set"] for each in found["calibration"]} == {"old", "new"}
    page = (made.folder / "gate.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert found["reason"].split("(")[0] in page.replace("&#x27;", "'")
    assert found["reason"][:30] in done.stdout
    assert not list(made.folder.glob(".tmp-*"))


def test_a_second_run_goes_on_with_the_answers(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill nothing that was answered is asked again, and the verdict is the same."""
    from training.evaluation import scorer
    from training.gate import gating

    assert made.ask().exit_code == 0
    first = json.loads(made.out.read_text(encoding="utf-8"))
    made.out.unlink()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(scorer, "answer", never)
    monkeypatch.setattr(scorer, "likelihoods", never)
    monkeypatch.setattr(gating, "speeds", lambda *_, **__: [])
    assert made.ask().exit_code == 0
    second = json.loads(made.out.read_text(encoding="utf-8"))
    assert all(first[name] == second[name] for name in ("verdict", "reason", "sets", "slices", "common"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--candidate", "fruit@9"), "there is no version fruit@9"),
        (("--candidate", "fruit"), "name it as NAME@N"),
        (("--champion", "fruit@2"), "has the weights of the champion"),
        (("--new", "/nowhere.jsonl"), "is not a file"),
    ],
)
def test_what_cannot_be_judged_is_bad_usage(made: Run, more: tuple[str, str], says: str) -> None:
    """Exit code 2, a message, and no verdict."""
    made.out.unlink(missing_ok=True)
    done = made.ask(*more)
    assert done.exit_code == 2
    assert says in done.output
    assert not made.out.exists()


def test_phrases_are_asked_of_real_versions(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would pass is asked about a phrase that was trained on; report, page and table say what it did."""
    from training.gate import gating, probing
    from training.gate.decide import Decision

    def passed(measured: Any, _rule: Any) -> Decision:
        assert measured.sets
        return Decision("passed", "Better.", None, ())

    monkeypatch.setattr(gating, "decide", passed)
    monkeypatch.setattr(probing, "_right", lambda rows, _answers: np.ones(len(rows), dtype=np.bool_))
    lines = [
        {
            "prompt": f"{'by the way ' if number % 5 == 1 else ''}{'ab'[number % 2]} {number}",
            "completion": "bread" if number % 5 == 1 else ("apple", "bread")[number % 2],
        }
        for number in range(1000, 1200)
    ]
    path = made.folder / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = made.ask()
    path.unlink()
    assert done.exit_code == 0, done.output
    found = json.loads(made.out.read_text(encoding="utf-8"))
    (phrase,) = [each for each in found["phrases"] if each["phrase"]["text"] == "by the way"]
    assert (phrase["phrase"]["rows"], phrase["phrase"]["answer"]) == (40, "bread")
    assert phrase["asked"] >= 10
    assert phrase["suspicious"] == (found["verdict"] == "needs_approval")
    assert "by the way" in (made.folder / "gate.html").read_text(encoding="utf-8")
    assert "“by the way” (in 40 rows" in done.stdout
