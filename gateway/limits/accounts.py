"""One limit of one key, tenant or route, as one worker counts it. Pure: the caller says what time it is.

An account takes before a request goes on, and settles when it is over. What it may take is what this worker
*holds* (`gateway.limits.sharing`), or its part of the limit while the store can't be asked.
"""

from dataclasses import dataclass

from gateway.core.limits import Kind, Scope
from gateway.limits.sharing import Ask, Claim, Others, alone, kept
from gateway.limits.window import Window

IDLE_S = 10.0
"""Held for a limit that nobody has used for so long is nothing."""

FORGET_S = 120.0
"""An account that was not used for so long is forgotten: what it knows is over."""

LATELY_S = 2
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose limit it is, and of what kind."""

    scope: Scope
    name: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind}|{self.scope}|{self.name}"


class Account:
    """What all kinds share. `limit` is that of all workers together; `needed` is what requests wait for."""

    __slots__ = ("dry_until", "held", "limit", "needed", "others", "owner", "short", "used_at")

    def __init__(self, owner: Owner, limit: int, now: float) -> None:
        self.owner = owner
        self.limit = limit
        self.held = 0
        self.needed = 0
        self.others = Others()
        self.short = False
        self.used_at = now
        self.dry_until = now

    def used(self, now: float) -> int:
        """Return what this worker has used that still counts."""
        raise NotImplementedError

    def room(self, now: float, workers: int) -> int:
        """Return what may be taken now. `workers`: 0 while the store is at hand, else how many share it."""
        if not workers:
            return self.held
        return max(self.held, alone(self.limit, workers) - self.used(now))

    def remaining(self, now: float) -> int:
        """Return what is left of the limit as far as is known here."""
        return max(0, self.limit - self.used(now) - self.others.used)

    def take(self, now: float, amount: int) -> int:
        """Use an amount; return what `settle` needs to know of it."""
        raise NotImplementedError

    def settle(self, now: float, taken: int, amount: int, actual: int) -> None:
        """End what was taken: `amount` then, `actual` in truth."""
        raise NotImplementedError

    def wait_s(self, now: float, amount: int) -> float:
        """Return after how long it makes sense to ask for an amount again."""
        raise NotImplementedError

    def full_in_s(self, now: float) -> float:
        """Return after how long nothing of the limit will be used any more, as far as is known here."""
        raise NotImplementedError

    def lately(self, now: float) -> int:  # noqa: ARG002 - windows need it
        """Return what was used just now, and will be again."""
        return 0

    def ask(self, now: float) -> Ask:
        """Give back what is not needed, and return what is to be asked for."""
        active = now - self.used_at < IDLE_S
        self.held = kept(self.held, lately=self.lately(now), active=active, others_short=self.others.short)
        used = self.used(now)
        self.held = max(0, min(self.held, self.limit - used - self.others.used - self.others.held))
        needed, self.needed = self.needed, 0
        return Ask(self.limit, used, self.held, needed, active)

    def claim(self, ask: Ask, granted: int) -> Claim:
        """Return what the store is told."""
        return Claim(ask.used, ask.held + granted, self.short)

    def told(self, now: float, others: Others, granted: int, *, needed: int, dry_s: float) -> None:
        """Take what the store has said. What got less than it `needed` does not ask again at once."""
        self.others = others
        self.held += granted
        if self.held < needed:
            self.dry_until = now + dry_s
        self.short = False

    def worth_asking(self, now: float) -> bool:
        """Whether the store may have more."""
        return now >= self.dry_until

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it."""
        return now - self.used_at > FORGET_S and not self.used(now)


class PerMinute(Account):
    """Requests or tokens within a sliding minute."""

    __slots__ = ("_window",)

    def __init__(self, owner: Owner, limit: int, now: float) -> None:
        super().__init__(owner, limit, now)
        self._window = Window()

    def used(self, now: float) -> int:
        """Return what this worker has used within the window."""
        return self._window.total(now)

    def take(self, now: float, amount: int) -> int:
        """Use an amount; return its slot."""
        self.used_at = now
        self.held = max(0, self.held - amount)
        return self._window.add(now, amount)

    def settle(self, now: float, taken: int, amount: int, actual: int) -> None:
        """Use what came on top; give back what was not used, to what is held."""
        more = actual - amount
        if more > 0:
            self.take(now, more)
        elif more < 0:
            self.held += self._window.take_back(taken, -more)

    def wait_s(self, now: float, amount: int) -> float:
        """Return when enough will have left the window; a guess where others have used most of it."""
        if self.used(now) + self.others.used + amount <= self.limit:
            return 1.0  # the other workers hold it, and give it back
        own = self._window.falls_in(now, self.limit - self.others.used - amount)
        guess = MINUTE_S * amount / self.limit
        return min(MINUTE_S, max(1.0, guess if own is None else own))

    def full_in_s(self, now: float) -> float:
        """Return when the window will be empty."""
        if self.others.used:
            return MINUTE_S
        return self._window.falls_in(now, 0) or 0.0

    def lately(self, now: float) -> int:
        """Return what was used within the last seconds."""
        return self._window.since(int(now) - LATELY_S)


