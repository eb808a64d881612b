"""A run that is killed by SIGKILL and resumed is, to the last bit, the run that was not killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
KILLED = -signal.SIGKILL


def runs(base: Path, folder: Path, *planned: dict[str, Any]) -> list[int]:
    """Run what is planned and return the exit codes."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.training.fitting.killed_runs"),
            *(str(base), str(folder), json.dumps(planned)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    codes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return codes


def same(folder: Path, one: str, two: str) -> bool:
    """Whether two runs ended with the same weights, and say the same of themselves."""
    import torch
    from safetensors.torch import load_file

    weights, others = (load_file(folder / f"{name}.safetensors") for name in (one, two))
    told, others_told = ((folder / f"{name}.json").read_text(encoding="utf-8") for name in (one, two))
    assert told == others_told
    return set(weights) == set(others) and all(torch.equal(weights[name], others[name]) for name in weights)


CASES: dict[str, tuple[dict[str, Any], list[tuple[int, str]], int]] = {
    "end to end": ({"method": "sft"}, [(7, "step"), (5, "writing"), (4, "putting"), (0, "trained")], 10),
    "padded": ({"method": "sft", "packing": False}, [(7, "step")], 10),
    "preferences": ({"method": "dpo"}, [(7, "writing"), (0, "trained")], 10),
    "ratings": ({"method": "kto"}, [(7, "writing"), (0, "trained")], 10),
    "preferences over a version": ({"method": "dpo", "goes_on": True}, [(7, "step"), (0, "trained")], 10),
    "texts": ({"method": "domain"}, [(7, "step")], 10),
    "one pass and a half": (
        {"method": "sft", "epochs": 1.5, "schedule": "constant_with_warmup"},
        [(0, "trained"), (6, "step")],
        8,
    ),
    "patience at its end": (
        {"method": "sft", "patience": 1, "worsens": True, "schedule": "constant_with_warmup"},
        [(0, "trained"), (3, "putting")],
        3,
    ),
}
"""Settings, when a run with them dies, and the step at which one that does not die ends."""


@pytest.mark.parametrize("case", list(CASES))
def test_a_killed_run_goes_on_as_if_nothing_had_been(tiny_base: Path, tmp_path: Path, case: str) -> None:
    """Killed at a step, while a checkpoint is written, before it is put in place, and after the last step."""
    settings, deaths, steps = CASES[case]
    planned = [{"name": "whole", "scratch": "whole", **settings}]
    for number, (step, when) in enumerate(deaths):
        scratch = {"scratch": f"killed{number}", **settings}
        planned += [
            {"name": "dead", "die_at": step, "die_when": when, **scratch},
            {"name": f"resumed{number}", "resume": True, **scratch},
        ]
    assert runs(tiny_base, tmp_path, *planned) == [0, *[KILLED, 0] * len(deaths)]
    assert not (tmp_path / "dead.json").exists()
    assert json.loads((tmp_path / "whole.json").read_text(encoding="utf-8"))["steps"] == steps
    for number in range(len(deaths)):
        assert same(tmp_path, "whole", f"resumed{number}"), deaths[number]
    left = {path.name for path in (tmp_path / "killed0").iterdir()}
    assert left == {f"checkpoint-{steps - 1}", f"checkpoint-{steps}"}
