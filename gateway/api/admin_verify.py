"""`POST /admin/adapters/{name}/{version}/verify`: ask the controller to prove a version now.

The gateway asks no engine itself: it leaves a numbered wish in the store, which the controller answers on
every replica that has the version. The answer is the version's registrations, once their figures say `asked`
with that number or a higher one.
"""

from fastapi import APIRouter

from gateway.api.adapter_schemas import Verification, Verify
from gateway.api.admin_common import Actor, Why, faults, parse_ref
from gateway.errors import Conflict, NotFound
from gateway.store.control import ControlStore


class VerifyEndpoints:
    """The endpoint, on one store."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    def mount(self, router: APIRouter) -> None:
        """Put the endpoint on `router`."""
        router.add_api_route(
            "/adapters/{name}/{version}/verify",
            self.verify,
            methods=["POST"],
            status_code=202,
            responses=faults(404, 409),
        )

    def verify(
        self, name: str, version: int, actor: Actor, why: Why, body: Verify | None = None
    ) -> Verification:
        """Have every replica that has the version prove it now: 202 with the number to wait for.

        With `anew` the answers that the fleet has recorded of it are forgotten first, and the next proof
        that passes records new ones: for when the first recorded ones were wrong.
        """
        ref = parse_ref(name, version)
        row = self._control.versions.get(ref)
        if row is None:
            raise NotFound(f"there is no version {ref}")
        incarnations = {known.id: known.incarnation for known in self._control.fleet.replicas()}
        replicas = sorted(
            known.replica
            for known in self._control.fleet.registrations()
            if known.ref == ref and incarnations.get(known.replica) == known.incarnation
        )
        if not replicas:
            raise Conflict(
                f"{ref} is registered on no replica, so there is nothing to prove", code="not_registered"
            )
        wish = body or Verify()
        asked = self._control.attestations.ask(
            ref,
            actor=actor,
            why=wish.why or why,
            forget_digest=row.digest if wish.anew else None,
        )
        return Verification(adapter=str(ref), asked=asked, replicas=tuple(replicas))
