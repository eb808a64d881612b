"""The tables of the loop. Part of `gateway.store.schema`."""

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text

from gateway.store import partial
from gateway.store.metadata import control

# One row a run of the loop (gateway.loops.run). A route has one open run at most, whoever begins it.
loop_runs = Table(
    "loop_runs",
    control,
    Column("id", String(64), primary_key=True),
    Column("route", String(64), nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("policy", JSON, nullable=False),
    Column("state", String(24), nullable=False),
    Column("since", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("reason", Text),
    Column("champion", String(80), nullable=False),
    Column("candidate", String(80)),
    Column("verdict", String(24)),
    Column("drift_id", BigInteger),
    Column("drift_at", Float),
    Column("starts", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("approvals", JSON, nullable=False),
    Column("stop", JSON(none_as_null=True)),
    Column("results", JSON, nullable=False),
    Column("generation", BigInteger),
    Column("host", String(255)),
    Column("revision", Integer, nullable=False),
    Index("loop_runs_route", "route", "created_at"),
    Index("loop_runs_candidate", "candidate"),
    Index("loop_runs_open", "route", unique=True),
)
partial.limit(loop_runs, "loop_runs_open", sqlite="ended_at IS NULL", postgresql="ended_at IS NULL")

# When a route was first seen with a loop, and whether a person has paused that.
loop_routes = Table(
    "loop_routes",
    control,
    Column("route", String(64), primary_key=True),
    Column("seen_at", Float, nullable=False),
    Column("paused_at", Float),
    Column("paused_by", String(128)),
    Column("why", Text),
)
