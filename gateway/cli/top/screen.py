"""A frame of `turnout top` as text for a terminal, as much of it as fits."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.output import age

_MOST_REPLICAS = 12
_MOST_EXPERIMENTS = 8
_MOST_ALERTS = 8
_FEWEST_ADAPTERS = 3


def draw(frame: Mapping[str, Any], *, title: str, note: str | None, height: int) -> RenderableType:
    """Return the frame for a screen of so many lines. `note` says what is amiss with the reading itself."""
    parts: list[RenderableType] = [_head(frame, title)]
    if note:
        parts.append(Text(note, style="bold red"))
    if frame["gateway_restarted"]:
        parts.append(Text("the gateway has started again: its counters began at zero", style="yellow"))
    replicas = _replicas(frame["replicas"])
    experiments = _experiments(frame["experiments"])
    alerts = _alerts(frame)
    used = 10 + sum(each.row_count + 2 for each in (replicas, experiments, alerts) if each.row_count)
    parts += [replicas, _adapters(frame["adapters"], most=max(_FEWEST_ADAPTERS, height - used))]
    if experiments.row_count:
        parts.append(experiments)
    parts.append(alerts if alerts.row_count else Text("No alerts.", style="green"))
    parts.append(Text(_alerts_from(frame["alerts_by"]), style="dim"))
    return Group(*parts)


def waiting(title: str, note: str) -> RenderableType:
    """Return what is shown before there is a frame."""
    return Group(Text(title, style="bold"), Text(note))


def _head(frame: Mapping[str, Any], title: str) -> Text:
    fleet = frame["fleet"]
    generation, workers = frame["generation"], frame["workers"]
    controller = frame["controller"]
    lines = [
        f"{title}   generation {_count(generation)}, {_count(workers)} workers, controller "
        + ("unknown" if controller is None else "at work" if controller["alive"] else "NOT at work"),
        (
            f"{fleet['requests_per_s']:.1f} requests/s ({fleet['failed_per_s']:.1f} failed)   "
            f"{fleet['tokens_per_s']:.0f} tokens/s   {fleet['in_flight']:.0f} in flight   "
            f"{_count(fleet['queued'])} queued   {_count(fleet['cold_waiting'])} wait for a load"
        ),
        (
            f"first token {_ms(fleet['ttft_p50_s'])} median, {_ms(fleet['ttft_p95_s'])} p95   "
            f"between tokens {_ms(fleet['inter_token_p95_s'])} p95   whole {_ms(fleet['duration_p95_s'])} p95"
        ),
    ]
    text = Text("\n".join(lines))
    text.stylize("bold", 0, len(title))
    return text


def _table(title: str, *headers: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _replicas(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Replicas", "ID", "STATE", "CIRCUIT", "PROVED", "WEAK", "FAILED", "SLOTS", "RUNNING FOR")
    # What is not well has to be on the screen, however many there are.
    ranked = sorted(rows, key=lambda row: (row["up"] and not row["quarantined"], row["id"]))
    for row in ranked[:_MOST_REPLICAS]:
        state = "quarantined" if row["quarantined"] else "up" if row["up"] else "DOWN"
        proofs = row["proofs"]
        counts = (str(proofs[proof]) for proof in ("strong", "weak", "failed"))
        table.add_row(
            Text(row["id"]),
            Text(state, style="green" if state == "up" else "bold red"),
            row["circuit"] or "-",
            *counts,
            _count(row["slots"]),
            age(row["running_for_s"]),
        )
    _rest(table, len(rows) - _MOST_REPLICAS, "all of them up" if _all_well(ranked) else "some of them down")
    return table


def _all_well(ranked: Sequence[Mapping[str, Any]]) -> bool:
    return all(row["up"] and not row["quarantined"] for row in ranked[_MOST_REPLICAS:])


def _adapters(rows: Sequence[Mapping[str, Any]], *, most: int) -> Table:
    table = _table(
        "Adapters",
        *("VERSION", "REQ/S", "FAILED/S", "TOK/S", "IN FLIGHT", "REPLICAS", "TTFT P50", "P95", "ITL P95"),
    )
    for row in rows[:most]:
        table.add_row(
            Text(row["adapter"] or "-"),
            f"{row['requests_per_s']:.1f}",
            Text(f"{row['failed_per_s']:.1f}", style="red" if row["failed_per_s"] else ""),
            f"{row['tokens_per_s']:.0f}",
            f"{row['in_flight']:.0f}",
            _count(row["replicas"]),
            _ms(row["ttft_p50_s"]),
            _ms(row["ttft_p95_s"]),
            _ms(row["inter_token_p95_s"]),
        )
    _rest(table, len(rows) - most, "less busy")
    return table


def _experiments(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Experiments", "ROUTE", "CANARY", "STEP", "SHARE", "UNITS", "FOUND")
    for row in rows[:_MOST_EXPERIMENTS]:
        canary = row["canary"] or {}
        units = ", ".join(f"{arm} {count}" for arm, count in sorted(row["units"].items())) or "-"
        found = ", ".join(f"{label} {finding}" for label, finding in sorted(row["findings"].items())) or "-"
        table.add_row(
            Text(row["route"]),
            Text(f"{canary['candidate']} {canary['state'].replace('_', ' ')}" if canary else "-"),
            _count(canary.get("step")),
            "-" if canary.get("share") is None else f"{canary['share']:g}",
            Text(units),
            Text(f"{found}; ARMS DO NOT MATCH" if row["mismatch"] else found),
        )
    _rest(table, len(rows) - _MOST_EXPERIMENTS, "routes")
    return table


def _alerts(frame: Mapping[str, Any]) -> Table:
    table = _table("Alerts", "ALERT", "SEVERITY", "WHAT", "RUNBOOK")
    for column in table.columns:
        column.justify = "left"
    for alert in frame["alerts"][:_MOST_ALERTS]:
        style = "" if not alert["firing"] else "bold red" if alert["severity"] == "page" else "yellow"
        table.add_row(
            Text(alert["name"], style=style),
            alert["severity"] if alert["firing"] else "pending",
            Text(alert["what"]),
            Text(alert["runbook"]),
        )
    _rest(table, len(frame["alerts"]) - _MOST_ALERTS, "alerts")
    return table


def _alerts_from(by: str) -> str:
    if by == "prometheus":
        return "Alerts are Prometheus' own."
    return "Alerts are those that one gateway's metrics show now; budgets and thrash need --prometheus."


def _rest(table: Table, count: int, what: str) -> None:
    if count > 0:
        table.add_row(Text(f"… and {count} more, {what}", style="dim"))


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
