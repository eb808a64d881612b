"""From the measures of every round to the figures of `bench-overhead` and the table for people. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.common.quantiles import median
from loadtests.common.report import Sheet, number

DIRECT = "direct"
MAX_COALESCED_SHARE = 0.05
Rounds = Mapping[str, Sequence[Mapping[str, Mapping[str, Any]]]]
BySystem = dict[str, float | None]


def figures_of(
    rounds: Rounds, *, missing: Mapping[str, str], failed: Mapping[str, str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures by name; a system without measures has null everywhere and a reason under `more`."""

    def of(load: str, name: str, digits: int = 1) -> BySystem:
        return {system: _median(turns, load, name, digits) for system, turns in rounds.items()}

    return {
        "cpu_us_per_request": of("saturated", "cpu_us_per_request"),
        "cpu_us_per_chunk": of("streams", "cpu_us_per_chunk"),
        "added_latency_p50_us": added(rounds, "p50_us"),
        "added_latency_p99_us": added(rounds, "p99_us"),
        "throughput_rps": of("saturated", "throughput_rps", 0),
        "rss_mb": of("memory", "rss_mb"),
        "more": {
            "saturated_32kb": {
                name: of("saturated_32kb", name) for name in ("cpu_us_per_request", "throughput_rps")
            },
            "half_load": {name: of("half_load", name) for name in ("cpu_us_per_request", "p50_us", "p99_us")},
            "half_load_32kb": {
                name: of("half_load_32kb", name) for name in ("cpu_us_per_request", "p50_us", "p99_us")
            },
            "one_connection": {name: of("one_connection", name) for name in ("p50_us", "p99_us")},
            "streams": {
                "streams": of("streams", "streams", 0),
                "coalesced_share": _coalesced(rounds),
                "delay_p50_us": _nested(rounds, "delay_us", "p50"),
                "delay_p99_us": _nested(rounds, "delay_us", "p99"),
            },
            "others_on_core": of("saturated", "others_on_core", 3),
            "missing": dict(missing),
            "failed": dict(failed),
            "settings": dict(settings),
        },
    }


def added(rounds: Rounds, name: str) -> BySystem:
    """Return what each system adds to the direct latency of the same round, at one connection."""
    figures: BySystem = {}
    direct = rounds.get(DIRECT, ())
    for system, turns in rounds.items():
        differences = [
            turn["one_connection"][name] - base["one_connection"][name]
            for turn, base in zip(turns, direct, strict=False)
        ]
        figures[system] = _rounded(median(differences), 1)
    return figures


def sheet_of(figures: Mapping[str, Any], systems: Sequence[str]) -> Sheet:
    """Return the table: one row a system, at 1 KB unless the column says otherwise."""
    more = figures["more"]
    columns = {
        "system": None,
        "CPU µs/request": (figures["cpu_us_per_request"], 1),
        "at 32 KB": (more["saturated_32kb"]["cpu_us_per_request"], 1),
        "at half load": (more["half_load"]["cpu_us_per_request"], 1),
        "CPU µs/chunk": (figures["cpu_us_per_chunk"], 1),
        "requests/s": (figures["throughput_rps"], 0),
        "added p50 µs": (figures["added_latency_p50_us"], 0),
        "added p99 µs": (figures["added_latency_p99_us"], 0),
        "RSS MB": (figures["rss_mb"], 0),
    }
    rows = [
        [system, *(number(source[0].get(system), source[1]) for source in columns.values() if source)]
        for system in systems
    ]
    return Sheet(
        "What a proxy costs (1 KB bodies, at saturation)", list(columns), rows, _notes(figures["more"])
    )


def disturbance(figures: Mapping[str, Any]) -> float:
    """Return the largest share of the measured core that other programs took beside a system."""
    return max((share or 0.0 for share in figures["more"]["others_on_core"].values()), default=0.0)


def _notes(more: Mapping[str, Any]) -> list[str]:
    notes = [f"{system} is missing: {reason}" for system, reason in more["missing"].items()]
    notes += [f"{system} failed: {reason}" for system, reason in more["failed"].items()]
    notes += [
        f"{system}: {share:.0%} of the reads brought more than one event; its figure per chunk is too low."
        for system, share in more["streams"]["coalesced_share"].items()
        if share is not None and share > MAX_COALESCED_SHARE
    ]
    settings = more["settings"]
    notes.append(
        f"Medians of {settings['rounds']} rounds of {settings['seconds']:g} s a load. Other programs took up "
        f"to {disturbance({'more': more}):.0%} of the measured core."
    )
    return notes


def _median(
    turns: Sequence[Mapping[str, Mapping[str, Any]]], load: str, name: str, digits: int
) -> float | None:
    return _rounded(median([turn.get(load, {}).get(name) for turn in turns]), digits)


def _nested(rounds: Rounds, group: str, name: str) -> BySystem:
    return {
        system: _rounded(median([turn["streams"][group][name] for turn in turns]), 1)
        for system, turns in rounds.items()
    }


def _coalesced(rounds: Rounds) -> BySystem:
    """Return the share of reads that brought more than one event: near 0 when pacing held."""
    return {
        system: _rounded(
            median([turn["streams"]["coalesced_reads"] / max(1, turn["streams"]["reads"]) for turn in turns]),
            3,
        )
        for system, turns in rounds.items()
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
