"""The controller's client for one engine: health, incarnation, registered adapters, probes.

EngineError
├── EngineUnreachable    no answer, too busy, or not vLLM's answer; says nothing about an adapter
└── EngineRefused        the engine answered with an error status
    ├── AlreadyLoaded    the name is registered
    └── NotLoaded        the name is not registered
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

HEALTH_TIMEOUT_S = 3.0
# A load reads the weights and waits its turn behind running steps; a probe waits behind other requests.
CHANGE_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 60.0
BUSY = (429, 503)
INCARNATION = "process_start_time_seconds"
DEFAULT_BLOCK_TOKENS = 16
SOME_TOKEN = 1  # every vocabulary has it
TOKEN_ID = "token_id:"  # noqa: S105 - how vLLM writes a token's id in place of its text

# vllm:cache_config_info{block_size="16",enable_prefix_caching="True",…} 1.0
_BLOCK = re.compile(r'^vllm:cache_config_info\{(?:[^}\n]*,)?block_size="(\d{1,5})"', re.MULTILINE)
# vllm:request_success_total{finished_reason="stop",…} 5.0
_COUNTED = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|request_success_total|iteration_tokens_total_count"
    r'|iteration_tokens_total_bucket(?=\{(?:[^}\n]*,)?le="8\.0"))\{[^}\n]*\} (\d{1,15}(?:\.0)?)$',
    re.MULTILINE,
)
_NO_CACHE = re.compile(r'^vllm:cache_config_info\{(?:[^}\n]*,)?enable_prefix_caching="False"', re.MULTILINE)


class EngineError(Exception):
    """A call to an engine failed."""


class EngineUnreachable(EngineError):
    """There was no answer, or a busy one, or one that makes no sense."""


class EngineRefused(EngineError):
    """The engine answered with an error; `message` is its own and may name paths of its machine."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class AlreadyLoaded(EngineRefused):
    """An adapter of that name is registered."""


class NotLoaded(EngineRefused):
    """No adapter of that name is registered."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process an engine is, what its prefix cache is like, and what it has to do.

    `incarnation` is the start time of its process as it writes it, `block_tokens` the tokens in a block.
    `open_requests` run or wait now, and `ended_requests` have ended since it started, each prompt of a call
    for itself. `steps` are how many it has taken, and how many of them with at most eight tokens. None is
    what the metrics do not say.
    """

    incarnation: str
    block_tokens: int
    caches_prefixes: bool
    open_requests: int | None = None
    ended_requests: int | None = None
    steps: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """What a model answers to a batch of prompts: its likeliest first tokens, id → log-probability.

    `model` is the name that the engine echoed. `tops` is in the order of the prompts.
    """

    model: str
    tops: tuple[dict[str, float], ...]


