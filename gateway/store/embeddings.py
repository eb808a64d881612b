"""Sentence embeddings of recorded prompts: made once, kept as float16, and gone with their requests."""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import insert, select

from gateway.store.database import Database, retried
from gateway.store.schema import embeddings, request_rows

_IDS_AT_ONCE = 500


class Embeddings:
    """The embeddings table of the requests database. A vector is the bytes of its float16 numbers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, ids: Sequence[str], *, model: str) -> dict[str, bytes]:
        """Return the vectors that there are of these requests, by request."""
        found: dict[str, bytes] = {}
        for some in _parts(ids):
            query = select(embeddings.c.request_id, embeddings.c.vector).where(
                embeddings.c.model == model, embeddings.c.request_id.in_(some)
            )
            with self._database.read() as connection:
                found.update({row.request_id: bytes(row.vector) for row in connection.execute(query)})
        return found

    def add(self, vectors: Mapping[str, bytes], *, model: str) -> None:
        """Store vectors of requests that are there and have none of this model yet; leave the others out."""

        def write(some: Sequence[str]) -> None:
            with self._database.write() as connection:
                there = select(request_rows.c.id).where(request_rows.c.id.in_(some))
                done = select(embeddings.c.request_id).where(
                    embeddings.c.model == model, embeddings.c.request_id.in_(some)
                )
                wanted = set(connection.execute(there).scalars()) - set(connection.execute(done).scalars())
                if wanted:
                    connection.execute(
                        insert(embeddings),
                        [
                            {"request_id": key, "model": model, "vector": vectors[key]}
                            for key in sorted(wanted)
                        ],
                    )

        for some in _parts(list(vectors)):
            retried(lambda some=some: write(some))  # type: ignore[misc]


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]
