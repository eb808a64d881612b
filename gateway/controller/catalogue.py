"""What the controller remembers of versions. They never change, so each is read from the store once."""

from collections.abc import Iterable

from adapters.manifest import Reference
from gateway.controller.attestation.proof import Predecessor, Subject
from gateway.core.refs import VersionRef
from gateway.store.versions import VersionFacts, Versions

MANY = 16


class Catalogue:
    """Facts by version, filled as versions come up."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._facts: dict[VersionRef, VersionFacts] = {}

    def learn(self, refs: Iterable[VersionRef]) -> None:
        """Read what is not known yet: all at once when it is much, one by one otherwise.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        unknown = set(refs) - self._facts.keys()
        if len(unknown) > MANY:
            self._facts |= self._versions.facts()
            unknown -= self._facts.keys()
        for ref in unknown:
            row = self._versions.get(ref)
            if row is not None:
                self._facts[ref] = VersionFacts(row.digest, row.created_at)

    def get(self, ref: VersionRef) -> VersionFacts | None:
        """Return what was learnt of a version; None when there is no such version."""
        return self._facts.get(ref)

    def absent(self, refs: Iterable[VersionRef], active: frozenset[VersionRef]) -> dict[VersionRef, str]:
        """Return why those of `refs` that are not active are not.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        missing = set(refs) - active
        self.learn(missing)
        return {ref: "is retired" if ref in self._facts else "does not exist" for ref in missing}

    def subject(self, ref: VersionRef, digest: str, *, digest_verified: bool) -> Subject:
        """Return what a proof of this version needs: its reference, and the version before it.

        Raises:
            ValueError: the manifest holds a reference that can't be read.
            StoreUnavailable: the store can't be read.
        """
        row = self._versions.get(ref)
        document = row.manifest.get("reference") if row else None
        reference = Reference.model_validate(document) if document else None
        return Subject(
            name=str(ref),
            digest=digest,
            recorded=reference if reference and reference.probes else None,
            predecessor=self._before(ref),
            digest_verified=digest_verified,
        )

    def _before(self, ref: VersionRef) -> Predecessor | None:
        if (found := self._versions.before(ref)) is None:
            return None
        before, facts = found
        return Predecessor(str(before), facts.digest)
