"""Back-ups: taken while rows are written, whole or not there, and put back only where nothing is."""

import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from adapters.manifest import BaseIdentity
from adapters.registry import Registry
from gateway.backups import databases, whole
from gateway.backups.databases import BackupFailed
from gateway.backups.folder import Contents
from gateway.backups.whole import JUMP, NUMBERS_JUMP, Places, back_up, restore
from gateway.cli.main import build_app
from gateway.core.requests import RequestRow
from gateway.store import migrating
from gateway.store.control import ControlStore
from gateway.store.database import Database, Schema, StoreUnavailable
from gateway.store.fleet import CONTROLLER, WorkerRow
from gateway.store.requests import Requests
from gateway.supervise.lock import only_one
from tests.adapters.folders import make_adapter


def row(number: int, *, generation: int = 0) -> RequestRow:
    """One recorded request."""
    return RequestRow(f"req-{number:032x}", float(number), "completions", route="r", generation=generation)


def fill(places: Places, folder: Path) -> None:
    """Make stores with a version, a leading controller, a worker, and requests, and a pepper."""
    control, requests = opened(places)
    store = ControlStore(control)
    registry = Registry(
        places.blob_root, store.versions, base=BaseIdentity(name="SmolLM2-135M-Instruct"), max_rank=64
    )
    registry.add("support", make_adapter(folder / "adapter"), actor="test")
    store.fleet.acquire(CONTROLLER, "before", ttl_s=3600)
    store.fleet.beat(WorkerRow("before", 1, {}, 1.0))
    Requests(requests).write([row(number, generation=7) for number in range(1, 101)])
    places.pepper.write_bytes(os.urandom(32))
    control.close()
    requests.close()


def opened(places: Places) -> tuple[Database, Database]:
    """Both databases, with their tables."""
    made = (Database(places.urls["control"], "control"), Database(places.urls["requests"], "requests"))
    for database in made:
        database.migrate()
    return made


def places_in(folder: Path, url: Callable[[Schema], str]) -> Places:
    """The places of a machine."""
    folder.mkdir(exist_ok=True)
    return Places(
        {"control": url("control"), "requests": url("requests")}, folder / "adapters", folder / "pepper"
    )


