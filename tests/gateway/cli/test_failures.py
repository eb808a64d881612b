"""How commands fail: one line, and an exit code."""

import pytest

from gateway.core.requests import Role
from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run

FAILURES: list[tuple[str, dict[str, str | None], str]] = [
    ("status", {"TURNOUT_URL": "http://127.0.0.1:1"}, "is `turnout serve` running there?"),
    ("status", {"TURNOUT_URL": "localhost:8080"}, "is not an address like"),
    ("status", {"TURNOUT_API_KEY": None}, "set TURNOUT_API_KEY"),
    ("status", {"TURNOUT_API_KEY": "tk-wrong"}, "TURNOUT_API_KEY (or --api-key) is not valid"),
    ("status", {"TURNOUT_API_KEY": "tk-se\ncret"}, "a character that no key has"),
    ("routes show none", {}, "there is no route 'none'"),
    ("routes history ../keys", {}, "'../keys' is not a name"),
    ("adapters show none@1", {}, "there is no version none@1"),
    ("adapters add support missing", {}, "is not a folder"),
    ("keys revoke none", {}, "no valid key"),
]


@pytest.mark.parametrize(("line", "env", "said"), FAILURES)
def test_failures_are_one_line(run: Run, line: str, env: dict[str, str | None], said: str) -> None:
    """What fails says what to do in one line on stderr, nothing on stdout, with exit code 1."""
    result = run(line, **env)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "cret" not in result.stderr


def test_a_key_without_the_role(run: Run, admin: AdminService) -> None:
    """A key that may not administer is told which role it lacks."""
    result = run("routes list", TURNOUT_API_KEY=admin.key_with(Role.INFERENCE))
    assert (result.exit_code, "lacks the role admin" in result.stderr) == (1, True)


BAD_USAGE = [
    "",
    "nonsense",
    "routes",
    "routes set support",
    "routes set support a@1 --sticky glue",
    "adapters show support",
    "adapters show support@x",
    "routes rollback support --to-generation 0",
    "status --timeout 3",
]


@pytest.mark.parametrize("line", BAD_USAGE)
def test_bad_usage(run: Run, line: str) -> None:
    """Bad usage is exit code 2."""
    assert run(line).exit_code == 2


def test_empty_lists_say_what_to_do(run: Run) -> None:
    """A list of nothing prints nothing on stdout and the next step on stderr."""
    for line in ("adapters list", "routes list"):
        result = run(line)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "turnout " in result.stderr
