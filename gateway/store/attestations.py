"""What proofs leave behind: the answers that engines gave when they were attested, and wishes for a proof.

Answers are the tightest reference there is: one engine says what another one said, to the last digit or
nearly so. They are written under the controller's lease, are replaced by better ones alone, and go when no
proof can need them.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, union

from gateway.core.refs import VersionRef
from gateway.store import clock, events
from gateway.store.database import Database
from gateway.store.lease import require_epoch
from gateway.store.schema import answers, registrations, verifications, versions

Answers = tuple[dict[str, float], ...]
"""One entry a prompt: the likeliest first tokens, token id → log-probability."""


@dataclass(frozen=True, slots=True)
class EngineAnswersKey:
    """Whose answers to what: a version's digest, on which base model, to which prompts (their digest)."""

    digest: str
    base_model: str
    quantization: str
    prompts: str


@dataclass(frozen=True, slots=True)
class EngineAnswers:
    """What one engine answered, with the adapter and with the base model alone.

    `compared` says that the adapter's answers agreed with a reference that was made elsewhere. `noise` is
    how far such answers are apart when that engine gives them again, in nats; None where nobody noted it.
    """

    key: EngineAnswersKey
    own: Answers
    base: Answers
    replica: str
    incarnation: str
    compared: bool
    noise: float | None = None


class Attestations:
    """The answers of attested engines, and who wants which version proved."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def answers(self, key: EngineAnswersKey) -> EngineAnswers | None:
        """Return what was recorded under `key`, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(answers).where(_same(key))).one_or_none()
        return None if row is None else _found(key, row)

    def record(self, found: EngineAnswers, *, epoch: int) -> EngineAnswers:
        """Keep the first answers under a key; return those that stand there now.

        Answers that were compared replace answers that were not, and those of a quiet engine replace those
        of one that was busy with other requests: their noise is at most half as much.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            row = connection.execute(select(answers).where(_same(found.key))).one_or_none()
            if row is not None and not _better(found, row):
                return _found(found.key, row)
            connection.execute(delete(answers).where(_same(found.key)))
            values = {**asdict(found.key), "own": list(found.own), "base": list(found.base)}
            connection.execute(
                insert(answers).values(
                    **values,
                    replica=found.replica,
                    incarnation=found.incarnation,
                    compared=found.compared,
                    noise=found.noise,
                    at=time.time(),
                )
            )
        return found

    def forget_unneeded(self, *, retired_for_s: float, epoch: int) -> int:
        """Drop the answers that no proof will be compared with; return of how many there were.

        Needed are those of versions that are active, were retired less than `retired_for_s` seconds ago or
        stand on a replica, and those of the version before each of them, which it must be told apart from.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        after, any_after = versions.alias("after"), versions.alias("any_after")
        later = (any_after.c.name == versions.c.name) & (any_after.c.version > versions.c.version)
        number = select(func.min(any_after.c.version)).where(later).correlate(versions).scalar_subquery()
        followed = versions.join(after, (after.c.name == versions.c.name) & (after.c.version == number))
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            since = clock.now(connection) - retired_for_s
            own, next_one = (or_(t.c.retired_at.is_(None), t.c.retired_at > since) for t in (versions, after))
            standing = select(registrations.c.name, registrations.c.version).subquery()
            stands = (standing.c.name == after.c.name) & (standing.c.version == after.c.version)
            needed = union(
                select(versions.c.digest).where(own),
                select(registrations.c.digest),
                select(versions.c.digest).select_from(followed).where(next_one),
                select(versions.c.digest).select_from(followed.join(standing, stands)),
            )
            done = connection.execute(delete(answers).where(answers.c.digest.not_in(needed)))
            return int(done.rowcount)

    def ask(
        self, ref: VersionRef, *, actor: str, why: str | None = None, forget_digest: str | None = None
    ) -> int:
        """Have the controller prove a version now, on every replica that has it.

        With `forget_digest` the answers of that digest are dropped first, so that the next proof that
        passes records new ones.

        Returns the number of this wish. A registration whose figures say `asked` with that number or a
        higher one has answered it.
        """
        with self._database.write() as connection:
            if forget_digest is not None:
                connection.execute(delete(answers).where(answers.c.digest == forget_digest))
            same = (verifications.c.name == ref.name) & (verifications.c.version == ref.version)
            last = connection.execute(select(verifications.c.asked).where(same)).scalar_one_or_none()
            asked = events.record(
                connection,
                actor=actor,
                action="adapter.verify",
                subject=str(ref),
                why=why,
                before={"asked": last},
                after={"answers": "kept" if forget_digest is None else "forgotten"},
            )
            connection.execute(delete(verifications).where(same))
            connection.execute(insert(verifications).values(name=ref.name, version=ref.version, asked=asked))
        return asked

    def asked(self) -> dict[VersionRef, int]:
        """Return the latest wish for each version that somebody wanted proved."""
        with self._database.read() as connection:
            return {
                VersionRef(row.name, row.version): int(row.asked)
                for row in connection.execute(select(verifications))
            }


def _same(key: EngineAnswersKey) -> ColumnElement[bool]:
    return and_(
        answers.c.digest == key.digest,
        answers.c.base_model == key.base_model,
        answers.c.quantization == key.quantization,
        answers.c.prompts == key.prompts,
    )


def _found(key: EngineAnswersKey, row: Any) -> EngineAnswers:
    return EngineAnswers(
        key, tuple(row.own), tuple(row.base), row.replica, row.incarnation, row.compared, row.noise
    )


def _better(found: EngineAnswers, row: Any) -> bool:
    """Whether new answers take the place of those that stand there."""
    if found.compared != row.compared:
        return found.compared
    return found.noise is not None and (row.noise is None or found.noise <= row.noise / 2)
