"""`/admin/forget`: remove what was recorded of a subject, and leave a tombstone in its place."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api.admin_common import Actor, Limit, Why, faults
from gateway.api.curation_schemas import Forget, Forgotten, ForgottenPage
from gateway.errors import Unavailable
from gateway.peppers import Peppers
from gateway.store import run_files
from gateway.store.control import ControlStore
from gateway.store.forgetting import Forgetting
from gateway.store.requests import Requests
from gateway.store.tombstones import Buried, Tombstone, made, unit_hash, unit_of

BUDGET_S = 20.0
"""About how long one call works; then it answers that there is more to do."""

SWEEP = "sweep"
_ADVICE = (
    "the weights of these versions keep what they learned, and no removal of rows changes that: train them "
    "anew without the rows, move their routes to the new versions, and retire them"
)


class ForgetEndpoints:
    """The endpoints, on both stores and the files of runs on this machine."""

    def __init__(
        self,
        control: ControlStore,
        requests: Requests,
        peppers: Peppers,
        *,
        state_dir: Path,
        budget_s: float = BUDGET_S,
    ) -> None:
        self._control = control
        self._peppers = peppers
        self._budget_s = budget_s
        self._forgetting = Forgetting(
            control.database, requests.database, scrub=lambda gone: run_files.scrub(state_dir, gone)
        )

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        router.add_api_route("/forget", self.page, methods=["GET"], responses=faults())
        router.add_api_route("/forget", self.forget, methods=["POST"], responses=faults(413))
        router.add_api_route("/forget/sweep", self.sweep, methods=["POST"], responses=faults())

    def page(self, after: Annotated[str, Query(max_length=64)] = "", limit: Limit = 100) -> ForgottenPage:
        """List who is forgotten, by names that stand for them, and the versions that learned from them."""
        rows = self._control.tombstones.page(after=after, limit=limit + 1)
        return ForgottenPage(
            data=tuple(_view(row) for row in rows[:limit]),
            next_after=rows[limit - 1].id if len(rows) > limit else None,
        )

    def forget(self, body: Forget, actor: Actor, why: Why) -> Forgotten:
        """Remove a subject's requests, feedback, embeddings, curated rows, shadow pairs and rows of runs.

        What was recorded up to now goes, on every route that recorded the subject by a pseudonym. A tombstone
        keeps what is written late from coming back. To ask again does no harm, and goes on with what is not
        complete. With `dry_run` nothing is changed.
        """
        units = {unit_of(route, body.subject) for route in self._control.tombstones.routes()}
        now = time.time()
        if body.dry_run:
            return _view(self._forgetting.look(lambda unit, at: unit in units and at <= now), dry_run=True)
        tombstone = made(self._peppers.current, body.subject, until=now)
        hashes = sorted(unit_hash(self._peppers.current, unit) for unit in units)
        begun = self._control.tombstones.begin(tombstone, hashes)
        return self._work(begun, lambda unit, at: unit in units and at <= begun.until, actor=actor, why=why)

    def sweep(self, actor: Actor, why: Why) -> Forgotten:
        """Remove whatever has come back of anybody who is forgotten: after a copy was restored, say."""
        units = self._control.tombstones.units(since=0.0)
        buried = Buried(self._peppers, units)
        if unknown := [pepper for pepper in units if not self._peppers.knows(pepper)]:
            raise Unavailable(
                f"tombstones were hashed with a pepper that is not given here ({unknown[0]}); name its file "
                "in auth.former_pepper_files",
                code="pepper_not_known",
            )
        nobody = Tombstone(SWEEP, "", time.time())
        begun = self._control.tombstones.begin(nobody, ())
        return self._work(begun, buried.holds, actor=actor, why=why)

    def _work(
        self, begun: Tombstone, matches: Callable[[str | None, float], bool], *, actor: str, why: str | None
    ) -> Forgotten:
        if not begun.cursor:
            self._tell("subject.forget", None, begun, actor=actor, why=why)
        done = self._forgetting.work(begun, matches, budget_s=self._budget_s)
        if done.state == "done":
            self._tell("subject.forgotten", begun, done, actor=actor, why=why)
        return _view(done)

    def _tell(
        self, action: str, was: Tombstone | None, now: Tombstone, *, actor: str, why: str | None
    ) -> None:
        self._control.events.add(
            actor=actor,
            action=action,
            subject=_name(now),
            why=why,
            before=None if was is None else _audited(was),
            after=_audited(now),
        )


def _name(tombstone: Tombstone) -> str:
    return SWEEP if tombstone.id == SWEEP else tombstone.name


def _audited(tombstone: Tombstone) -> dict[str, object]:
    """Return a removal as the audit log has it: how far it is and how much went, and nothing that went."""
    return {
        "state": tombstone.state,
        "counts": dict(tombstone.counts),
        "versions": _plain(tombstone),
    }


def _plain(tombstone: Tombstone) -> dict[str, list[str]]:
    return {name: list(labels) for name, labels in tombstone.versions.items()}


def _view(tombstone: Tombstone, *, dry_run: bool = False) -> Forgotten:
    versions = _plain(tombstone)
    trained, possibly = versions.get("trained", []), versions.get("possibly", [])
    return Forgotten(
        name=_name(tombstone) if tombstone.id else None,
        dry_run=dry_run,
        complete=dry_run or tombstone.state == "done",
        until=tombstone.until,
        counts=dict(tombstone.counts),
        routes=tuple(sorted(tombstone.routes)),
        runs=tuple(tombstone.runs),
        trained=tuple(trained),
        possibly=tuple(possibly),
        advice=_ADVICE if trained or possibly else None,
    )
