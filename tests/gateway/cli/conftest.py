"""A command line against a real server with the admin API."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import build_app
from tests.gateway.admin_harness import AdminService, admin_service

Run = Callable[..., Result]


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for every test of the command line."""
    with admin_service(tmp_path_factory.mktemp("cli")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on empty stores."""
    return service.reset()


@pytest.fixture
def run(admin: AdminService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line as an administrator in an empty folder."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    env = {"TURNOUT_URL": admin.url, "TURNOUT_API_KEY": admin.key}

    def go(line: str, *, stdin: str | None = None, **more: str | None) -> Result:
        result = runner.invoke(build_app(), line.split(), input=stdin, env={**env, **more})
        assert admin.key not in result.output
        return result

    return go


def documents(result: Result) -> Any:
    """Return the JSON that a command printed."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def two(admin: AdminService) -> AdminService:
    """The admin API with two versions of `support`."""
    admin.adapter(seed=0)
    admin.adapter(seed=1)
    return admin
