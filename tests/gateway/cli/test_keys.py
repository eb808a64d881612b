"""`turnout keys`."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import build_app
from gateway.core.requests import Role
from tests.gateway.admin_harness import AdminService, admin_service
from tests.gateway.cli.conftest import Run, documents

pytestmark = pytest.mark.slow


def test_keys_through_the_gateway(run: Run, admin: AdminService) -> None:
    """The key alone goes to stdout, the hint to stderr; the list shows its state; revoking refuses it."""
    made = run("keys create --role feedback --role inference --label ci --expires-days 2")
    key = made.stdout.strip()
    assert re.fullmatch(r"tk-[a-z0-9]{12}-[A-Za-z0-9]{32}", key)
    assert "It is shown this once" in made.stderr
    assert key not in made.stderr
    key_id = key.split("-")[1]
    listed = run("keys list").stdout
    assert re.search(rf"{key_id}\s+valid\s+feedback, inference\s+ci\s+default", listed)
    assert key not in run("keys list --json").stdout
    assert run(f"keys revoke {key_id}").stdout == f"{key_id} revoked\n"
    assert re.search(rf"{key_id}\s+revoked", run("keys list").stdout)
    assert run("keys list", TURNOUT_API_KEY=key).exit_code == 1
    for command in ("revoke", "rotate", "show"):
        typed = run(f"keys {command} {key}")
        assert (typed.exit_code, key in typed.output) == (2, False)
    assert documents(run("keys create --json"))["roles"] == ["inference"]
    assert admin.control.keys.count() == 3


def test_the_first_key_is_made_without_a_gateway(run: Run, tmp_path: Path) -> None:
    """With an empty store and no gateway named, the first key is made there, with every role."""
    alone = {"TURNOUT_URL": None, "TURNOUT_API_KEY": None}
    refused = run("keys create --role inference", **alone)
    assert (refused.exit_code, "needs the role admin" in refused.stderr) == (1, True)
    made = run("keys create --label mine", **alone)
    assert made.exit_code == 0, made.output
    assert re.fullmatch(r"tk-[a-z0-9]{12}-[A-Za-z0-9]{32}\n", made.stdout)
    assert str(tmp_path / ".turnout") in made.stderr
    assert (tmp_path / ".turnout" / "control.db").is_file()
    assert (tmp_path / ".turnout" / "pepper").stat().st_mode & 0o777 == 0o600
    again = run("keys create", **alone, TURNOUT_SERVER__PORT="1")
    assert again.exit_code == 1
    assert made.stdout.strip() not in again.output


def test_the_first_key_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that the offline command printed is an administrator's for a gateway on that store."""
    with admin_service(tmp_path, open_access=True) as service:
        monkeypatch.chdir(tmp_path)
        env = {"TURNOUT_STATE_DIR": str(tmp_path), "TURNOUT_URL": None, "TURNOUT_API_KEY": None}
        made = CliRunner().invoke(build_app(), ["keys", "create", "--json"], env=env)
        key = documents(made)
        assert key["roles"] == sorted(Role)
        headers = {"Authorization": f"Bearer {key['key']}"}
        assert service.call("GET", "/admin/keys")[0] == 401
        assert service.call("GET", "/admin/keys", headers=headers)[0] == 200


def test_wrong_settings_are_one_message(run: Run) -> None:
    """`keys create` with settings that are wrong says which."""
    result = run("keys create", TURNOUT_URL=None, TURNOUT_API_KEY=None, TURNOUT_SERVER__PORT="x")
    assert (result.exit_code, "TURNOUT_SERVER__PORT" in result.stderr) == (1, True)


def test_a_key_for_some_models(run: Run) -> None:
    """The patterns stand in the list and in what is shown of the key; a wrong one is told."""
    made = documents(run("keys create --json --model support --model team-* --model base --role trainer"))
    assert (made["models"], made["roles"]) == (["support", "team-*", "base"], ["trainer"])
    assert re.search(rf"{made['id']}\s+valid.*support, team-\*, base", run("keys list").stdout)
    shown = run(f"keys show {made['id']}").stdout
    assert re.search(r"^models\s+support, team-\*, base$", shown, re.MULTILINE)
    assert documents(run(f"keys show {made['id']} --json"))["models"] == made["models"]
    wrong = run("keys create --model Support")
    assert (wrong.exit_code, "is no pattern" in wrong.stderr) == (1, True)
    assert documents(run("keys list --json --tenant other"))["data"] == []


def test_a_key_is_rotated(run: Run) -> None:
    """The new text goes to stdout alone; until when the old one is good is said and shown."""
    made = documents(run("keys create --json"))
    result = run(f"keys rotate {made['id']} --grace-hours 2 --why yearly")
    assert result.stdout.startswith(f"tk-{made['id']}-")
    assert result.stdout.strip() != made["key"]
    assert "The old text is good until" in result.stderr
    assert re.search(rf"{made['id']}\s+rotating", run("keys list").stdout)
    again = run(f"keys rotate {made['id']}")
    assert (again.exit_code, "still good" in again.stderr) == (1, True)
    ended = run(f"keys rotate {made['id']} --grace-hours 0")
    assert "The old text is refused now" in ended.stderr
    assert documents(run(f"keys show {made['id']} --json"))["previous_until"] is None


def test_the_first_key_is_not_made_of_wrong_patterns(run: Run) -> None:
    """Also without a gateway, what is no pattern is refused before anything is stored."""
    alone = {"TURNOUT_URL": None, "TURNOUT_API_KEY": None}
    refused = run("keys create --model Support", **alone)
    assert (refused.exit_code, "is no pattern" in refused.stderr) == (1, True)
    assert run("keys create --json", **alone).exit_code == 0