def on_sqlite(folder: Path) -> Places:
    """The places of a machine with SQLite."""
    return places_in(folder, lambda schema: f"sqlite:///{folder}/{schema}.db")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a machine with SQLite, to be copied."""
    folder = tmp_path_factory.mktemp("filled")
    fill(on_sqlite(folder / "old"), folder)
    return folder / "old"


@pytest.fixture
def old(filled: Path, tmp_path: Path) -> Places:
    """A machine with SQLite."""
    shutil.copytree(filled, tmp_path / "old")
    return on_sqlite(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Places:
    """One that has nothing yet."""
    return on_sqlite(tmp_path / "new")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Places, Places]]:
    """A machine that has something, and one that has nothing yet."""
    if request.param == "sqlite":
        yield request.getfixturevalue("old"), request.getfixturevalue("new")
        return
    server = request.getfixturevalue("postgresql")
    with server.database() as first, server.database(empty=True) as second:
        old, new = places_in(tmp_path / "old", lambda _: first), places_in(tmp_path / "new", lambda _: second)
        fill(old, tmp_path)
        yield old, new


def test_there_and_back(two: tuple[Places, Places], tmp_path: Path) -> None:
    """What was backed up is all there on the other machine, and begins anew above every generation."""
    old, new = two
    made = back_up(old, tmp_path / "backup")
    assert restore(new, tmp_path / "backup") == made
    control, requests = opened(new)
    store = ControlStore(control)
    (version,) = store.versions.rows()
    assert (new.blob_root / "blobs" / version.digest.removeprefix("sha256:")).is_dir()
    assert [route.name for route in store.routes.rows()] == ["support"]
    assert len(Requests(requests).window("r", limit=1000)) == 100
    assert new.pepper.read_bytes() == old.pepper.read_bytes()
    assert store.generation() > max(made.generation, 7) + JUMP - 1
    assert store.events.rows(limit=1)[0].action == "store.restored"
    assert store.fleet.workers() == []
    assert store.fleet.acquire(CONTROLLER, "after", ttl_s=5) == 2
    with pytest.raises(StoreUnavailable, match="append-only"), control.write() as connection:
        connection.execute(text("DELETE FROM events"))
    control.close()
    requests.close()


def test_no_version_gets_a_number_that_was_given(old: Places, new: Places, tmp_path: Path) -> None:
    """What was added after the copy had numbers too: they are left out, also of names that only rows know."""
    control, requests = opened(old)
    Requests(requests).write([replace(row(200), adapter="sales@3"), replace(row(201), adapter="base")])
    back_up(old, tmp_path / "backup")
    control.close()
    requests.close()
    restore(new, tmp_path / "backup")
    control, requests = opened(new)
    store = ControlStore(control)
    registry = Registry(
        new.blob_root, store.versions, base=BaseIdentity(name="SmolLM2-135M-Instruct"), max_rank=64
    )
    adapter = make_adapter(tmp_path / "another", seed=2)
    made = [registry.add(name, adapter, actor="test")[0].ref for name in ("support", "sales", "new")]
    assert [str(ref) for ref in made] == [f"support@{NUMBERS_JUMP + 2}", f"sales@{NUMBERS_JUMP + 4}", "new@1"]
    before = [store.versions.before(ref) for ref in made]
    assert [str(found[0]) if found else None for found in before] == ["support@1", None, None]
    assert [route.name for route in store.routes.rows()] == ["new", "sales", "support"]
    control.close()
    requests.close()


@pytest.mark.slow
def test_only_their_owner_reads_them(two: tuple[Places, Places], tmp_path: Path) -> None:
    """Back-up and restored files are their owner's alone."""
    old, new = two
    back_up(old, tmp_path / "backup")
    restore(new, tmp_path / "backup")
    for path in (tmp_path / "backup", tmp_path / "backup" / "pepper", new.pepper):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.slow
def test_nothing_is_overwritten(two: tuple[Places, Places], tmp_path: Path) -> None:
    """Neither a folder, nor a store that is there, nor one of a newer Turnout."""
    old, new = two
    back_up(old, tmp_path / "backup")
    with pytest.raises(BackupFailed, match="exists"):
        back_up(old, tmp_path / "backup")
    with pytest.raises(BackupFailed, match="nothing is overwritten"):
        restore(old, tmp_path / "backup")
    control = Database(old.urls["control"], "control")
    with control.write() as connection:
        connection.execute(text("UPDATE alembic_control SET version_num = '9999'"))
    control.close()
    with pytest.raises(StoreUnavailable, match="schema 9999 of a newer Turnout"):
        restore(old, tmp_path / "backup")
    restore(new, tmp_path / "backup")


@pytest.mark.slow
def test_while_rows_are_written(old: Places, new: Places, tmp_path: Path) -> None:
    """Who writes goes on, and the copy is of one moment: rows without a gap."""
    database = Database(old.urls["requests"], "requests", durable=False)
    stop = threading.Event()
    begun = threading.Event()

    def write() -> None:
        number = 101
        while not stop.is_set():
            Requests(database).write([row(number)])
            number += 1
            begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(10)
    back_up(old, tmp_path / "backup")
    stop.set()
    thread.join()
    database.close()
    restore(new, tmp_path / "backup")
    _, requests = opened(new)
    found = sorted(
        int(each.id.removeprefix("req-"), 16) for each in Requests(requests).window("r", limit=10**6)
    )
    assert found == list(range(1, len(found) + 1))
    requests.close()