class EngineApi:
    """One engine at `url`. `permit` runs before every call and stops it by raising."""

    def __init__(
        self, http: httpx.AsyncClient, url: str, *, permit: Callable[[], None] = lambda: None
    ) -> None:
        self._http = http
        self._url = url
        self._permit = permit

    async def health(self) -> None:
        """Return when the engine says that it is well.

        Raises:
            EngineError: it does not.
        """
        await self._get("/health")

    async def identity(self) -> Identity:
        """Return what the engine's metrics say of its process and its prefix cache.

        Raises:
            EngineError: the start time can't be told.
        """
        text = (await self._get("/metrics")).text
        block = _BLOCK.search(text)
        block_tokens = int(block[1]) if block else DEFAULT_BLOCK_TOKENS
        incarnation = incarnation_in(text)
        if incarnation is None:
            raise EngineUnreachable(f"its /metrics has no {INCARNATION}, so its restarts can't be noticed")
        return _identity(incarnation, block_tokens, text)

    async def adapters(self) -> dict[str, str]:
        """Return the registered adapters, name → path as the engine sees it.

        Raises:
            EngineError: it can't be told.
        """
        answer = await self._get("/v1/models")
        try:
            cards = answer.json()["data"]
            return {str(card["id"]): str(card["root"]) for card in cards if card.get("parent")}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineUnreachable("its /v1/models is not vLLM's") from error

    async def load(self, name: str, path: str) -> None:
        """Register the adapter at `path`, a path of the engine's machine, as `name`.

        Raises:
            AlreadyLoaded: `name` is registered, with this path or another.
            EngineError: the files are missing or broken, or the engine can't be reached.
        """
        body = {"lora_name": name, "lora_path": path, "load_inplace": False}
        await self._post("/v1/load_lora_adapter", body, timeout_s=CHANGE_TIMEOUT_S)

    async def unload(self, name: str) -> None:
        """Make the engine forget `name`. Requests in flight go on.

        Raises:
            NotLoaded: there is no such adapter.
            EngineError: the engine can't be reached.
        """
        await self._post("/v1/unload_lora_adapter", {"lora_name": name}, timeout_s=CHANGE_TIMEOUT_S)

    async def first_tokens(
        self, model: str, prompts: tuple[str, ...], *, count: int, cache_salt: str | None
    ) -> FirstTokens:
        """Ask for the `count` likeliest first tokens after each prompt, in one batch.

        Without a salt the engine may answer from what it has cached of other requests.

        Raises:
            EngineError: the engine can't be reached, refuses, or answers in another form.
        """
        body: dict[str, Any] = {
            "model": model,
            "prompt": list(prompts),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": count,
            "return_tokens_as_token_ids": True,
        }
        if cache_salt is not None:
            body["cache_salt"] = cache_salt
        answer = await self._post("/v1/completions", body, timeout_s=PROBE_TIMEOUT_S)
        try:
            document = answer.json()
            choices = sorted(document["choices"], key=lambda choice: choice["index"])
            tops = tuple(_by_id(choice["logprobs"]["top_logprobs"][0]) for choice in choices)
            echoed = str(document["model"])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise EngineUnreachable("its answer to the probes is not vLLM's") from error
        if len(tops) != len(prompts):
            raise EngineUnreachable(f"it answered {len(tops)} of {len(prompts)} probes")
        return FirstTokens(echoed, tops)

    async def occupy(self, model: str) -> None:
        """Give the engine a step of a single token to do, and wait for it.

        Raises:
            EngineError: the engine can't be reached, or refuses.
        """
        body = {"model": model, "prompt": [[SOME_TOKEN]], "max_tokens": 1, "temperature": 0}
        await self._post("/v1/completions", body, timeout_s=PROBE_TIMEOUT_S)

    async def _get(self, path: str) -> httpx.Response:
        return await self._call("GET", path, None, timeout_s=HEALTH_TIMEOUT_S)

    async def _post(self, path: str, body: dict[str, Any], *, timeout_s: float) -> httpx.Response:
        return await self._call("POST", path, body, timeout_s=timeout_s)

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None, *, timeout_s: float
    ) -> httpx.Response:
        self._permit()
        try:
            answer = await self._http.request(method, self._url + path, json=body, timeout=timeout_s)
        except httpx.TimeoutException as error:
            raise EngineUnreachable(f"{path} gave no answer within {timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineUnreachable(f"{path}: {type(error).__name__}") from error
        if answer.status_code in BUSY:
            raise EngineUnreachable(f"{path} answered {answer.status_code}")
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer


def _identity(incarnation: str, block_tokens: int, metrics: str) -> Identity:
    work = _work_in(metrics)
    running, waiting = work.get("num_requests_running"), work.get("num_requests_waiting")
    steps, small = work.get("iteration_tokens_total_count"), work.get("iteration_tokens_total_bucket")
    return Identity(
        incarnation,
        block_tokens,
        caches_prefixes=_NO_CACHE.search(metrics) is None,
        open_requests=None if running is None or waiting is None else running + waiting,
        ended_requests=work.get("request_success_total"),
        steps=None if steps is None or small is None else (steps, small),
    )


def _by_id(top: dict[str, float]) -> dict[str, float]:
    return {token.removeprefix(TOKEN_ID): float(value) for token, value in top.items()}


def _refusal(answer: httpx.Response) -> EngineRefused:
    try:
        document = answer.json()
        fault = document.get("error", document)
        message = str(fault["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        message = answer.reason_phrase
    if answer.status_code == 400 and "already been loaded" in message:
        return AlreadyLoaded(answer.status_code, message)
    if answer.status_code == 404 and "cannot be found" in message:
        return NotLoaded(answer.status_code, message)
    return EngineRefused(answer.status_code, message)


def _work_in(metrics: str) -> dict[str, int]:
    """Return what an engine has done and has to do, by the names of its metrics, over all their labels."""
    found: dict[str, int] = {}
    for name, value in _COUNTED.findall(metrics):
        found[name] = found.get(name, 0) + int(value.removesuffix(".0"))
    return found


def incarnation_in(metrics: str) -> str | None:
    """Return the start time of an engine's process, as its metrics write it; None when they do not."""
    for line in metrics.splitlines():
        if line.startswith(INCARNATION) and line[len(INCARNATION) :].lstrip("{}").startswith(" "):
            return line.rsplit(" ", 1)[1]
    return None
