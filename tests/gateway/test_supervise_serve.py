"""`turnout serve` before anything is started: what it refuses, hands on and seeds."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from adapters.manifest import BaseIdentity
from gateway.auth import mint
from gateway.core.refs import VersionRef
from gateway.core.requests import Role
from gateway.core.routes import RouteState, RouteStatus
from gateway.settings import Settings, load
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER, RegistrationRow
from gateway.supervise.lock import AlreadyServing, only_one
from gateway.supervise.report import Ready, Report, curl
from gateway.supervise.seed import identity_of, seed_examples
from gateway.supervise.serve import (
    CannotServe,
    Overrides,
    _pending,
    environment_of,
    gateway_names,
    refuse_open_host,
    refuse_strange_pepper,
    serve,
)
from tests.adapters.folders import make_adapter

_ANYWHERE = "0.0.0.0"  # noqa: S104 - what is tested is that it is refused


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine that runs the tests, and a state directory of the test's own."""
    for name in [name for name in os.environ if name.startswith("TURNOUT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNOUT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv(
        "TURNOUT_CACHE", str(tmp_path / "no-base")
    )  # the tests' adapters fit no real base model


@pytest.fixture
def store(tmp_path: Path) -> ControlStore:
    """An empty control store."""
    database = Database(f"sqlite:///{tmp_path / 'control.db'}", "control")
    database.migrate()
    return ControlStore(database)


@pytest.mark.parametrize(
    ("host", "keys", "admin_key", "refused"),
    [
        ("127.0.0.1", 0, None, False),
        ("localhost", 0, None, False),
        ("::1", 0, None, False),
        (_ANYWHERE, 0, None, True),
        ("gateway.internal", 0, None, True),
        (_ANYWHERE, 1, None, False),
        (_ANYWHERE, 0, "secret", False),
    ],
)
def test_an_open_host_needs_a_key(host: str, keys: int, admin_key: str | None, refused: bool) -> None:
    """Without any key the gateway binds to loopback only."""
    settings = load(server={"host": host}, auth={"admin_key": admin_key})
    if not refused:
        refuse_open_host(settings, keys=keys)
        return
    with pytest.raises(CannotServe, match="turnout keys create"):
        refuse_open_host(settings, keys=keys)


def test_an_open_administrators_port_needs_a_key_too() -> None:
    """A port of their own that other machines reach is as open as the other one."""
    with pytest.raises(CannotServe, match="turnout keys create"):
        refuse_open_host(load(server={"admin_port": 8081, "admin_host": _ANYWHERE}), keys=0)
    refuse_open_host(load(server={"admin_host": _ANYWHERE}), keys=0)


def test_a_machine_with_another_pepper_does_not_start(tmp_path: Path) -> None:
    """Where every key of the store would be refused, that is said before anything starts."""
    _, row = mint(label="", tenant="t", roles=[Role.ADMIN], pepper=b"1" * 32)
    settings = load()
    refuse_strange_pepper(settings, [])
    refuse_strange_pepper(settings, [replace(row, revoked_at=1.0)])
    with pytest.raises(CannotServe, match="TURNOUT_ADMIN_KEY"):
        refuse_strange_pepper(settings, [row])
    refuse_strange_pepper(load(auth={"admin_key": "secret"}), [row])
    (tmp_path / "shared").write_bytes(b"1" * 32)
    refuse_strange_pepper(load(auth={"pepper_file": tmp_path / "shared"}), [row])
    refuse_strange_pepper(load(auth={"former_pepper_files": [tmp_path / "shared"]}), [row])
    (tmp_path / "shared").write_bytes(b"1")
    with pytest.raises(CannotServe, match="damaged"):
        refuse_strange_pepper(load(auth={"pepper_file": tmp_path / "shared"}), [row])


@pytest.mark.parametrize(
    ("overrides", "code", "says"),
    [
        (Overrides(host=_ANYWHERE), 2, "there is no API key yet"),
        (Overrides(engine_urls=("engine:8000",)), 2, "not an http://, https:// or dns+http:// address"),
        (Overrides(port=1, host="127.0.0.1"), 2, "can't be listened on"),
    ],
)
def test_what_is_refused(
    overrides: Overrides, code: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What can't be served ends with a message that says what to do, before anything is started."""
    if overrides.port == 1 and os.geteuid() == 0:
        overrides = Overrides(host="192.0.2.1", port=8080)  # root may take port 1, but not a strange address
        os.environ["TURNOUT_ADMIN_KEY"] = "secret"
    try:
        assert serve(None, overrides, examples=True) == code
    finally:
        os.environ.pop("TURNOUT_ADMIN_KEY", None)
    assert says in capfd.readouterr().err


@pytest.mark.parametrize(("workers", "names"), [(1, ["gateway"]), (2, ["gateway-0", "gateway-1"])])
def test_what_workers_are_called(workers: int, names: list[str]) -> None:
    """One worker is the gateway; several have numbers."""
    assert gateway_names(workers) == names


def test_a_missing_settings_file(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A settings file that is named and missing is bad usage."""
    assert serve(tmp_path / "none.toml", Overrides(), examples=True) == 2
    assert "does not exist" in capfd.readouterr().err


def test_one_serve_per_state_directory(tmp_path: Path) -> None:
    """A second one is refused and told the first one's process; afterwards the directory is free."""
    with (
        only_one(tmp_path),
        pytest.raises(AlreadyServing, match=f"process {os.getpid()} serves"),
        only_one(tmp_path),
    ):
        pass
    with only_one(tmp_path):
        pass


def test_children_read_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line overrides reaches the child processes through their environment."""
    overrides = Overrides(host="::1", port=9000, replicas=2, engine_urls=("http://a:1", "http://b:2/"))
    for name, value in environment_of(overrides.sections()).items():
        assert value is not None
        monkeypatch.setenv(name, value)
    assert load() == load(**overrides.sections())


def _settings(**sections: dict[str, object]) -> Settings:
    return load(**sections)


def test_examples_are_added_once(tmp_path: Path, store: ControlStore) -> None:
    """The first start adds every example with a route; the next adds nothing."""
    library = tmp_path / "library"
    make_adapter(library / "first", seed=1)
    make_adapter(library / "second", seed=2)
    (library / "notes").mkdir()
    base = BaseIdentity(name="SmolLM2-135M-Instruct")
    assert seed_examples(_settings(), store, base, folder=library) == ["first", "second"]
    assert seed_examples(_settings(), store, base, folder=library) == []
    assert [row.ref for row in store.versions.rows()] == [VersionRef("first", 1), VersionRef("second", 1)]
    assert [route.name for route in store.routes.rows()] == ["first", "second"]


def test_somebody_elses_name_is_left_alone(tmp_path: Path, store: ControlStore) -> None:
    """An example is not added under a name that other weights have taken."""
    base = BaseIdentity(name="SmolLM2-135M-Instruct")
    seed_examples(_settings(), store, base, folder=make_adapter(tmp_path / "mine" / "first", seed=9).parent)
    library = make_adapter(tmp_path / "library" / "first", seed=1).parent
    assert seed_examples(_settings(), store, base, folder=library) == []
    assert len(store.versions.rows()) == 1


def test_examples_fit_the_default_base_only(tmp_path: Path, store: ControlStore) -> None:
    """Another base model gets no examples, and neither does another build of the default one."""
    library = make_adapter(tmp_path / "library" / "first").parent
    base = BaseIdentity(name="SmolLM2-135M-Instruct")
    assert seed_examples(_settings(base={"model": "org/other"}), store, base, folder=library) == []
    too_large = _settings(engine={"max_lora_rank": 1})
    assert seed_examples(too_large, store, base, folder=library) == []


def test_identity_without_the_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside attached engines the base model need not be on this machine; its name is known all the same."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    attached = _settings(engine={"urls": ("http://127.0.0.1:1",)})
    assert identity_of(attached) == BaseIdentity(name="SmolLM2-135M-Instruct")


def test_a_base_model_that_is_not_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """To start engines here, the base model must be here, and the message says how to get it."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gateway.supervise.serve.require_packages", lambda _settings: None)
    assert serve(None, Overrides(port=0), examples=True) == 1
    assert "make base" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("routes", "needs_key", "parts"),
    [
        ((), False, ['"model": "small"', "http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type"]),
        (("entities", "sentiment"), False, ['"model": "sentiment"', "Is this movie review"]),
        (("mine",), True, ['"model": "mine"', 'Authorization: Bearer $TURNOUT_API_KEY"']),
    ],
)
def test_the_ready_message_has_a_line_to_try(
    routes: tuple[str, ...], needs_key: bool, parts: list[str]
) -> None:
    """The curl line asks a route that works, with a key where one is needed, and breaks no quoting."""
    facts = Ready("http://127.0.0.1:8080", "small", routes, (), needs_key, ".turnout/logs")
    line = curl(facts)
    assert all(part in line for part in parts)
    assert line.count("'") == 4
    printed = io.StringIO()
    Report(Console(file=printed, width=40)).ready(facts)
    assert line in printed.getvalue()


def test_progress_elsewhere_than_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal each new step is one line."""
    monkeypatch.setattr("gateway.supervise.report.time.monotonic", lambda: 100.0)
    printed = io.StringIO()
    report = Report(Console(file=printed, width=200))
    for what in ("one", "one", "two"):
        report.progress(what)
    assert printed.getvalue().splitlines() == ["one … 0 s", "two … 0 s"]


@pytest.mark.parametrize(
    ("slots", "standing", "state", "waits"),
    [
        pytest.param(4, ["a@1"], "active", ["b waits for b@1"], id="room-is-left"),
        pytest.param(1, ["a@1"], "active", [], id="full-the-rest-comes-on-demand"),
        pytest.param(1, ["a@1"], "preparing", ["b waits for b@1"], id="full-and-a-swap-waits"),
        pytest.param(4, ["a@1", "b@1"], "active", [], id="all-stand"),
    ],
)
def test_what_the_ready_message_waits_for(
    store: ControlStore, slots: int, standing: list[str], state: RouteState, waits: list[str]
) -> None:
    """Routes whose versions may still come to stand are waited for; what no slot is left for is not."""
    epoch = store.fleet.acquire(CONTROLLER, "test", ttl_s=60) or 0
    store.fleet.set_replicas({"r0": ("http://r0", None)})
    capacity = {"max_cpu_loras": slots}
    store.fleet.observe("r0", epoch=epoch, healthy=True, incarnation="1", capacity=capacity)
    for number, name in enumerate("ab"):
        store.versions.add(name, f"sha256:{number:064x}", {}, actor="test")
        route = store.routes.get(name)
        assert route is not None
        status = RouteStatus(
            state="active" if name == "a" else state,
            active_generation=route.generation,
            effective_arms=route.spec.arms,
        )
        store.routes.set_status(name, status, generation=route.generation, actor="test")
    for label in standing:
        ref = VersionRef.parse(label)
        assert ref is not None
        row = RegistrationRow("r0", ref, "1", "d", "attested", None, None, 0.0)
        store.fleet.set_registration(row, epoch=epoch)
    assert _pending(store) == waits
