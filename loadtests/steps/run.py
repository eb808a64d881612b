"""`make bench-steps`: what the engine's plugin saves of a step on a CPU.

The same engine with and without `adapters.vllm_plugin`, one after the other: seconds for a prompt of 200
words, and for each further token, asked of the base model and of an adapter. Nothing else runs. Before that,
torch's own products by precision, which decide in what the weights are multiplied. Without the plugin other
things are wrong as well (a request to the base model may be answered with an adapter's weights, see
`adapters/vllm_lora.py`): it is measured, not offered.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import torch

from adapters.base import DEFAULT, folder_of
from adapters.machine import multiplies_bfloat16
from gateway.settings import EngineSettings
from gateway.supervise.engine import Base, free_port, plan
from loadtests.common.machine import ROOT
from loadtests.common.processes import started, wait_for
from loadtests.common.report import Sheet, console_for_people, publish

BENCH = "bench-steps"
ADAPTER = "sentiment"
START_S = 300
FURTHER = 20
PRODUCTS_S = 1.0
WORDS = ("film", "bad", "good", "warm", "witty", "loud", "long", "story", "actor")
SYSTEMS = {"without": "bitsandbytes", "with": "bitsandbytes,turnout_cpu_lora"}
"""What `VLLM_PLUGINS` lets vLLM load."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both engines, print and keep the figures, and remember them unless asked not to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one question of each kind, to see that it runs")
    parser.add_argument("--no-history", action="store_true", help="do not append to RESULTS.md")
    given = parser.parse_args(arguments)
    figures: dict[str, Any] = {"multiplies_bfloat16": multiplies_bfloat16(), **_products()}
    with tempfile.TemporaryDirectory(prefix="turnout-steps-") as folder:
        for system in SYSTEMS:
            figures |= _measured(system, Path(folder), times=1 if given.quick else 5)
    for name in list(figures):
        if name.startswith("without_"):
            kind = name.removeprefix("without_")
            figures[f"ratio_{kind}"] = round(figures[name] / figures[f"with_{kind}"], 2)
    publish(
        BENCH,
        figures,
        _sheet(figures),
        console=console_for_people(),
        history=not given.no_history,
        partial=given.quick,
    )


def _products() -> dict[str, float]:
    """Return the GFLOP/s of products of the default base's size, as passes forward and backward make them."""
    tokens, inner, outer = 600, 576, 1536
    found: dict[str, float] = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        x, weight = torch.randn(tokens, inner, dtype=dtype), torch.randn(outer, inner, dtype=dtype)
        gradient = torch.randn(tokens, outer, dtype=dtype)
        for way, left, right in (("forward", x, weight.T), ("backward", gradient, weight)):
            torch.mm(left, right)
            count, began = 0, time.perf_counter()
            while (took := time.perf_counter() - began) < PRODUCTS_S:
                torch.mm(left, right)
                count += 1
            found[f"gflops_{way}_{name}"] = round(2e-9 * tokens * inner * outer * count / took, 1)
    return found


def _measured(system: str, folder: Path, *, times: int) -> dict[str, float]:
    settings = EngineSettings(device="cpu", cpu_kv_cache_gib=1)
    base = Base(str(folder_of(DEFAULT)), DEFAULT, local=True)
    spec = plan(settings, base, device="cpu", ports=[free_port()], cores=[])[0]
    environment = {name: value for name, value in spec.environment.items() if value is not None}
    environment["VLLM_PLUGINS"] = SYSTEMS[system]
    command, log = [sys.executable, *spec.command[1:]], folder / f"{system}.log"
    with (
        started(command, log=log, core=None, environment=environment) as process,
        httpx.Client(base_url=spec.url, timeout=START_S, trust_env=False) as http,
    ):
        wait_for(lambda: _healthy(http), process, what="the engine", timeout_s=START_S)
        body = {"lora_name": ADAPTER, "lora_path": str(ROOT / "adapters" / "library" / ADAPTER)}
        http.post("/v1/load_lora_adapter", json=body).raise_for_status()
        return _timed(http, system, times=times)


def _timed(http: httpx.Client, system: str, *, times: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for kind, model in (("base", DEFAULT), ("adapter", ADAPTER)):
        words = random.Random(kind)  # the same for both systems

        def median(length: int, tokens: int, model: str = model, words: random.Random = words) -> float:
            asked = [_asked(http, model, words, length=length, tokens=tokens) for _ in range(times)]
            return statistics.median(asked)

        _asked(http, model, words, length=5, tokens=2)  # what the first one alone pays
        found[f"{system}_prompt_{kind}_s"] = round(median(200, 1), 3)
        each = (median(3, 1 + FURTHER) - median(3, 1)) / FURTHER
        found[f"{system}_token_{kind}_s"] = round(each, 4)
    return found


def _healthy(http: httpx.Client) -> bool:
    try:
        return http.get("/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _asked(http: httpx.Client, model: str, words: random.Random, *, length: int, tokens: int) -> float:
    """Return the seconds of one request with a prompt that nothing in the cache begins like."""
    body = {
        "model": model,
        "prompt": f"{words.random()} " + " ".join(words.choices(WORDS, k=length)),
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    began = time.perf_counter()
    http.post("/v1/completions", json=body).raise_for_status()
    return time.perf_counter() - began


def _sheet(figures: dict[str, Any]) -> Sheet:
    rows = [
        (
            f"{what}, {who}",
            f"{figures[f'without_{kind}_{model}_s']:.3f}",
            f"{figures[f'with_{kind}_{model}_s']:.3f}",
            f"{figures[f'ratio_{kind}_{model}_s']:.1f}",
        )
        for kind, what in (("prompt", "200 words, s"), ("token", "a further token, s"))
        for model, who in (("base", "base model"), ("adapter", "adapter"))
    ]
    speeds = "; ".join(
        f"{kind} {figures[f'gflops_forward_{kind}']} forward, {figures[f'gflops_backward_{kind}']} backward"
        for kind in ("bfloat16", "float32")
    )
    way = "bfloat16" if figures["multiplies_bfloat16"] else "float32: this CPU is slow at bfloat16"
    return Sheet(
        title="A step of the engine on a CPU, by whether the plugin is loaded",
        columns=("", "without", "with", "times faster"),
        rows=rows,
        notes=(
            f"Unpacked weights are multiplied in {way}. Medians.",
            f"GFLOP/s of torch's own products: {speeds}.",
        ),
    )


if __name__ == "__main__":
    main()
