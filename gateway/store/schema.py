"""The tables, for SQLite and PostgreSQL alike.

Two sets, so that on SQLite recording never holds the lock that a feedback or a lease waits for:
`control` (routes, versions, keys, fleet, feedback) and `requests` (one row a request).
Times are seconds since the epoch. Documents are JSON.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from gateway.store.curated_tables import (
    curated_rows,
    curated_uses,
    forgotten,
    forgotten_units,
    golden_rows,
    golden_sets,
    golden_uses,
)
from gateway.store.loop_tables import loop_routes, loop_runs
from gateway.store.metadata import RowId, control, requests
from gateway.store.request_tables import embeddings, request_rows, shadow_pairs, usage_hours, usage_until
from gateway.store.watch_tables import watch_references, watches

__all__ = [
    "curated_rows", "curated_uses", "embeddings", "forgotten", "forgotten_units", "golden_rows",
    "golden_sets", "golden_uses", "loop_routes", "loop_runs", "request_rows", "requests", "shadow_pairs",
    "usage_hours", "usage_until", "watch_references", "watches",
]  # fmt: skip

generations = Table(
    "generations",
    control,
    Column("id", Integer, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

names = Table(
    "names",
    control,
    Column("name", String(64), primary_key=True),
    Column("last_version", Integer, nullable=False),
)

versions = Table(
    "versions",
    control,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("retired_at", Float),
    UniqueConstraint("name", "digest"),
    # What tables and the controller read of every version, without the manifests beside it.
    Index("versions_facts", "name", "version", "digest", "created_at", "retired_at"),
)

routes = Table(
    "routes",
    control,
    Column("name", String(64), primary_key=True),
    Column("spec", JSON, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("status", JSON, nullable=False),
    Column("updated_at", Float, nullable=False),
)

events = Table(
    "events",
    control,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("why", Text),
    Column("generation_before", BigInteger),
    Column("generation", BigInteger),
    Column("before", JSON),
    Column("after", JSON),
    # Of the key that asked for it: its label then, and where the request came from.
    Column("actor_name", String(128)),
    Column("address", String(64)),
    Index("events_subject", "subject", "id"),
)

keys = Table(
    "keys",
    control,
    Column("id", String(32), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("label", String(128), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    # What it may use, as patterns (`gateway.core.scopes`); null for everything.
    Column("models", JSON),
    # For limits of its own.
    Column("limits", JSON),
    # The pepper that `hash` was made with, by its public id; null in rows that are older than that.
    Column("pepper", String(16)),
    Column("rotated_at", Float),
    # The text of before the last rotation, and until when it is good.
    Column("previous_hash", String(64)),
    Column("previous_pepper", String(16)),
    Column("previous_until", Float),
)

# Limits of tenants and routes (`gateway.core.limits`); a key's own stand in its row. '*' is everybody of the
# scope who has none of his own.
limits = Table(
    "limits",
    control,
    Column("scope", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
)

# What each worker says of the limits that it counts (`gateway.limits`); `turn` grows each time it does.
limit_claims = Table(
    "limit_claims",
    control,
    Column("worker", String(64), primary_key=True),
    Column("turn", BigInteger, nullable=False),
    Column("said", JSON, nullable=False),
)

# Tokens that budgets have been spent, by day (2026-01-31) and month (2026-01) of UTC.
token_use = Table(
    "token_use",
    control,
    Column("scope", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("tokens", BigInteger, nullable=False),
)

feedback = Table(
    "feedback",
    control,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("route", String(64)),
    Column("adapter", String(80), nullable=False),
    Column("arm", String(80)),
    Column("metric", String(64), nullable=False),
    Column("value", JSON, nullable=False),
    Column("comment", Text),
    Column("key_id", String(32), nullable=False),
    # Of the rated request, so that a rating says by itself whom and what it is about, and when that was.
    Column("unit", String(64)),
    Column("exposed_at", Float),
    Column("internal", Boolean, nullable=False, server_default=false()),
    Index("feedback_request", "request_id"),
    Index("feedback_route", "route", "at"),
)

leases = Table(
    "leases",
    control,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),
)

replicas = Table(
    "replicas",
    control,
    Column("id", String(64), primary_key=True),
    Column("url", String(512), nullable=False),
    Column("adapter_root", String(1024)),
    Column("incarnation", String(64)),
    Column("healthy", Boolean, nullable=False),
    Column("reason", Text),
    Column("seen_at", Float),
    Column("capacity", JSON, nullable=False),
    Column("quarantine", JSON),
)

holds = Table(
    "holds",
    control,
    Column("replica", String(64), primary_key=True),
    Column("incarnation", String(64), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("at", Float, nullable=False),
    Column("ended_at", Float),
    Index("holds_digest", "digest"),
)

registrations = Table(
    "registrations",
    control,
    Column("replica", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("incarnation", String(64), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("state", String(16), nullable=False),
    Column("figures", JSON),
    Column("reason", Text),
    Column("at", Float, nullable=False),
)

# What an engine answered to probes when it was attested, the adapter (`own`) and the base model beside it.
# `prompts` is the digest of the prompts, in whose order the answers stand.
answers = Table(
    "answers",
    control,
    Column("digest", String(71), primary_key=True),
    Column("base_model", String(256), primary_key=True),
    Column("quantization", String(64), primary_key=True),
    Column("prompts", String(64), primary_key=True),
    Column("own", JSON, nullable=False),
    Column("base", JSON, nullable=False),
    Column("replica", String(64), nullable=False),
    Column("incarnation", String(64), nullable=False),
    Column("compared", Boolean, nullable=False),
    Column("at", Float, nullable=False),
    Column("noise", Float),
)

# Somebody wants a version proved now; `asked` is the generation at which they asked.
verifications = Table(
    "verifications",
    control,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("asked", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    control,
    Column("id", String(64), primary_key=True),
    Column("applied_generation", BigInteger, nullable=False),
    Column("in_flight", JSON, nullable=False),
    Column("seen_at", Float, nullable=False),
)

worker_usage = Table(
    "worker_usage",
    control,
    Column("worker", String(64), primary_key=True),
    Column("at", Float, nullable=False),
    Column("usage", JSON, nullable=False),
)

homes = Table(
    "homes",
    control,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("replica", String(64), primary_key=True),
)

cold_requests = Table(
    "cold_requests",
    control,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("refusal", Text),
)

residency = Table(
    "residency",
    control,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("cold_loads", BigInteger, nullable=False),
    Column("evictions", BigInteger, nullable=False),
)

drift = Table(
    "drift",
    control,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("route", String(64), nullable=False),
    Column("verdict", String(32), nullable=False),
    Column("figures", JSON, nullable=False),
    Column("report_html", String(1024)),
    Column("report_json", String(1024)),
    # What the watch says of its looks (`kind` is "sequential"); `looked_*` are times of requests.
    Column("kind", String(16), nullable=False, server_default="look"),
    Column("severity", String(16)),
    Column("cause", String(16)),
    Column("evidence", Float),
    Column("threshold", Float),
    Column("effect", Float),
    Column("looked_from", Float),
    Column("looked_to", Float),
    Column("adapter", String(80)),
    Index("drift_route", "route", "at"),
    Index("drift_calls", "severity", "kind", "route", "id"),  # the newest look that calls for a training
)

# From which generation on a route's traffic met which arms: `arms` is {label: share}, empty for none. With
# route, `salt` and subject that gives the arm (gateway.routing.experiments).
epochs = Table(
    "epochs",
    control,
    Column("route", String(64), primary_key=True),
    Column("from_generation", BigInteger, primary_key=True),
    Column("at", Float, nullable=False),
    Column("arms", JSON, nullable=False),
    Column("salt", String(64), nullable=False, server_default=""),
)

# What the controller last found of each route's experiment.
findings = Table(
    "findings",
    control,
    Column("route", String(64), primary_key=True),
    Column("at", Float, nullable=False),
    Column("figures", JSON, nullable=False),
)
