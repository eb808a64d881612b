"""An OpenAI-compatible endpoint that serves what is judged: an engine, or the gateway before it."""

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from training.runs.order import redacted

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 300.0
BATCH = 8
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_TOKEN_ID = "token_id:"  # noqa: S105 - a prefix of vLLM's, no secret


class EndpointFailed(Exception):
    """The endpoint could not be asked, or did not answer as vLLM does; the message says which."""


class Endpoint:
    """One endpoint. Close it, or use it as a context."""

    def __init__(self, url: str, *, key: str | None) -> None:
        """Take the address and the key, which may be None.

        Raises:
            ValueError: it is no http address.
        """
        address = url.rstrip("/").removesuffix("/v1")
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
            raise ValueError(f"{url!r} is not an address like http://127.0.0.1:8080")
        self.url: str = redacted(address)  # as reports name it, which are kept
        self._http = httpx.Client(
            base_url=address,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=urlsplit(address).hostname not in _LOOPBACK,
        )
        # The gateway counts no such request in an experiment; an engine does not mind it.
        self._headers = {"x-turnout-internal": "true"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def up(self) -> bool:
        """Whether anything answers there."""
        try:
            self._http.get("/v1/models", timeout=CONNECT_TIMEOUT_S)
        except httpx.HTTPError:
            return False
        return True

    def first_tokens(self, model: str, prompts: Sequence[str], *, count: int) -> list[dict[str, float]]:
        """Return the log-probabilities of the `count` likeliest first tokens after each prompt, by id.

        Raises:
            EndpointFailed: it can't be reached, refuses, or answers in another form.
        """
        choices = self._complete(
            model, prompts, {"max_tokens": 1, "logprobs": count, "return_tokens_as_token_ids": True}
        )
        try:
            tops = [choice["logprobs"]["top_logprobs"][0] for choice in choices]
            return [
                {token.removeprefix(_TOKEN_ID): float(value) for token, value in top.items()} for top in tops
            ]
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise EndpointFailed(f"{self.url} gives no log-probabilities as vLLM does") from error

    def answers(self, model: str, prompts: Sequence[str], *, max_tokens: int) -> list[str]:
        """Return the greedy answer to each prompt.

        Raises:
            EndpointFailed: it can't be reached, refuses, or answers in another form.
        """
        choices = self._complete(model, prompts, {"max_tokens": max_tokens})
        try:
            return [str(choice["text"]).strip() for choice in choices]
        except (KeyError, TypeError) as error:
            raise EndpointFailed(f"{self.url} answers in another form than /v1/completions") from error

    def _complete(self, model: str, prompts: Sequence[str], more: dict[str, Any]) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(prompts), BATCH):
            batch = list(prompts[start : start + BATCH])
            # A salt of its own: what an engine has cached of other requests has no part in this.
            salt = os.urandom(8).hex()
            body = {"model": model, "prompt": batch, "temperature": 0, "cache_salt": salt, **more}
            choices = self._post(body)
            if len(choices) != len(batch):
                raise EndpointFailed(f"{self.url} gave {len(choices)} answers to {len(batch)} prompts")
            found += choices
        return found

    def _post(self, body: dict[str, Any]) -> list[Any]:
        answer = self._sent(body)
        if answer.status_code == 403 and self._headers:
            # The key may not mark its requests as internal; they count as a client's then.
            self._headers = {}
            answer = self._sent(body)
        if answer.status_code == 400 and "cache_salt" in answer.text and "cache_salt" in body:
            # The gateway sets it itself and takes none.
            answer = self._sent({name: value for name, value in body.items() if name != "cache_salt"})
        try:
            document = answer.json()
        except ValueError as error:
            raise EndpointFailed(f"{self.url} answered HTTP {answer.status_code} without JSON") from error
        if answer.status_code >= 400:
            raise EndpointFailed(f"{self.url} refused ({answer.status_code}): {_why(document)}")
        try:
            return sorted(document["choices"], key=lambda choice: int(choice["index"]))
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointFailed(f"{self.url} answers in another form than /v1/completions") from error

    def _sent(self, body: dict[str, Any]) -> httpx.Response:
        try:
            return self._http.post("/v1/completions", json=body, headers=self._headers)
        except httpx.HTTPError as error:
            raise EndpointFailed(f"{self.url} can't be asked ({type(error).__name__})") from error


def _why(document: Any) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        return str(error.get("message"))[:300]
    return str(error or "no reason given")[:300]
