"""The tables of the database `requests`: what was asked and answered, and what is made of it."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    false,
)

from gateway.store import partial
from gateway.store.metadata import requests

request_rows = Table(
    "requests",
    requests,
    Column("id", String(64), primary_key=True),
    Column("at", Float, nullable=False),
    Column("endpoint", String(32), nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("client_request_id", String(128)),
    Column("requested_model", String(256), nullable=False),
    Column("route", String(64)),
    Column("arm", String(80)),
    Column("arm_probability", Float),
    Column("unit", String(64)),
    Column("adapter", String(80), nullable=False),
    Column("replica", String(64)),
    Column("generation", BigInteger, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error_code", String(64)),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("queue_ms", Float),
    Column("ttft_ms", Float),
    Column("latency_ms", Float, nullable=False),
    Column("finish_reason", String(32)),
    Column("attempts", Integer, nullable=False),
    Column("cold", Boolean, nullable=False, server_default=false()),
    Column("internal", Boolean, nullable=False),
    Column("prompt", Text),
    Column("answer", Text),
    Column("answer_id", String(128)),
    Column("schema_valid", Boolean),
    Index("requests_route", "route", "at"),
    # An engine makes the answer's id of ours, which finds the row. Only the others need this index, which
    # would cost a third of each insert.
    Index("requests_answer", "answer_id"),
)
partial.limit(
    request_rows,
    "requests_answer",
    sqlite="instr(answer_id, id) = 0",
    postgresql="strpos(answer_id, id) = 0",
)

# What was asked for in each hour that is over and settled: it stays when the requests are pruned. `route` is
# empty where none was asked for.
usage_hours = Table(
    "usage_hours",
    requests,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", String(32), primary_key=True),
    Column("tenant", String(64), primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("adapter", String(80), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)

# One row: up to when hours are summed up.
usage_until = Table(
    "usage_until",
    requests,
    Column("id", Integer, primary_key=True),
    Column("until", BigInteger, nullable=False),
)

# Sentence embeddings of prompts, float16, made by the watch and never on a request's path.
embeddings = Table(
    "embeddings",
    requests,
    Column(
        "request_id", String(64), ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True
    ),  # gone with the request
    Column("model", String(200), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
)

# Two answers to one request: the one that the client got (`adapter`), and the shadow's. `id` and `shadow_id`
# are rows of `requests`.
shadow_pairs = Table(
    "shadow_pairs",
    requests,
    Column("id", String(64), primary_key=True),
    Column("shadow_id", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("endpoint", String(32), nullable=False),
    Column("route", String(64), nullable=False),
    Column("adapter", String(80), nullable=False),
    Column("shadow", String(80), nullable=False),
    Column("prompt", Text),
    Column("answer", Text),
    Column("shadow_answer", Text),
    Column("shadow_status", Integer, nullable=False),
    Column("shadow_error", String(64)),
    Column("finish_reason", String(32)),
    Column("shadow_finish_reason", String(32)),
    Column("completion_tokens", Integer),
    Column("shadow_completion_tokens", Integer),
    Column("latency_ms", Float, nullable=False),
    Column("shadow_latency_ms", Float, nullable=False),
    Index("shadow_pairs_route", "route", "at"),
)