def test_a_back_up_that_fails_leaves_nothing(
    old: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there whole or not at all."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole, "copy_blob", full)
    with pytest.raises(OSError, match="No space"):
        back_up(old, tmp_path / "backups" / "one")
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("control.db", "is not what was backed up"),
        ("pepper", "is not what was backed up"),
        ("blob", "is not what was backed up"),
        ("backup.json", "is no back-up of Turnout"),
        ("schema", "restore it with Turnout"),
        ("format", "newer Turnout"),
    ],
)
def test_what_is_not_put_back(old: Places, new: Places, tmp_path: Path, damage: str, says: str) -> None:
    """A back-up that is damaged, or newer than this Turnout, is refused with the reason; nothing is made."""
    folder = tmp_path / "backup"
    back_up(old, folder)
    if damage == "blob":
        weights = next((folder / "blobs").glob("*/adapter_model.safetensors"))
        weights.chmod(0o600)
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif damage in ("schema", "format"):
        found = json.loads((folder / "backup.json").read_text())
        if damage == "schema":
            found["stores"]["requests"]["schema"] = "9999"
        else:
            found["format"] = 2
        (folder / "backup.json").write_text(json.dumps(found))
    elif damage == "backup.json":
        (folder / damage).unlink()
    else:
        (folder / damage).chmod(0o600)
        (folder / damage).write_bytes(b"x")
    with pytest.raises(BackupFailed, match=says):
        restore(new, folder)
    assert not (tmp_path / "new" / "control.db").exists()


@pytest.mark.slow
def test_an_older_back_up_is_brought_up_to_date(old: Places, new: Places, tmp_path: Path) -> None:
    """What an older Turnout backed up is restored and migrated."""
    place = old.urls["control"].removeprefix("sqlite:///")
    Path(place).unlink()
    control = Database(old.urls["control"], "control")
    with control.write() as connection:
        migrating.upgrade(connection, "control", to=migrating.revisions("control")[0])
    control.close()
    made = back_up(old, tmp_path / "backup")
    assert made.stores["control"].schema == migrating.revisions("control")[0]
    restore(new, tmp_path / "backup")
    control, requests = opened(new)
    assert databases.schema_in(control) == migrating.newest("control")
    control.close()
    requests.close()


def test_files_that_are_not_here(old: Places, tmp_path: Path) -> None:
    """Versions whose files are not on this machine are named."""
    shutil.rmtree(old.blob_root)
    made = back_up(old, tmp_path / "backup", requests=False, pepper=False)
    assert len(made.missing) == 1
    assert made.blobs == ()
    assert set(made.files) == {"control.db"}
    assert Contents.read(tmp_path / "backup") == made


def test_programs_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PostgreSQL's programs it is said what to install."""
    monkeypatch.setattr(databases.shutil, "which", lambda _: None)
    monkeypatch.setattr(databases, "_debian", lambda _: None)
    with pytest.raises(BackupFailed, match="postgresql-client"):
        databases.dump_postgresql("postgresql+psycopg://u:p@h/d", tmp_path / "dump")


@pytest.mark.slow
def test_the_commands(old: Places, tmp_path: Path) -> None:
    """The two commands say what they did; where a service runs nothing is restored."""
    runner = CliRunner()

    def run(*arguments: str, state: str) -> tuple[int, str]:
        env = {"TURNOUT_STATE_DIR": str(tmp_path / state), "TURNOUT_CONFIG": str(tmp_path / "none.toml")}
        result = runner.invoke(build_app(), arguments, env=env)
        return result.exit_code, result.output

    code, said = run("backup", str(tmp_path / "one"), state="old")
    assert (code, "backed up to" in said, "1 adapters" in said) == (0, True, True)
    assert run("backup", str(tmp_path / "one"), state="old")[0] == 1
    with only_one(tmp_path / "third"):
        code, said = run("restore", str(tmp_path / "one"), state="third")
        assert (code, "serves from" in said) == (1, True)
    code, said = run("restore", str(tmp_path / "one"), "--json", state="third")
    assert (code, json.loads(said)["stores"]["control"]["kind"]) == (0, "sqlite")
    assert old.pepper.exists()
