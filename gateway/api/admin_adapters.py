"""`/admin/adapters`: add a version from a folder, see where each is served, retire it."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Query, Response

from adapters.collect import collect
from adapters.inspect import UnservableAdapter
from adapters.registry import Registry
from gateway.api.admin_common import Actor, Limit, Offset, Why, faults, parse_ref
from gateway.api.admin_schemas import (
    Adapter,
    AdapterAdd,
    AdapterDetail,
    AdapterPage,
    Blob,
    BlobPage,
    Registration,
)
from gateway.core.refs import VersionRef
from gateway.errors import Conflict, Internal, NotFound, Unprocessable
from gateway.store.control import ControlStore
from gateway.store.uses import VersionInUse
from gateway.store.versions import VersionRow


class AdapterEndpoints:
    """The endpoints, on one store and one registry."""

    def __init__(self, control: ControlStore, registry: Registry) -> None:
        self._control = control
        self._registry = registry

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/adapters/{name}/{version}"
        router.add_api_route("/adapters", self.page, methods=["GET"], responses=faults())
        router.add_api_route(
            "/adapters",
            self.add,
            methods=["POST"],
            status_code=201,
            responses={200: {"model": AdapterDetail, "description": "known content"}, **faults(409, 422)},
        )
        router.add_api_route("/adapters/gc", self.gc, methods=["POST"], responses=faults())
        router.add_api_route(one, self.show, methods=["GET"], responses=faults(404))
        router.add_api_route(one, self.retire, methods=["DELETE"], responses=faults(404, 409))

    def page(
        self, name: str | None = Query(default=None), limit: Limit = 100, offset: Offset = 0
    ) -> AdapterPage:
        """List versions by name, the newest of a name first, with where each is registered and attested."""
        rows = self._control.versions.rows(name, limit=limit + 1, offset=offset)
        views = _Views(self._control)
        return AdapterPage(
            data=tuple(Adapter(**views.fields(row)) for row in rows[:limit]),
            limit=limit,
            offset=offset,
            next_offset=offset + limit if len(rows) > limit else None,
        )

    def add(self, body: AdapterAdd, response: Response, actor: Actor, why: Why) -> AdapterDetail:
        """Add the adapter in a folder of this machine: 201 for a new version, 200 for known content.

        The first version of a name also gets a route of that name. A retired version is active again.
        """
        folder = Path(body.source)
        if not folder.is_absolute():
            raise Unprocessable(
                f"{body.source!r} is a relative path; name the folder on the gateway's machine absolutely",
                param="source",
            )
        try:
            row, new = self._registry.add(body.name, folder, actor=actor.key_id, why=body.why or why)
        except UnservableAdapter as error:
            raise Unprocessable(str(error), code="unservable_adapter") from error
        except OSError as error:
            raise _explain(error, folder) from error
        response.status_code = 201 if new else 200
        return self._detail(row)

    def show(self, name: str, version: int) -> AdapterDetail:
        """Show one version with its manifest."""
        return self._detail(self._get(parse_ref(name, version)))

    def retire(self, name: str, version: int, actor: Actor, why: Why) -> AdapterDetail:
        """Retire a version: it is served no more. Its number and its files stay taken."""
        ref = parse_ref(name, version)
        try:
            self._control.versions.retire(ref, actor=actor.key_id, why=why, unused_only=True)
        except VersionInUse as error:
            raise Conflict(
                f"{ref} is named by the route {', '.join(error.routes)}; point it at another version first",
                code="in_use",
            ) from error
        return self._detail(self._get(ref))

    def gc(self, actor: Actor, why: Why, *, dry_run: bool = False) -> BlobPage:
        """Remove the blobs of retired versions that no engine can need any more; list all with their fate.

        The controller does the same by itself now and then.
        """
        try:
            found = collect(self._registry.root, self._control.holds, dry_run=dry_run)
        except OSError as error:
            raise Internal(f"the blobs could not be removed: {error.strerror}") from error
        removed = [blob.digest for blob in found if blob.kept_because is None]
        if removed and not dry_run:
            self._control.events.add(
                actor=actor.key_id, action="blob.remove", subject="blobs", why=why, after=removed
            )
        return BlobPage(
            dry_run=dry_run,
            data=tuple(
                Blob(digest=blob.digest, size_bytes=blob.size_bytes, kept_because=blob.kept_because)
                for blob in found
            ),
        )

    def _get(self, ref: VersionRef) -> VersionRow:
        row = self._control.versions.get(ref)
        if row is None:
            raise NotFound(f"there is no version {ref}")
        return row

    def _detail(self, row: VersionRow) -> AdapterDetail:
        return AdapterDetail(**_Views(self._control).fields(row), manifest=row.manifest)


class _Views:
    """Versions as they are shown; reads routes, replicas and registrations once."""

    def __init__(self, control: ControlStore) -> None:
        self._routes = control.routes.rows()
        self._incarnations = {row.id: row.incarnation for row in control.fleet.replicas()}
        self._registrations = control.fleet.registrations()

    def routes_of(self, ref: VersionRef) -> tuple[str, ...]:
        """Return the routes whose spec needs `ref`, or whose traffic still meets it."""
        return tuple(
            route.name
            for route in self._routes
            if ref in route.spec.versions()
            or str(ref) in {arm.adapter for arm in route.status.effective_arms}
        )

    def fields(self, row: VersionRow) -> dict[str, Any]:
        """Return the fields of `Adapter`."""
        return {
            "adapter": str(row.ref),
            "name": row.ref.name,
            "version": row.ref.version,
            "digest": row.digest,
            "created_at": row.created_at,
            "retired_at": row.retired_at,
            "rank": row.manifest["rank"],
            "size_bytes": row.manifest["size_bytes"],
            "base": row.manifest["base"]["name"],
            "source": row.manifest["source"],
            "registrations": self._where(row.ref),
            "routes": self.routes_of(row.ref),
        }

    def _where(self, ref: VersionRef) -> tuple[Registration, ...]:
        return tuple(
            Registration(
                replica=known.replica,
                state=known.state,
                current=self._incarnations.get(known.replica) == known.incarnation,
                incarnation=known.incarnation,
                reason=known.reason,
                figures=known.figures,
                at=known.at,
            )
            for known in sorted(self._registrations, key=lambda known: known.replica)
            if known.ref == ref
        )


def _explain(error: OSError, folder: Path) -> Exception:
    """Tell a source that can't be read from a blob that can't be written."""
    cause = error.strerror or type(error).__name__
    if error.filename is not None and Path(str(error.filename)).is_relative_to(folder):
        return Unprocessable(f"{folder} can't be read by the gateway: {cause}", param="source")
    return Internal(f"the adapter's files could not be stored: {cause}")
