"""Agents beside engines on other machines: they bring blobs there, and say when one is whole.

An agent is asked before each load and each proof, under the lease like every call that changes something
elsewhere. It answers at once. While a blob is on its way nothing is recorded: the next turn asks again.
"""

from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

TIMEOUT_S = 5.0


class BlobUnderWay(Exception):
    """A blob is not in place yet, or nobody can say whether it is; the message says which."""


class Agents:
    """The agents of all engines: each listens on `port` of its engine's host."""

    def __init__(self, http: httpx.AsyncClient, *, port: int, key: str | None) -> None:
        self._http = http
        self._port = port
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def fault(
        self, engine_url: str, digest: str, incarnation: str, *, permit: Callable[[], None]
    ) -> str | None:
        """Have a blob brought beside an engine; return why it can't be had, or None when it is whole there.

        Raises:
            BlobUnderWay: it is coming, or the agent does not answer.
            LeaseLost: `permit` found that another controller is effective.
        """
        permit()
        url = f"{self._address(engine_url)}/v1/blobs/{digest.removeprefix('sha256:')}"
        try:
            answer = await self._http.put(
                url, json={"incarnation": incarnation}, headers=self._headers, timeout=TIMEOUT_S
            )
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise BlobUnderWay(f"the agent beside it does not answer ({type(error).__name__})") from error
        if answer.status_code == 401:
            return "the agent beside it has another key than engine.agent_key"
        if not answer.is_success or not isinstance(document, dict):
            raise BlobUnderWay(f"the agent beside it answers HTTP {answer.status_code}")
        return self._meaning(document)

    def _meaning(self, document: dict[str, object]) -> str | None:
        state = document.get("state")
        if state == "whole":
            return None
        if state == "failed":
            return f"its files can't be brought to the engine: {document.get('reason')}"
        total = document.get("total_bytes")
        raise BlobUnderWay(
            f"its files are on their way, {document.get('done_bytes')} of {total or '?'} bytes"
        )

    def _address(self, engine_url: str) -> str:
        host = urlsplit(engine_url).hostname or ""
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"
