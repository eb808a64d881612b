"""`make bench-affinity`: where an adapter's requests go, by four policies, on two real engines and simulated.

Two engines of one core each stand behind the gateway and the controller, which run as `turnout serve` runs
them. There are more adapters than slots of a batch, each with a long system prompt of its own, and a KV
cache that holds the prompts of about half of them. The policies take turns in every round; each turn has a
key of a tenant of its own, so that it finds nothing in the caches that another one left.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtests.affinity import load as affinity_load
from loadtests.affinity.fleet import POLICIES, Fleet, FleetSize, fleet, quiet, serving
from loadtests.affinity.load import Mix
from loadtests.affinity.simulated import Outcome, Setting, at_equal_load, compare
from loadtests.common.machine import busy_share, cores
from loadtests.common.processes import StartFailed, end_in_order
from loadtests.common.quantiles import quantile
from loadtests.common.report import Sheet, console_for_people, number, publish

BENCH = "bench-affinity"
CACHED, SIMULATED = "cached", "simulated"
Turns = dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class Part:
    """What two real engines have: a prefix cache, and memory for all adapters or for fewer."""

    title: str
    size: FleetSize
    prefix_caching: bool = True


REAL = {
    CACHED: Part("two engines", FleetSize()),
    "no_prefix_cache": Part("two engines, no prefix cache", FleetSize(), prefix_caching=False),
    "few_places": Part("two engines, memory for 10 of 16 adapters", FleetSize(max_cpu_loras=5)),
}


def main() -> int:
    """Run the benchmark; return 0 only when every request was answered."""
    options = _options()
    end_in_order()
    console = console_for_people()
    mix = Mix()
    figures: dict[str, Any] = {}
    try:
        for part, real in REAL.items():
            if part in options.parts:
                _enter(figures, part, _real(options, real, mix, console))
    except StartFailed as error:
        console.print(f"[red]failed:[/red] {error}")
        return 1
    if SIMULATED in options.parts:
        figures["simulated"] = _simulated(options, console)
    figures["more"] = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "warm_up_s": options.warm_up_s,
        "fleets": {part: vars(real.size) for part, real in REAL.items() if part in options.parts},
        "mix": vars(mix),
        "busy_before": options.busy,
        **figures.pop("more", {}),
    }
    failed = figures["more"].get("failed_requests", 0)
    publish(
        BENCH,
        figures,
        _sheet(figures),
        console=console,
        history=options.history,
        partial=options.quick or bool(failed) or len(options.parts) <= len(REAL),
    )
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parts = (*REAL, SIMULATED)
    parser = argparse.ArgumentParser(prog="make bench-affinity", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured in each turn")
    parser.add_argument("--warm-up", dest="warm_up_s", type=float, default=40.0, help="seconds before that")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--quick", action="store_true", help="one round and less simulated, not kept")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    options.busy = round(busy_share(), 2)
    return options


# --- real engines ------------------------------------------------------------------------------------------


def _real(options: argparse.Namespace, part: Part, mix: Mix, console: Console) -> Turns:
    """Let every policy have its turn in every round, on one pair of engines."""
    turns: Turns = {policy: [] for policy in POLICIES}
    allowed = [core for core in cores() if core is not None] or [0]
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as scratch:
        console.print(f"starting {part.title}")
        with fleet(Path(scratch), part.size, prefix_caching=part.prefix_caching, cores=allowed) as engines:
            for turn in range(options.rounds):
                for policy in POLICIES:
                    measured = _turn(engines, policy, mix, options, seed=turn)
                    turns[policy].append(measured)
                    console.print(
                        f"round {turn + 1} of {options.rounds}: {policy}: "
                        f"{measured['tokens_per_s']:.1f} tokens/s, "
                        f"TTFT p95 {measured['ttft_p95_ms']:,.0f} ms, "
                        f"{measured['cached_share']:.0%} of prompt tokens cached, "
                        f"{measured['tokens_per_engine_cpu_s']:.2f} tokens a CPU second"
                        + (f", {measured['failed']:.0f} failed" if measured["failed"] else "")
                    )
    return turns


def _turn(
    engines: Fleet, policy: str, mix: Mix, options: argparse.Namespace, *, seed: int
) -> dict[str, float]:
    key = engines.new_key()
    with serving(engines, policy) as address:
        quiet(engines)
        asked, found = engines.prefix_tokens()
        loads = sum(count.cold_loads for count in engines.store.placement.counts().values())
        heard = affinity_load.run(
            address,
            key,
            engines.names,
            mix,
            warm_up_s=options.warm_up_s,
            seconds=options.seconds,
            seed=seed,
            cpu_s=engines.cpu_s,
        )
        asked_then, found_then = engines.prefix_tokens()
        loads_then = sum(count.cold_loads for count in engines.store.placement.counts().values())
    ttfts = sorted(round(ttft * 1000) for _, ttft, _ in heard.ended)
    return {
        "tokens_per_s": sum(tokens for _, _, tokens in heard.ended) / options.seconds,
        "ttft_p95_ms": quantile(ttfts, 0.95),
        "ttft_p50_ms": quantile(ttfts, 0.5),
        "tokens_per_engine_cpu_s": sum(tokens for _, _, tokens in heard.ended) / max(0.1, heard.cpu_s),
        "requests": len(heard.ended),
        "failed": len(heard.failed),
        "cached_share": (found_then - found) / max(1.0, asked_then - asked),
        "cold_loads": loads_then - loads,
    }


def _enter(figures: dict[str, Any], part: str, turns: Turns) -> None:
    figures_of_part = {
        name: {policy: round(_median(turns[policy], name), 1) for policy in turns}
        for name in ("tokens_per_s", "ttft_p95_ms", "ttft_p50_ms", "cold_loads", "requests")
    }
    for name in ("cached_share", "tokens_per_engine_cpu_s"):
        figures_of_part[name] = {policy: round(_median(turns[policy], name), 3) for policy in turns}
    more = figures.setdefault("more", {"failed_requests": 0})
    more["failed_requests"] += int(sum(turn["failed"] for each in turns.values() for turn in each))
    if part == CACHED:
        figures.update(figures_of_part)
    else:
        figures[part] = figures_of_part


def _median(turns: Sequence[dict[str, float]], name: str) -> float:
    return statistics.median(turn[name] for turn in turns) if turns else 0.0


# --- simulated ---------------------------------------------------------------------------------------------


def _simulated(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    setting = Setting(requests=3_000 if options.quick else 12_000)
    found: dict[str, Any] = {}
    for caching in (True, False):
        console.print(
            f"simulating {setting.replicas} replicas and {setting.adapters} adapters, "
            f"prefix caching {'on' if caching else 'off'}"
        )
        outcomes = compare(replace(setting, prefix_caching=caching))
        part = _part(outcomes)
        if caching:
            found |= part
            found["longest_cold_wait_ms"] = round(outcomes["placement"].longest_wait_ms)
            found["moves"] = outcomes["placement"].moves
            console.print("the same with as many requests a second for every policy")
            equal = at_equal_load(setting, outcomes)
            found["equal_load"] = _part(equal)
        else:
            found["no_prefix_cache"] = part
    return found


def _part(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    return {
        name: {policy: round(getattr(outcome, name), digits) for policy, outcome in outcomes.items()}
        for name, digits in (
            ("tokens_per_s", 1),
            ("ttft_p95_ms", 0),
            ("ttft_p50_ms", 0),
            ("cached_share", 3),
            ("cold_loads", 0),
        )
    }


# --- what is shown -----------------------------------------------------------------------------------------


def _sheet(figures: dict[str, Any]) -> Sheet:
    parts = [
        *((real.title, figures if part == CACHED else figures.get(part, {})) for part, real in REAL.items()),
        ("simulated", figures.get("simulated", {})),
        ("simulated, equal load", figures.get("simulated", {}).get("equal_load", {})),
        ("simulated, no prefix cache", figures.get("simulated", {}).get("no_prefix_cache", {})),
    ]
    rows = [
        _row(title, policy, part)
        for title, part in parts
        for policy in (POLICIES if "tokens_per_s" in part else ())
    ]
    return Sheet(
        title="Where an adapter's requests go",
        columns=(
            "fleet",
            "policy",
            "tokens/s",
            "to round robin",
            "tokens/CPU s",
            "TTFT p50 ms",
            "p95 ms",
            "cached %",
            "cold loads",
        ),
        rows=rows,
    )


def _row(title: str, policy: str, part: dict[str, Any]) -> tuple[str, ...]:
    tokens = part["tokens_per_s"]
    return (
        title,
        policy,
        number(tokens[policy], 1),
        number(tokens[policy] / tokens["round_robin"], 2),
        number(part.get("tokens_per_engine_cpu_s", {}).get(policy), 2),
        number(part["ttft_p50_ms"][policy]),
        number(part["ttft_p95_ms"][policy]),
        number(part["cached_share"][policy] * 100),
        number(part["cold_loads"][policy]),
    )


if __name__ == "__main__":
    raise SystemExit(main())
