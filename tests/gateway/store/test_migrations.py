"""Stores of every schema there ever was are brought up to date with what is in them.

A row is written into every table at every revision, and all of them are there at the end. No release was
made yet, so every revision counts as one.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DatabaseError

from gateway.core.routes import RouteSpec, RouteStatus
from gateway.store import migrating
from gateway.store.control import ControlStore
from gateway.store.database import Database, Schema, SchemaTooNew
from gateway.store.requests import Requests
from gateway.store.revisions import newest_written

SCHEMAS: list[Schema] = ["control", "requests"]
ARM = {"adapter": "a@1", "share": 1.0}
STATUS = RouteStatus.model_validate({"state": "active", "active_generation": 1, "effective_arms": [ARM]})
DOCUMENTS = {
    ("routes", "spec"): RouteSpec.model_validate({"arms": [ARM]}).model_dump(mode="json"),
    ("routes", "status"): STATUS.model_dump(mode="json"),
    ("epochs", "arms"): {"a@1": 1.0},
    ("keys", "roles"): ["inference"],
    ("keys", "models"): None,
    ("keys", "limits"): None,
    ("feedback", "value"): True,
}
VALUES: list[tuple[type, Callable[[int], Any]]] = [
    (JSON, lambda number: {"row": number}),
    (LargeBinary, lambda number: number.to_bytes(4, "big")),
    (Boolean, lambda number: number % 2 == 0),
    (Integer, lambda number: number),
    (Float, float),
]
ONE_ROW = {"generations"}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Callable[[Schema], str]]:
    """Returns where an empty database for a schema is."""
    if request.param == "sqlite":
        yield lambda name: f"sqlite:///{tmp_path}/{name}.db"
        return
    with request.getfixturevalue("postgresql").database(empty=True) as url:
        yield lambda _: url


def value_for(column: Any, number: int) -> Any:
    """A value for a column that says which row it is of; a foreign key's is that of the row it leads to."""
    for key in column.foreign_keys:
        return value_for(key.column, number)
    if (column.table.name, column.name) in DOCUMENTS:
        return DOCUMENTS[column.table.name, column.name]
    for kind, value in VALUES:
        if isinstance(column.type, kind):
            return value(number)
    text_of = f"sha256:{number:064x}" if column.name == "digest" else f"{column.name[:10]}-{number}"
    return text_of[: column.type.length]


def fill(connection: Connection, number: int) -> dict[str, dict[str, Any]]:
    """Write a row into every table as it is now; return them by table."""
    found = MetaData()
    found.reflect(connection)
    rows: dict[str, dict[str, Any]] = {}
    for table in found.sorted_tables:
        if table.name.startswith("alembic_") or (table.name in ONE_ROW and number > 1):
            continue
        rows[table.name] = {column.name: value_for(column, number) for column in table.columns}
        connection.execute(insert(table).values(rows[table.name]))
    return rows


def at(database: Database, revision: str) -> None:
    """Bring the tables to a revision."""
    with database.write() as connection:
        migrating.upgrade(connection, database.schema, to=revision)


