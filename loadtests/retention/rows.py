"""Many recorded requests at once, made by the database itself."""

from sqlalchemy import insert, text

from gateway.store.database import Database
from gateway.store.schema import usage_until
from gateway.store.usage import hour_of

DAY_S = 86_400.0
_CHUNK = 250_000
_CACHE_KIB = 500_000
_COLUMNS = (
    "id, at, endpoint, key_id, tenant, requested_model, route, arm, arm_probability, unit, adapter, replica, "
    "generation, streamed, status, prompt_tokens, completion_tokens, queue_ms, ttft_ms, latency_ms, "
    "finish_reason, attempts, cold, internal, answer_id, prompt"
)
_VALUES = (
    "{id}, {at}, 'chat', 'key-' || ({n} % 50), 'tenant-' || ({n} % 20), 'route-' || ({n} % :routes), "
    "'route-' || ({n} % :routes), 'adapter-' || ({n} % 30) || '@1', 0.5, 'subject-' || ({n} % 100000), "
    "'adapter-' || ({n} % 30) || '@1', 'replica-' || ({n} % 4), 1000, {true}, 200, 220, 60, 0.2, 41.5, "
    "812.3, 'stop', 1, {false}, {false}, 'chatcmpl-' || {id}, CAST(:prompt AS text)"
)
_SQLITE = (
    (
        "WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :end) "
        "SELECT {values} FROM numbers"
    ),
    _VALUES.format(
        id="printf('req-%08x%024x', CAST(:since + n * :step AS INTEGER), n)",
        at=":since + n * :step",
        n="n",
        true="1",
        false="0",
    ),
)
_POSTGRESQL = (
    "SELECT {values} FROM generate_series(CAST(:first AS bigint), CAST(:end AS bigint) - 1) AS n",
    _VALUES.format(
        id="('req-' || lpad(to_hex(CAST(floor(:since + n * :step) AS bigint)), 8, '0') "
        "|| lpad(to_hex(n), 24, '0'))",
        at=":since + n * :step",
        n="n",
        true="true",
        false="false",
    ),
)


def fill(
    database: Database,
    count: int,
    *,
    since: float,
    until: float,
    routes: int = 30,
    prompt: str | None = None,
) -> None:
    """Record so many requests, evenly spread over a time (seconds since the epoch), the oldest first.

    `prompt` is what was captured of each.

    Their usage counts as summed up, as it would be had they come one by one: what it lacks is never removed.
    """
    select, values = _SQLITE if database.url.startswith("sqlite") else _POSTGRESQL
    statement = text(f"INSERT INTO requests ({_COLUMNS}) {select.format(values=values)}")
    step = (until - since) / count
    for first in range(0, count, _CHUNK):
        end = min(first + _CHUNK, count)
        with database.write() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA cache_size=-{_CACHE_KIB}")
            given = {"first": first, "end": end, "since": since, "step": step}
            connection.execute(statement, {**given, "routes": routes, "prompt": prompt})
    with database.write() as connection:
        connection.execute(insert(usage_until).values(id=1, until=hour_of(until)))
