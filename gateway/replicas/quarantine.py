"""Requests under which an engine died: refused for a minute, so that they don't meet the next engine.

A request is known by a keyed hash of its endpoint, the model that was asked for and its body, without the
fields that the gateway sets itself. Requests are hashed only while there is something to compare with.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

import orjson

from gateway.errors import Unprocessable

REFUSED_FOR_S = 60.0
MOST = 10_000
OWN_FIELDS = ("model", "cache_salt", "priority", "request_id")
# Requests that went down together are made known together.
_GATHER_S = 0.02

Publish = Callable[[str, Sequence[str], float], None]


class Quarantine:
    """The fingerprints and until when each is refused. Belongs to one event loop.

    `publish` is told of a death: the replica's id, the fingerprints, and until when they are refused
    (seconds since the epoch). Other workers hear of it through the store, and hand it in by `learn`.
    """

    def __init__(self, key: bytes, *, publish: Publish, refused_for_s: float = REFUSED_FOR_S) -> None:
        self._key = key
        self._publish = publish
        self._refused_for_s = refused_for_s
        self._until: dict[str, float] = {}
        self._unpublished: dict[str, list[str]] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is refused; then there is no need to check."""
        return not self._until

    def check(self, path: str, requested: str, payload: bytes) -> None:
        """Let a request pass, or refuse it.

        Raises:
            Unprocessable: an engine died under this very request less than a minute ago.
        """
        self._forget_old()
        if self._until and self._fingerprint(path, requested, payload) in self._until:
            raise Unprocessable(
                "an engine died while it worked on this very request; it is refused for "
                f"{self._refused_for_s:.0f} s",
                code="query_of_death",
            )

    def add(self, path: str, requested: str, payload: bytes, *, replica: str) -> None:
        """Refuse a request from now on: `replica` died under it."""
        fingerprint = self._fingerprint(path, requested, payload)
        self.learn({fingerprint: time.time() + self._refused_for_s})
        if not self._unpublished:
            asyncio.get_running_loop().call_later(_GATHER_S, self._publish_all)
        self._unpublished.setdefault(replica, []).append(fingerprint)

    def learn(self, until: Mapping[str, float]) -> None:
        """Take fingerprints from another worker."""
        latest = time.time() + self._refused_for_s
        for fingerprint, end in until.items():
            self._until[fingerprint] = min(end, latest)
        self._forget_old()

    def _publish_all(self) -> None:
        unpublished, self._unpublished = self._unpublished, {}
        for replica, fingerprints in unpublished.items():
            self._publish(replica, fingerprints, time.time() + self._refused_for_s)

    def _forget_old(self) -> None:
        now = time.time()
        if self._until and (len(self._until) > MOST or min(self._until.values()) <= now):
            kept = [(fingerprint, end) for fingerprint, end in self._until.items() if end > now]
            self._until = dict(kept[-MOST:])

    def _fingerprint(self, path: str, requested: str, payload: bytes) -> str:
        try:
            body = orjson.loads(payload)
            for name in OWN_FIELDS:
                body.pop(name, None)
            payload = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        except (orjson.JSONDecodeError, orjson.JSONEncodeError, AttributeError):
            pass  # hashed as it is
        digest = hashlib.blake2b(key=self._key[:64], digest_size=16)
        for part in (path.encode(), requested.encode("utf-8", "surrogatepass"), payload):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.hexdigest()
