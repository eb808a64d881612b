"""The tables of what is learned from traffic, and of who is forgotten. Part of `gateway.store.schema`."""

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, String, Table, Text

from gateway.store.metadata import control

# What may be trained on or judged by, each from one request (`compared`: two) and the feedback on it. Texts
# are masked before they come here. `unit` is the request's subject, `other_unit` that of the second request,
# `key_id` the key that sent the feedback.
curated_rows = Table(
    "curated_rows",
    control,
    Column("id", String(40), primary_key=True),
    Column("route", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("other_id", String(64)),
    Column("unit", String(64)),
    Column("key_id", String(32), nullable=False),
    Column("adapter", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("split", String(16), nullable=False),
    Column("trusted", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("proposed_at", Float, nullable=False),
    Column("proposed_by", String(64), nullable=False),
    Column("messages", JSON, nullable=False),
    Column("answer", Text, nullable=False),
    Column("rejected", Text),
    Column("other_unit", String(64)),
    Column("novelty", Float),
    Column("decided_by", String(128)),
    Column("decided_at", Float),
    Column("rubric", JSON),
    Column("why", Text),
    Index("curated_rows_route", "route", "split", "state", "id"),
    Index("curated_rows_request", "request_id"),
)

# Which run of the loop used which row, and for what: `train`, `held_out_new` or `held_out_old`.
curated_uses = Table(
    "curated_uses",
    control,
    Column("run", String(64), primary_key=True),
    Column("row_id", String(40), primary_key=True),
    Column("part", String(16), nullable=False),
    Index("curated_uses_row", "row_id"),
)

# The golden sets of a route, one after the other; the one that is not retired is judged by.
golden_sets = Table(
    "golden_sets",
    control,
    Column("route", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("retired_at", Float),
)

golden_rows = Table(
    "golden_rows",
    control,
    Column("id", String(40), primary_key=True),
    Column("route", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("answer", Text, nullable=False),
    Column("slices", JSON, nullable=False),
    Column("request_id", String(64)),
    Column("unit", String(64)),
    Column("added_at", Float, nullable=False),
    Column("added_by", String(128), nullable=False),
    Index("golden_rows_set", "route", "number", "id"),
)

golden_uses = Table(
    "golden_uses",
    control,
    Column("route", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("run", String(64), primary_key=True),
    Column("candidate", String(80)),
    Column("at", Float, nullable=False),
)

# Who is forgotten: `id` is a keyed hash of the subject. What was recorded of them up to `until` is removed or
# being removed. `runs`, `routes` and `versions` say where it had been.
forgotten = Table(
    "forgotten",
    control,
    Column("id", String(64), primary_key=True),
    Column("pepper", String(16), nullable=False),
    Column("until", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("counts", JSON, nullable=False),
    Column("runs", JSON, nullable=False),
    Column("routes", JSON, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("cursor", JSON, nullable=False),
    Column("finished_at", Float),
)

# The same subjects as they are recorded on routes: keyed hashes of their pseudonyms.
forgotten_units = Table(
    "forgotten_units",
    control,
    Column("hash", String(64), primary_key=True),
    Column("pepper", String(16), nullable=False),
    Column("until", Float, nullable=False),
    Index("forgotten_units_until", "until"),
)
