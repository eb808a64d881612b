"""The tables of the drift monitor's watch. Part of `gateway.store.schema`."""

from sqlalchemy import JSON, BigInteger, Column, Float, LargeBinary, String, Table, Text

from gateway.store.metadata import control

# Where the watch of each route stands: up to which request and which rating it has counted, its detector's
# state, and what its last look found. `looks` counts its writes, `reference` the route's references.
watches = Table(
    "watches",
    control,
    Column("route", String(64), primary_key=True),
    Column("looks", BigInteger, nullable=False),
    Column("adapter", String(80)),
    Column("basis", JSON, nullable=False),
    Column("reference", BigInteger, nullable=False),
    Column("state", JSON, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("seen_id", String(64), nullable=False),
    Column("rated_id", BigInteger, nullable=False),
    Column("looked_at", Float),
    Column("due_at", Float),
    Column("failed", BigInteger, nullable=False),
    Column("error", Text),
    Column("alarms", JSON, nullable=False),
    Column("figures", JSON, nullable=False),
)

# What a detector compares with, of each route the present one. It is large, and written once.
watch_references = Table(
    "watch_references",
    control,
    Column("route", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("document", JSON, nullable=False),
    Column("arrays", LargeBinary, nullable=False),
)