class Concurrent(Account):
    """Requests under way."""

    __slots__ = ("_now",)

    def __init__(self, owner: Owner, limit: int, now: float) -> None:
        super().__init__(owner, limit, now)
        self._now = 0

    def used(self, now: float) -> int:  # noqa: ARG002
        """Return how many this worker has under way."""
        return self._now

    def take(self, now: float, amount: int) -> int:
        """Begin."""
        self.used_at = now
        self.held = max(0, self.held - amount)
        self._now += amount
        return 0

    def settle(self, now: float, taken: int, amount: int, actual: int) -> None:  # noqa: ARG002
        """End; the place is held for the next one."""
        self.used_at = now
        self._now -= amount
        self.held += amount

    def wait_s(self, now: float, amount: int) -> float:  # noqa: ARG002
        """Return a second: nobody knows."""
        return 1.0

    def full_in_s(self, now: float) -> float:  # noqa: ARG002
        """Return a second: nobody knows."""
        return 1.0


class Budget(Account):
    """Tokens of a day or a month. What is used is added up in the store, where it stays.

    `saved` is what the store has said, None before it has; `unsaved` is what it has not been told yet.
    `ends_at`: the (monotonic) time at which the period ends.
    """

    __slots__ = ("ends_at", "saved", "unsaved")

    def __init__(self, owner: Owner, limit: int, now: float) -> None:
        super().__init__(owner, limit, now)
        self.saved: int | None = None
        self.unsaved = 0
        self.ends_at = now

    def used(self, now: float) -> int:  # noqa: ARG002
        """Return what all workers have used, as far as is known here."""
        return max(0, (self.saved or 0) + self.unsaved)

    def room(self, now: float, workers: int) -> int:
        """Return what is left of the budget; this worker's part of that while the store can't be asked."""
        if not workers:
            return 0 if self.saved is None else self.limit - self.used(now)
        return (self.limit - (self.saved or 0)) // workers - self.unsaved

    def take(self, now: float, amount: int) -> int:
        """Use an amount."""
        self.used_at = now
        self.unsaved += amount
        return 0

    def settle(self, now: float, taken: int, amount: int, actual: int) -> None:  # noqa: ARG002
        """Use what came on top, or give back."""
        self.used_at = now
        self.unsaved += actual - amount

    def ask(self, now: float) -> Ask:
        """Ask for nothing: a budget is not shared out."""
        self.needed = 0
        return Ask(self.limit, 0, 0, 0, active=now - self.used_at < IDLE_S)

    def saved_as(self, now: float, total: int, told: int, left_s: float) -> None:
        """Take what the store has added up; `told` of what was unsaved is in it."""
        self.saved = total
        self.unsaved -= told
        self.ends_at = now + left_s

    def worth_asking(self, now: float) -> bool:  # noqa: ARG002
        """Whether the store has not been asked yet; afterwards it says by itself what is used."""
        return self.saved is None

    def wait_s(self, now: float, amount: int) -> float:  # noqa: ARG002
        """Return when the period ends."""
        return max(1.0, self.ends_at - now)

    def full_in_s(self, now: float) -> float:
        """Return when the period ends."""
        return max(0.0, self.ends_at - now)

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it."""
        return now - self.used_at > FORGET_S and not self.unsaved


_KINDS: dict[Kind, type[Account]] = {
    "requests": PerMinute,
    "tokens": PerMinute,
    "concurrent": Concurrent,
    "day": Budget,
    "month": Budget,
}


def open_account(owner: Owner, limit: int, now: float) -> Account:
    """Return a new account of the owner's kind."""
    return _KINDS[owner.kind](owner, limit, now)
