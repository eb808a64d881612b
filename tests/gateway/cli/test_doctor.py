"""`turnout doctor`: one finding a check, and what to do."""

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.agent.server import build
from gateway.cli.checks import agents, engines, machine, stores
from gateway.cli.checks.check import Check
from gateway.cli.main import build_app
from gateway.settings import Settings
from gateway.store.database import Database
from tests import fake_engine
from tests.gateway.admin_harness import Server as AppServer
from tests.gateway.agent.places import Place
from tests.postgresql import Server


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder that looks like a base model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _engine_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine's libraries count as installed, whatever this environment has."""
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(engines, "unfit_for_cpu_torch", list)
    monkeypatch.setattr(machine, "LITTLE_FREE_BYTES", 0)  # how full the disk is, is not what is tested
    monkeypatch.setattr(machine, "LEAST_FREE_BYTES", 0)


def run(folder: Path, base: Path, *more: str, **env: str) -> Result:
    """Run the doctor with a state directory and a base model of the test's own, on a free port."""
    every = {"TURNOUT_STATE_DIR": str(folder / "state"), "TURNOUT_BASE__MODEL": str(base)}
    every |= {"TURNOUT_SERVER__PORT": "0", "TURNOUT_CONFIG": str(folder / "none.toml")}
    return CliRunner().invoke(build_app(), ["doctor", *more], env={**every, **env})


def test_a_healthy_machine(tmp_path: Path, base: Path) -> None:
    """Every check is ok, nothing is made, and the exit code is 0."""
    result = run(tmp_path, base)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert all(line.startswith(("ok ", "note ")) for line in lines if not line.startswith("- "))
    assert not (tmp_path / "state").exists()
    found = json.loads(run(tmp_path, base, "--json").stdout)
    assert found["ok"] is True
    assert {check["name"] for check in found["checks"]} >= {"python", "settings", "port", "control store"}


def problem(result: Result) -> str:
    """Return the one line of a problem's remedy."""
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    notes = tuple(f"- {line[9:].split('  ')[0]}: " for line in lines if line.startswith("note"))
    remedies = [line for line in lines if line.startswith("- ") and not line.startswith(notes)]
    assert len(remedies) == 1, result.stdout
    return remedies[0]


def test_wrong_settings(tmp_path: Path, base: Path) -> None:
    """With wrong settings, what depends on them is not looked at."""
    result = run(tmp_path, base, TURNOUT_SERVER__PORT="x")
    assert problem(result) == "- settings: mend the settings"
    assert "TURNOUT_SERVER__PORT" in result.stdout


def test_a_base_model_that_is_missing(tmp_path: Path) -> None:
    """The default base model that was not prepared is a problem; a hub's id is the engine's matter."""
    env = {"TURNOUT_CACHE": str(tmp_path / "cache")}
    assert "make base" in problem(run(tmp_path, Path("SmolLM2-135M-Instruct"), **env))
    assert run(tmp_path, Path("organisation/name"), **env).exit_code == 0


