"""What to do on one replica: the difference between what should stand there and what does. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.core.refs import VersionRef
from gateway.store.fleet import RegistrationRow

RETRY_FIRST_S = 2.0
RETRY_LONGEST_S = 300.0
CLOCK_JUMP_S = 5.0
"""A stored time that lies further in the future was written before a clock jumped; it delays nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version that should stand on a replica. `path` is where that engine reads its blob.

    `asked` numbers the latest wish for a proof; 0 when nobody ever wished for one.
    """

    ref: VersionRef
    digest: str
    path: str
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the row of a version that should not stand here, so that no worker sends to it any more."""

    ref: VersionRef


@dataclass(frozen=True, slots=True)
class Register:
    """Load a version, then attest it. `listed_path` is what the engine has under its name, if anything.

    A `retry` begins with an unload: what is loaded has failed before.
    """

    wanted: Wanted
    listed_path: str | None
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Attest:
    """Prove a version that is loaded; `again` when it was proved before and the proof has aged."""

    wanted: Wanted
    again: bool = False


@dataclass(frozen=True, slots=True)
class Unregister:
    """Unload a name that nothing wants and no row knows, once no request can be on its way to it."""

    name: str


Action = Forget | Register | Attest | Unregister


def actions(
    wanted: Sequence[Wanted],
    rows: Iterable[RegistrationRow],
    listed: Mapping[str, str],
    *,
    now: float,
    attest_every_s: float,
) -> list[Action]:
    """Return what to do on one replica, in order.

    `rows` are those of the replica's present incarnation, `listed` what the engine has registered
    (name → path), `now` is seconds since the epoch. Traffic is first taken off what goes; then come the
    versions in the order in which they are wanted, then ageing proofs, and clearing away is last.
    """
    by_ref = {row.ref: row for row in rows}
    refs = {each.ref for each in wanted}
    forget = [Forget(ref) for ref in sorted(by_ref.keys() - refs)]
    fresh: list[Action] = []
    ageing: list[Action] = []
    for each in wanted:
        action = _for_one(each, by_ref.get(each.ref), listed, now=now, attest_every_s=attest_every_s)
        if isinstance(action, Attest) and action.again:
            ageing.append(action)
        elif action is not None:
            fresh.append(action)
    names = {str(ref) for ref in refs} | {str(ref) for ref in by_ref}
    clear = [Unregister(name) for name in sorted(listed.keys() - names)]
    return [*forget, *fresh, *ageing, *clear]


def _for_one(
    wanted: Wanted,
    row: RegistrationRow | None,
    listed: Mapping[str, str],
    *,
    now: float,
    attest_every_s: float,
) -> Action | None:
    path = listed.get(str(wanted.ref))
    asked = wanted.asked > (answered(row) if row else 0)
    if row is not None and row.state == "failed":
        due = asked or is_due(row.at, retry_after_s(attempts(row)), now=now)
        return Register(wanted, path, retry=True) if due else None
    if row is None or path != wanted.path or row.digest != wanted.digest:
        return Register(wanted, path)
    if row.state == "registered":
        return Attest(wanted)
    return Attest(wanted, again=True) if asked or is_due(row.at, attest_every_s, now=now) else None


def answered(row: RegistrationRow) -> int:
    """Return the latest wish for a proof that this row has answered."""
    return int((row.figures or {}).get("asked", 0))


def attempts(row: RegistrationRow | None) -> int:
    """Return how often in a row this version has failed on this replica."""
    if row is None or row.state != "failed":
        return 0
    return int((row.figures or {}).get("attempts", 1))


def retry_after_s(failures: int) -> float:
    """Return the pause after so many failures in a row: 2 s, doubled each time, five minutes at most."""
    return min(RETRY_FIRST_S * 2.0 ** min(max(failures, 1) - 1, 30), RETRY_LONGEST_S)


def is_due(at: float, after_s: float, *, now: float) -> bool:
    """Whether `after_s` have passed since `at`, or `at` lies in the future because a clock has jumped."""
    return now >= at + after_s or now < at - CLOCK_JUMP_S
