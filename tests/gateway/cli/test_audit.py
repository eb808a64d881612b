"""`turnout audit`."""

import json
import re

from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run, documents


def test_the_log_is_listed(run: Run, admin: AdminService) -> None:
    """Who, from where, what and why, the newest first; narrowed down when asked."""
    made = documents(run("keys create --json --label ci"))
    run(f"keys revoke {made['id']} --why leaked")
    listed = run("audit list").stdout
    assert re.search(rf"127\.0\.0\.1\s+key\.revoke\s+{made['id']}\s+leaked", listed)
    assert listed.index("key.revoke") < listed.index("key.create")
    narrow = documents(run(f"audit list --subject {made['id']} --action key.create --json"))["data"]
    assert [event["after"]["label"] for event in narrow] == ["ci"]
    assert admin.call("GET", "/admin/events")[1]["data"][0]["action"] == "key.revoke"


def test_the_log_is_exported(run: Run, admin: AdminService) -> None:
    """One JSON object a line, the oldest first, all of them; or from behind a line on."""
    for number in range(450):
        admin.control.events.add(actor="t", action="x", subject=str(number))
    result = run("audit export")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["subject"] for line in lines][-450:] == [str(number) for number in range(450)]
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    assert f"{len(lines)} events" in result.stderr
    again = run(f"audit export --after {lines[-2]['id']}").stdout.splitlines()
    assert [json.loads(line) for line in again] == [lines[-1]]
    assert run(f"audit export --after {lines[-1]['id']}").stdout == ""