def held(connection: Connection, table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """What became of a row, as far as its columns are still there."""
    key = [column for column in table.primary_key.columns if column.name in row]
    found = connection.execute(select(table).where(*(column == row[column.name] for column in key))).one()
    return {name: value for name, value in found._asdict().items() if name in row}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_schema_is_brought_up_to_date(empty_url: Callable[[Schema], str], schema: Schema) -> None:
    """Rows that were written under any older schema are all there under the newest, unchanged."""
    database = Database(empty_url(schema), schema)
    written = []
    for number, revision in enumerate(migrating.revisions(schema), start=1):
        at(database, revision)
        with database.write() as connection:
            written.append(fill(connection, number))
    database.migrate()
    with database.read() as connection:
        tables = MetaData()
        tables.reflect(connection)
        for rows in written:
            for name, row in rows.items():
                assert held(connection, tables.tables[name], row) == {
                    column: value for column, value in row.items() if column in tables.tables[name].columns
                }, name
    database.close()


def test_the_stores_read_what_was_there(empty_url: Callable[[Schema], str]) -> None:
    """What the first schemas held is read by today's stores: routes, versions, keys, ratings, requests."""
    control = Database(empty_url("control"), "control")
    at(control, migrating.revisions("control")[0])
    with control.write() as connection:
        fill(connection, 1)
    control.migrate()
    store = ControlStore(control)
    snapshot = store.snapshot()
    assert [route.spec.arms[0].adapter for route in snapshot.routes] == ["a@1"]
    assert [row.digest for row in store.versions.rows()] == [f"sha256:{1:064x}"]
    assert [key.id for key in snapshot.keys] == ["id-1"]
    assert [row.value for row in store.feedback.rows("route-1")] == [True]
    assert [row.arms for row in store.epochs.rows("name-1")] == [{"a@1": 1.0}]
    assert [event.action for event in store.events.rows()] == ["action-1"]
    requests = Database(empty_url("requests"), "requests")
    at(requests, migrating.revisions("requests")[0])
    with requests.write() as connection:
        fill(connection, 2)
    requests.migrate()
    found = Requests(requests).find("id-2")
    assert found is not None
    assert (found.at, found.route, found.cold) == (2.0, "route-2", False)
    control.close()
    requests.close()


def test_pairs_of_answers_come_to_name_both_subjects(empty_url: Callable[[Schema], str]) -> None:
    """Of rows from before, the subject of the worse answer is told by its feedback."""
    control = Database(empty_url("control"), "control")
    at(control, "0018")
    with control.write() as connection:
        found = MetaData()
        found.reflect(connection)
        for number, other in ((1, "request_id-9"), (2, None), (3, "elsewhere")):
            table = found.tables["curated_rows"]
            row = {column.name: value_for(column, number) for column in table.columns}
            connection.execute(insert(table).values({**row, "other_id": other}))
        rating = {column.name: value_for(column, 9) for column in found.tables["feedback"].columns}
        connection.execute(insert(found.tables["feedback"]).values(rating))
    control.migrate()
    known = ControlStore(control).curation.many(["id-1", "id-2", "id-3"])
    assert {each: row.other_unit for each, row in known.items()} == {
        "id-1": "unit-9",
        "id-2": None,
        "id-3": None,
    }
    control.close()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_store_that_is_up_to_date_is_opened_without_alembic(
    empty_url: Callable[[Schema], str], schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest revision is known by the files' names, and only an older one loads Alembic."""
    assert newest_written(schema) == migrating.newest(schema)
    database = Database(empty_url(schema), schema)
    database.migrate()
    monkeypatch.setitem(sys.modules, "gateway.store.migrating", None)
    monkeypatch.delattr("gateway.store.migrating")
    database.migrate()
    with database.write() as connection:
        connection.execute(text(f"DELETE FROM alembic_{schema}"))  # noqa: S608 - one of two
    with pytest.raises(ImportError):
        database.migrate()
    database.close()


def test_a_newer_schema_is_refused(empty_url: Callable[[Schema], str]) -> None:
    """A store that a newer Turnout has changed is left alone, with the reason and what to do."""
    database = Database(empty_url("control"), "control")
    database.migrate()
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_control SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match=r"schema 9999 of a newer Turnout.*docs/backup\.md"):
        database.migrate()
    with database.read() as connection:
        assert migrating.revision_of(connection, "control") == "9999"
    database.close()


def test_a_migration_that_fails_leaves_the_old_tables(
    empty_url: Callable[[Schema], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration is one transaction: whatever breaks it, the store is as it was, and may be tried again."""
    database = Database(empty_url("control"), "control")
    first, second = migrating.revisions("control")[:2]
    at(database, first)

    def broken(config: Any, _to: str) -> None:
        config.attributes["connection"].execute(text("DROP TABLE routes"))
        config.attributes["connection"].execute(text("SELECT nonsense FROM nowhere"))

    with monkeypatch.context() as patch:
        patch.setattr(migrating.command, "upgrade", broken)
        with pytest.raises(Exception, match="nowhere") as failed:
            database.migrate()
    assert not isinstance(failed.value, DatabaseError)  # what the stores raise is StoreUnavailable
    at(database, second)
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM routes")).scalar() == 0
    database.close()
