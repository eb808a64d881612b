"""Partial indexes."""

from pathlib import Path

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, Table, create_engine, insert, text
from sqlalchemy.exc import IntegrityError

from gateway.store import partial


def test_an_index_is_limited_where_it_is_made(tmp_path: Path) -> None:
    """A unique index over a part of the rows lets the others be alike."""
    metadata = MetaData()
    runs = Table("runs", metadata, Column("route", Integer), Column("ended", Integer))
    Index("open_runs", runs.c.route, unique=True)
    partial.limit(runs, "open_runs", sqlite="ended IS NULL", postgresql="ended IS NULL")
    engine = create_engine(f"sqlite:///{tmp_path / 'one.db'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
        made = connection.execute(text("SELECT sql FROM sqlite_master WHERE name = 'open_runs'")).scalar_one()
        connection.execute(insert(runs), [{"route": 1, "ended": 5}, {"route": 1, "ended": 6}])
        connection.execute(insert(runs), {"route": 1})
    assert "WHERE ended IS NULL" in made
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(insert(runs), {"route": 1})
    engine.dispose()
