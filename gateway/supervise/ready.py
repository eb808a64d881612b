"""How far a starting engine is, whether it is well, and what its log says when it failed."""

import re
from collections.abc import Iterable
from enum import Enum

import httpx

_TIMEOUT_S = 2.0
_PHASES = (
    (re.compile(r"Application startup complete|Started server process"), "opening its port"),
    (re.compile(r"[Cc]apturing|[Ww]arming up"), "warming up"),
    (re.compile(r"KV cache"), "making room for the KV cache"),
    (re.compile(r"[Ll]oading weights|[Ll]oading safetensors|Starting to load model"), "loading the weights"),
    (re.compile(r"Initializing a V1"), "starting its core"),
)
_CAUSES = (
    (
        re.compile(r"address already in use|Errno 98"),
        "another program took the engine's port meanwhile; start again.",
    ),
    (
        re.compile(r"torchvision::nms"),
        "torchvision is linked against CUDA and torch is not; `make setup` removes it.",
    ),
    (
        re.compile(r"ModuleNotFoundError|PackageNotFoundError|ImportError"),
        "a package is missing or does not import; `make setup` installs what is missing.",
    ),
    (
        re.compile(r"[Oo]ut of memory|bad_alloc|MemoryError|Cannot allocate memory|[Nn]ot enough.*memory"),
        "there is too little memory; lower engine.cpu_kv_cache_gib, engine.max_model_len or engine.replicas.",
    ),
    (
        re.compile(r"KV cache.*(larger|exceed|needed)|max seq len|max_model_len"),
        "the context does not fit the KV cache; lower engine.max_model_len or raise engine.cpu_kv_cache_gib.",
    ),
    (
        re.compile(r"Offline|LocalEntryNotFound|not a valid model identifier|Can't load the configuration"),
        "the base model was not found; name a folder, or a hub's id with HF_HUB_OFFLINE=0 set.",
    ),
    (re.compile(r"unrecognized arguments"), "engine.extra_args has an option that this vLLM does not know."),
    (re.compile(r"[Uu]nknown quantization|quantization.*not supported"), "change engine.quantization."),
    (re.compile(r"No space left on device"), "the disk is full."),
)
_KILLED = 137


class Health(Enum):
    """What an engine answered to `GET /health`."""

    WELL = "well"
    DEAD = "dead"  # its core is gone; it never recovers by itself
    SILENT = "silent"  # not up yet, or stuck


def status_of(client: httpx.Client, url: str) -> int | None:
    """Ask for `url` and return the HTTP status of the answer, or None without one."""
    try:
        return client.get(url, timeout=_TIMEOUT_S).status_code
    except httpx.HTTPError:
        return None


def health(client: httpx.Client, engine_url: str) -> Health:
    """Ask an engine whether it is well."""
    code = status_of(client, f"{engine_url}/health")
    if code is None:
        return Health.SILENT
    return Health.WELL if code == 200 else Health.DEAD


def phase(log_tail: Iterable[str]) -> str:
    """Say what a starting engine does, from the end of its log."""
    for line in reversed(list(log_tail)):
        for pattern, text in _PHASES:
            if pattern.search(line):
                return text
    return "loading vLLM"


def diagnose(log_tail: Iterable[str], exit_code: int | None) -> str:
    """Say why an engine ended and what to do about it."""
    text = "\n".join(log_tail)
    for pattern, cause in _CAUSES:
        if pattern.search(text):
            return cause
    if exit_code == _KILLED:
        return (
            "it was killed, most likely for want of memory; "
            "lower engine.cpu_kv_cache_gib, engine.max_model_len or engine.replicas."
        )
    return "its log says why."