def test_an_engine_that_is_missing(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each missing library is named, with the extra that brings it."""
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    result = run(tmp_path, base)
    assert "turnout[engine-cpu]" in problem(result)
    assert "vLLM, bitsandbytes, vllm-bnb-plugin missing" in result.stdout
    without = run(tmp_path, base, TURNOUT_ENGINE__QUANTIZATION="null")
    assert "vLLM missing" in without.stdout


def test_companions_of_torch_that_do_not_fit(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA build of torchvision beside a CPU build of torch is named with the cure."""
    monkeypatch.setattr(engines, "unfit_for_cpu_torch", lambda: ["torchvision"])
    assert problem(run(tmp_path, base)) == "- torch: pip uninstall torchvision"


def test_an_attached_engine(tmp_path: Path, base: Path) -> None:
    """An engine that does not answer is a problem, and vLLM need not be installed."""
    result = run(tmp_path, base, TURNOUT_ENGINE__URLS='["http://127.0.0.1:1"]')
    assert problem(result).startswith("- engine http://127.0.0.1:1: start it")


def test_a_port_that_is_taken(tmp_path: Path, base: Path) -> None:
    """A port where something else listens is a problem."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as taken:
        taken.settimeout(0)
        port = str(taken.getsockname()[1])
        doctor_timeout = pytest.MonkeyPatch()
        with doctor_timeout.context() as patch:
            patch.setattr(machine, "HTTP_TIMEOUT_S", 0.05)
            assert "set server.port" in problem(run(tmp_path, base, TURNOUT_SERVER__PORT=port))


def test_a_state_directory_that_can_not_be_written(tmp_path: Path, base: Path) -> None:
    """A state directory below a file can't be made; the stores in it are not looked at."""
    (tmp_path / "file").touch()
    result = run(tmp_path, base, TURNOUT_STATE_DIR=str(tmp_path / "file" / "state"))
    assert problem(result).startswith("- state directory:")
    assert "control store" not in result.stdout


def test_stores(tmp_path: Path, base: Path) -> None:
    """A store that is there answers; a damaged one and a wrong URL are problems, without a password."""
    database = Database(f"sqlite:///{tmp_path}/state/control.db", "control")
    database.migrate()
    database.close()
    assert "control.db answers" in run(tmp_path, base).stdout
    (tmp_path / "state" / "requests.db").write_bytes(b"no database at all" * 100)
    assert "mend store.requests_url" in problem(run(tmp_path, base))
    (tmp_path / "state" / "requests.db").unlink()
    assert "mend store.control_url" in problem(run(tmp_path, base, TURNOUT_STORE__CONTROL_URL="nonsense"))
    result = run(tmp_path, base, TURNOUT_STORE__CONTROL_URL="nodb://me:swordfish@x/y")
    assert "swordfish" not in result.output
    problem(result)


def test_files_that_others_can_read(tmp_path: Path, base: Path) -> None:
    """A pepper, a TLS key and a settings file with a key in it are their owner's only."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "pepper").write_bytes(b"x" * 32)
    (state / "pepper").chmod(0o644)
    assert f"chmod 600 {state / 'pepper'}" in problem(run(tmp_path, base))
    (state / "pepper").chmod(0o600)
    config = tmp_path / "turnout.toml"
    config.write_text('[auth]\nadmin_key = "swordfish"\n')
    config.chmod(0o644)
    result = run(tmp_path, base, "--config", str(config))
    assert f"chmod 600 {config}" in problem(result)
    assert "swordfish" not in result.output
    config.write_text("[server]\n")
    assert run(tmp_path, base, "--config", str(config)).exit_code == 0


def test_a_full_disk(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is a note, and hardly any a problem."""
    monkeypatch.setattr(machine, "LITTLE_FREE_BYTES", 1 << 62)
    result = run(tmp_path, base)
    assert (result.exit_code, "note     disk" in result.stdout) == (0, True)
    monkeypatch.setattr(machine, "LEAST_FREE_BYTES", 1 << 62)
    result = run(tmp_path, base)
    assert (result.exit_code, "PROBLEM  disk" in result.stdout) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), None),
        (("--enforce-eager",), None),
        (("--max-loras=9",), "which Turnout sets"),
        (("--enable-log-requests",), "every prompt"),
        (("--data-parallel-size=2",), "several API servers"),
        (("--data-parallel-size=2", "--api-server-count=1"), None),
    ],
)
def test_flags_of_engines(arguments: tuple[str, ...], says: str | None) -> None:
    """Arguments that break registering, show prompts or contradict the settings are problems."""
    found = list(engines.flags(arguments))
    assert [check.ok for check in found] == ([] if says is None else [False])
    assert says is None or says in found[0].found


