"""One worker's accounts, and their exchange with the store: every second, and when a request needs more.

A request that finds nothing in hand waits for one exchange, together with all others that wait then. When the
store does not answer, or this worker stood still for longer than what it holds is good for, each account goes
on with the worker's part of the limit.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from gateway.core.limits import Kind, Scope
from gateway.limits.accounts import Account, Budget, Owner, open_account
from gateway.limits.sharing import (
    CLAIM_S,
    CONCURRENT_CLAIM_S,
    LEASE_S,
    Claim,
    Others,
    gather,
    grant,
)
from gateway.store.database import StoreUnavailable
from gateway.store.limits import ClaimRow, Said, Spent
from gateway.telemetry import Telemetry

INTERVAL_S = 1.0
PATIENCE_S = 1.0
"""How long a request waits for the store before it goes on without."""

DRY_S = 0.5
"""How long an account that got nothing is taken for used up: others may give back meanwhile."""

_log = logging.getLogger("turnout.limits")
_CONCURRENT = "concurrent|"


class Store(Protocol):
    """What a ledger needs of the store."""

    def exchange(
        self,
        worker: str,
        turn: int,
        decide: Callable[[list[ClaimRow]], tuple[Said, Collection[tuple[str, int]]]],
        *,
        spend: Mapping[tuple[str, str, str], int],
    ) -> Spent:
        """Say what this worker claims, in view of what all others do."""

    def forget(self, worker: str) -> None:
        """Remove what a worker has said."""


class Ledger:
    """The accounts. Belongs to one event loop; the exchange itself runs in a thread."""

    def __init__(
        self,
        store: Store,
        worker: str,
        telemetry: Telemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workers = 1
        self.accounts: dict[Owner, Account] = {}
        self._store = store
        self._worker = worker
        self._telemetry = telemetry
        self._clock = clock
        self._turn = 0
        self._said = False
        self._synced_at = float("-inf")
        self._lost = False
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._heard: dict[str, tuple[int, float]] = {}

    def account(self, scope: Scope, name: str, kind: Kind, limit: int) -> Account:
        """Return the account of somebody's limit, opened when it is first asked for."""
        owner = Owner(scope, name, kind)
        account = self.accounts.get(owner)
        if account is None:
            account = self.accounts[owner] = open_account(owner, limit, self._clock())
        account.limit = limit
        return account

    def age_s(self) -> float:
        """Return for how long the store has not been heard; 0 while there is nothing to say."""
        if not self.accounts or self._synced_at == float("-inf"):
            return 0.0
        return max(0.0, self._clock() - self._synced_at)

    # --- what requests take -------------------------------------------------------------------------------

    async def reach(self, wants: list[tuple[Account, int]]) -> Account | None:
        """Ask the store when it takes that; return an account that lacks its amount, None when none does.

        None is true in the step in which it is returned: take then.
        """
        if not self._asks_for(wants):
            return self.lacking(wants)
        await self._exchanged()
        return self.lacking(wants)

    def lacking(self, wants: list[tuple[Account, int]]) -> Account | None:
        """Return an account that has not its amount in hand, None when all have."""
        now = self._clock()
        if not self._lost and not self._leased(now):
            return wants[0][0] if wants else None  # ask first: it is too long ago
        workers = max(1, self.workers) if self._lost else 0
        for account, amount in wants:
            if account.room(now, workers) < amount:
                account.short = True
                account.used_at = now  # somebody wants it: the next exchange takes what has come free
                return account
        return None

    def _leased(self, now: float) -> bool:
        return now - self._synced_at <= LEASE_S

    def _asks_for(self, wants: list[tuple[Account, int]]) -> bool:
        """Note what is needed, if it makes sense to ask for it."""
        now = self._clock()
        if self._lost:
            return False
        if self._leased(now):
            lacking = [(account, amount) for account, amount in wants if account.room(now, 0) < amount]
            if not all(account.worth_asking(now) for account, _ in lacking):
                return False
        for account, amount in wants:
            account.needed += amount
        return True

    async def _exchanged(self) -> None:
        """Wait until an exchange that begins from now on has ended, or for as long as patience lasts."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        self._wake.set()
        timer = loop.call_later(PATIENCE_S, self._lose, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    def _lose(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            self._lost = True
            waiter.set_result(None)

    # --- the exchange -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self.accounts or self._said or self._waiters:
                await self.exchange()

    async def exchange(self) -> None:
        """Exchange once. A store that is down is counted; what was spent is told the next time."""
        waiters, self._waiters = self._waiters, []
        try:
            await self._exchange()
        except StoreUnavailable as error:
            if not self._lost:
                _log.warning("the store does not answer; limits are kept by each worker's part: %s", error)
            self._lost = True
            self._telemetry.store_errors.labels("limits").inc()
        except Exception:  # noqa: BLE001 - a background loop: counted, logged, and it goes on
            self._lost = True
            self._telemetry.background_errors.labels("limits").inc()
            _log.exception("the exchange of limits failed")
        finally:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _exchange(self) -> None:
        turn = self.begin()
        found = await asyncio.to_thread(
            self._store.exchange, self._worker, turn.number, turn.decide, spend=turn.spend
        )
        self.end(turn, found)

    def begin(self) -> "Turn":
        """Give back what is not needed, and return what is to be asked."""
        now = self._clock()
        if now - self._synced_at > LEASE_S:
            for account in self.accounts.values():
                account.held = 0  # nobody may count on it any more
        self._forget(now)
        self._turn += 1
        return Turn(self._turn, now, dict(self.accounts), self._heard, self.workers)

    def end(self, turn: "Turn", found: Spent) -> None:
        """Take what the store has said. What is held is good from when it was asked for."""
        now = self._clock()
        for owner, account in turn.accounts.items():
            if isinstance(account, Budget):
                budget = (owner.scope, owner.name, owner.kind)
                told, left_s = turn.spend[budget], found.periods[owner.kind].left_s
                account.saved_as(now, found.totals[budget], told, left_s)
            else:
                others = turn.others.get(str(owner), Others())
                needed = turn.asks[owner].needed
                account.told(now, others, turn.granted[owner], needed=needed, dry_s=DRY_S)
        self._said = bool(turn.accounts)
        self._synced_at = turn.began
        self._lost = False

    def _forget(self, now: float) -> None:
        for owner in [owner for owner, account in self.accounts.items() if account.forgettable(now)]:
            del self.accounts[owner]

    async def close(self) -> None:
        """Tell the store what is left to tell, and give back what is held."""
        for account in self.accounts.values():
            account.used_at = float("-inf")  # nothing is needed any more
        if self.accounts or self._said:
            await self.exchange()


class Turn:
    """One exchange under way: what is asked, and how it is decided in the store, in another thread."""

    def __init__(
        self,
        number: int,
        began: float,
        accounts: Mapping[Owner, Account],
        heard: dict[str, tuple[int, float]],
        workers: int,
    ) -> None:
        """`heard` is when each other worker was last heard to say something new, by this worker's clock."""
        self.number = number
        self.began = began
        self.accounts = accounts
        self.asks = {owner: account.ask(began) for owner, account in accounts.items()}
        self.spend: dict[tuple[str, str, str], int] = {
            (owner.scope, owner.name, owner.kind): account.unsaved
            for owner, account in accounts.items()
            if isinstance(account, Budget)
        }
        self.others: dict[str, Others] = {}
        self.granted: dict[Owner, int] = {}
        self._heard = heard
        self._workers = workers

    def decide(self, rows: list[ClaimRow]) -> tuple[Said, Collection[tuple[str, int]]]:
        """Return what this worker says, in view of what the others have said, and who of them is gone."""
        self.others = self._gather(rows)
        self.granted = {
            owner: grant(ask, self.others.get(str(owner), Others()), workers=self._workers)
            for owner, ask in self.asks.items()
            if owner.kind not in ("day", "month")
        }
        said = {
            str(owner): self.accounts[owner].claim(self.asks[owner], more)
            for owner, more in self.granted.items()
        }
        return said, self._gone(rows)

    def _gather(self, rows: list[ClaimRow]) -> dict[str, Others]:
        """Return what the others say who count: they have said something new within a while."""
        claims = []
        for row in rows:
            heard = self._heard.get(row.worker)
            if heard is None or heard[0] != row.turn:
                heard = self._heard[row.worker] = (row.turn, self.began)
            silent_s = self.began - heard[1]
            claims.append(
                {
                    limit: Claim(*claim)
                    for limit, claim in row.said.items()
                    if silent_s < (CONCURRENT_CLAIM_S if limit.startswith(_CONCURRENT) else CLAIM_S)
                }
            )
        return gather(claims)

    def _gone(self, rows: list[ClaimRow]) -> list[tuple[str, int]]:
        there = {row.worker for row in rows}
        for worker in self._heard.keys() - there:
            del self._heard[worker]
        gone = [(row.worker, row.turn) for row in rows if self.began - self._heard[row.worker][1] >= CLAIM_S]
        for worker, _ in gone:
            del self._heard[worker]
        return gone
