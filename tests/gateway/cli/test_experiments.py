"""`turnout routes show`, `plan`, `pause`, `resume` and `abort`: experiments in a terminal."""

import json
from typing import Any

from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run
from tests.gateway.people import People

ARM = {"adapter": "support@1", "share": 1.0}
CANARY = {"candidate": "support@2", "steps": [0.4, 1.0], "min_units": 20, "guardrails": {"thumbs": 0.1}}


def put(admin: AdminService, **spec: Any) -> None:
    """Store a spec."""
    metrics = {"thumbs": {"primary": True, "window_h": 1e-9}}
    status, found = admin.call(
        "PUT", "/admin/routes/support", json={"arms": [ARM], "metrics": metrics, **spec}
    )
    assert status == 202, found


def test_a_canary_in_a_terminal(run: Run, two: AdminService) -> None:
    """Arms, intervals as bars, guardrails and the verdict; commands say what became of it."""
    two.controller()
    put(two, canary=CANARY, sticky="none")
    two.begin_canary("support")
    People(two.control, two.requests).ask("support", 300, liked={"support@1": 0.9, "support@2": 0.9})
    assert run("routes pause support --why lunch").output == (
        "support: support@2 is paused, step 1 at 0.4: paused by a person; "
        "traffic meets support@1 0.6, support@2 0.4\n"
    )
    two.look("support")
    lines = run("routes show support").output.splitlines()
    assert "canary         support@2 in steps 0.4, 1; then promote" in lines
    assert "Canary  support@2 is paused, step 1 at 0.4: paused by a person" in lines
    table: dict[str, str] = {}
    for line in lines:
        if line.startswith("  "):
            table.setdefault(line.split()[0], line)
    assert "●" in table["thumbs"]
    assert table["thumbs"].split()[1] == "(primary)"
    assert "─" in table["errors"]
    assert "cannot tell yet" in table["cannot"]
    guardrail = [line for line in lines if line.startswith("  thumbs")][-1].split()
    assert (guardrail[1], "BREACHED" in guardrail) == ("0.1", False)
    assert run("routes resume support").exit_code == 0
    assert "aborted by a person; traffic meets support@1 1" in run("routes abort support").output
    again = run("routes resume support")
    assert (again.exit_code, "it can be restarted" in again.output) == (1, True)
    assert "is running, step 1" in run("routes resume support --restart").output


def test_a_plan_in_a_terminal(run: Run, two: AdminService) -> None:
    """The pace of the traffic, each step's time and what its guardrails find; nothing to plan is said too."""
    two.controller()
    spec = {"arms": [ARM], "canary": {**CANARY, "guardrails": {"errors": 0.1}}}
    applied = run("routes apply -f -", stdin=json.dumps({"routes": {"support": spec}})).output
    assert "step 1: 0.4 of the traffic" in applied
    assert "held after" in applied
    put(two, canary=CANARY)
    assert "no traffic in the last day" in run("routes plan support").output
    two.begin_canary("support")
    People(two.control, two.requests).ask("support", 100)
    lines = run("routes plan support").output.splitlines()
    assert lines[0].startswith("traffic now: about ")
    assert lines[1].startswith("step 1: 0.4 of the traffic, 20 units of support@2 in ")
    assert lines[2].startswith("  thumbs: finds differences from ")
    assert lines[3].endswith("then it is promoted")
    said = run("routes set support support@1=0.5 support@2=0.5").output
    assert "support@2 against support@1 on thumbs:" in said
    run("routes set support support@1")
    assert "compares nothing" in run("routes plan support").output