def test_a_running_engine(tmp_path: Path, base: Path) -> None:
    """One that is well and lets adapters be registered is ok; another base model than ours is a problem."""
    with fake_engine.start() as engine:
        env = {"TURNOUT_ENGINE__URLS": f'["{engine.url}"]'}
        result = run(tmp_path, base, TURNOUT_BASE__SERVED_NAME=fake_engine.BASE_MODEL, **env)
        assert result.exit_code == 0, result.output
        assert "can be registered" in result.stdout
        assert "--served-model-name other" in problem(
            run(tmp_path, base, TURNOUT_BASE__SERVED_NAME="other", **env)
        )


def test_agents_beside_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is well says what room it has; a full one is a note; a silent or strange one a problem."""
    monkeypatch.setattr(agents, "LEAST_FREE_BYTES", 0)
    place = Place(tmp_path)
    place.settled(place.publish(0))
    used = sum(place.blobs.sizes().values())

    def found(port: int, *, key: str | None = "right", publish_to: str | None = "s3://b/p") -> list[Check]:
        urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
        engine = {"urls": urls, "adapter_root": "/a", "agent_port": port, "agent_key": key}
        settings = Settings.model_validate({"engine": engine, "registry": {"publish_to": publish_to}})
        return list(agents.agents(settings))

    with AppServer(build(place.cache, key="right", max_bytes=2 * used)) as server:
        port = int(server.url.rpartition(":")[2])
        (well,) = found(port)
        assert (well.ok, "1 blobs" in well.found) == (True, True)
        (strange,) = found(port, key="wrong")
        assert (strange.ok, strange.grave, "another key" in strange.found) == (False, True, True)
        nowhere, _ = found(port, publish_to=None)
        assert "registry.publish_to" in nowhere.todo
        monkeypatch.setattr(agents, "FULL", 0.4)
        (full,) = found(port)
        assert (full.ok, full.grave) == (False, False)
    place.cache.close()
    (gone,) = found(port)
    assert (gone.ok, "turnout agent" in gone.todo) == (False, True)
    assert list(agents.agents(Settings())) == []
    assert agents._hosts(("dns+http://localhost:8000",)) & {"127.0.0.1", "::1"}


@pytest.mark.slow
def test_a_schema_that_is_older_or_newer(tmp_path: Path, base: Path) -> None:
    """An older schema is brought up to date by the next start; a newer one needs a newer Turnout."""
    database = Database(f"sqlite:///{tmp_path}/state/control.db", "control")
    database.migrate()
    assert "the newest" in run(tmp_path, base).stdout
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_control SET version_num = '0001'")
    assert "0001; the next start makes it" in run(tmp_path, base).stdout
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_control SET version_num = '9999'")
    database.close()
    assert "start a newer Turnout" in problem(run(tmp_path, base))


@pytest.mark.parametrize(
    ("path", "kind"), [("/srv/state/control.db", "nfs4"), ("/srv/other", "ext4"), ("/x", "ext4")]
)
def test_the_file_system_of_a_path(path: str, kind: str, tmp_path: Path) -> None:
    """The mount that is nearest decides."""
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\nhost:/x /srv/state nfs4 rw 0 0\n")
    assert stores.filesystem_of(Path(path), mounts) == kind
    assert stores.filesystem_of(Path(path), tmp_path / "none") is None


@pytest.mark.slow
def test_a_postgresql_server(postgresql: Server, tmp_path: Path) -> None:
    """Version, clock, connections and schemas of a server are looked at, and the password is not shown."""
    with postgresql.database() as url:
        known = url.replace("turnout@", "turnout:swordfish@")
        settings = Settings.model_validate(
            {"state_dir": tmp_path, "store": {"control_url": known, "requests_url": known}}
        )
        found = {check.name: check for check in stores.stores(settings)}
    assert all(check.ok for check in found.values()), found
    assert {"control store: server", "control store: clock", "requests store: schema"} <= found.keys()
    assert "swordfish" not in str(found)
