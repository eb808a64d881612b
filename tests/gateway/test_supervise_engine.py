"""From settings to an engine's command line and environment."""

import importlib.machinery
import importlib.util

import pytest

from gateway.settings import EngineSettings
from gateway.supervise import engine as engine_module
from gateway.supervise.engine import (
    Base,
    EngineMissing,
    EngineSpec,
    device_of,
    free_port,
    plan,
    require_packages,
    share_of,
)

_LOCAL = Base(model="/models/small", served_name="small", local=True)
_HUB = Base(model="org/model", served_name="model", local=False)


def _plan(
    settings: EngineSettings, base: Base = _LOCAL, *, device: str = "cpu", replicas: int = 1
) -> list[EngineSpec]:
    ports = range(21000, 21000 + replicas)
    return plan(settings, base, device=device, ports=ports, cores=[0, 1, 2, 3])


def _option(spec: EngineSpec, name: str) -> str | None:
    return spec.command[spec.command.index(name) + 1] if name in spec.command else None


def test_what_every_engine_gets() -> None:
    """An engine listens on loopback alone, serves the base by its name, and takes adapters at run time."""
    (spec,) = _plan(EngineSettings())
    assert (spec.replica, spec.url) == ("replica-0", "http://127.0.0.1:21000")
    assert spec.command[1:3] == ("-m", "vllm.entrypoints.openai.api_server")
    assert _option(spec, "--host") == "127.0.0.1"
    assert _option(spec, "--port") == "21000"
    assert _option(spec, "--model") == "/models/small"
    assert _option(spec, "--served-model-name") == "small"
    assert "--enable-lora" in spec.command
    assert spec.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert spec.environment["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize(
    ("settings", "option", "value"),
    [
        (EngineSettings(), "--quantization", "bitsandbytes"),
        (EngineSettings(quantization="fp8"), "--quantization", "fp8"),
        (EngineSettings(quantization=None), "--quantization", None),
        (EngineSettings(quantization="none"), "--quantization", None),
        (EngineSettings(max_lora_rank=64), "--max-lora-rank", "64"),
        (EngineSettings(max_loras=2), "--max-loras", "2"),
        (EngineSettings(max_loras=8, max_cpu_loras=4), "--max-cpu-loras", "8"),
        (EngineSettings(), "--block-size", "32"),
        (EngineSettings(), "--scheduling-policy", None),
        (EngineSettings(scheduling="priority"), "--scheduling-policy", "priority"),
        (EngineSettings(max_model_len=1024), "--max-model-len", "1024"),
        (EngineSettings(extra_args=("--seed", "7")), "--seed", "7"),
    ],
)
def test_settings_become_options(settings: EngineSettings, option: str, value: str | None) -> None:
    """Each setting of an engine becomes its option of vLLM."""
    (spec,) = _plan(settings)
    assert _option(spec, option) == value


@pytest.mark.parametrize(
    ("base", "device", "replicas", "expected"),
    [
        (_LOCAL, "cpu", 1, {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}),
        (_HUB, "cpu", 1, {"HF_HUB_OFFLINE": "absent", "VLLM_CPU_OMP_THREADS_BIND": "absent"}),
        (_LOCAL, "cpu", 2, {"VLLM_CPU_OMP_THREADS_BIND": "2,3", "VLLM_CPU_KVCACHE_SPACE": "1"}),
        (_LOCAL, "cuda", 2, {"CUDA_VISIBLE_DEVICES": "1", "VLLM_CPU_KVCACHE_SPACE": "absent"}),
        (_LOCAL, "cuda", 1, {"CUDA_VISIBLE_DEVICES": "absent", "TURNOUT_UNPACK_WEIGHTS": "absent"}),
        (_LOCAL, "cpu", 1, {"TURNOUT_UNPACK_WEIGHTS": "auto"}),
    ],
)
def test_environment(base: Base, device: str, replicas: int, expected: dict[str, str]) -> None:
    """A local base never asks a hub, and several replicas share out the cores or the GPUs."""
    last = _plan(EngineSettings(), base, device=device, replicas=replicas)[-1]
    assert {name: last.environment.get(name, "absent") for name in expected} == expected


def test_only_a_cpu_engine_is_eager() -> None:
    """On a CPU nothing is compiled; on a GPU vLLM's own default stays."""
    assert "--enforce-eager" in _plan(EngineSettings())[0].command
    assert "--enforce-eager" not in _plan(EngineSettings(), device="cuda")[0].command


@pytest.mark.parametrize(
    ("cores", "replicas", "shares"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([0, 1, 2, 3, 4], 2, [[0, 1], [2, 3]]),
        ([3, 5], 3, [[3], [5], [3]]),
    ],
)
def test_cores_are_shared_out(cores: list[int], replicas: int, shares: list[list[int]]) -> None:
    """Each replica gets an equal block of cores, or one in turn when there are too few."""
    assert [list(share_of(cores, index, replicas)) for index in range(replicas)] == shares


@pytest.mark.parametrize(
    ("installed", "settings", "message"),
    [
        (set(), EngineSettings(), "vLLM is not installed"),
        ({"vllm"}, EngineSettings(), "vllm-bnb-plugin is not installed"),
        ({"vllm"}, EngineSettings(quantization="none"), None),
        ({"vllm", "vllm_bnb_plugin"}, EngineSettings(), None),
    ],
)
def test_missing_packages(
    installed: set[str], settings: EngineSettings, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an engine needs is checked before it is started, and the message says how to get it."""

    def find(name: str) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, None) if name in installed else None

    monkeypatch.setattr(engine_module, "find_spec", find)
    if message is None:
        require_packages(settings)
        return
    with pytest.raises(EngineMissing, match=message):
        require_packages(settings)


def test_device_follows_the_settings() -> None:
    """A device that is named is taken; otherwise the installed build of vLLM decides."""
    assert device_of(EngineSettings(device="cuda")) == "cuda"
    assert device_of(EngineSettings(device="cpu")) == "cpu"
    assert device_of(EngineSettings()) in ("cpu", "cuda")


def test_free_port_lies_below_the_ephemeral_range() -> None:
    """The port is one that the system does not hand out to outgoing connections."""
    assert 20000 <= free_port() < 32000
