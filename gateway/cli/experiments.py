"""`turnout routes plan|pause|resume|abort`, and how an experiment is printed."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gateway.cli.client import Client, segment
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url, Why
from gateway.cli.output import age, arms, print_json, print_table, when
from gateway.experiments.bars import bar

Name = Annotated[str, typer.Argument(metavar="ROUTE", help="The route.")]
BAR_WIDTH = 31
SMALLEST_SPAN = 0.1
"""Of the axis of the bars: ten points to each side of zero, or more when the figures need it."""

DAY_S = 86_400.0


def plan(route: Name, *, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Say what a route's experiment can find at the present traffic, and how long it takes."""
    with Client(url, api_key) as api:
        found = api.get(f"/admin/routes/{segment(route)}/plan")
    if json:
        print_json(found)
    elif found["plan"] is None:
        typer.echo(f"{route} compares nothing: it has one arm and no canary.")
    else:
        for line in plan_lines(found["plan"]):
            typer.echo(line)


def pause(route: Name, *, why: Why = None, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Let a canary take no further step. Its guardrails are watched on."""
    _command("pause", route, why=why, url=url, api_key=api_key)


def resume(
    route: Name,
    *,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew a canary that was stopped.")] = False,
    why: Why = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Go on with a canary that is paused or held."""
    _command("resume", route, body={"restart": restart}, why=why, url=url, api_key=api_key)


def abort(route: Name, *, why: Why = None, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """End a canary: the arms of the spec get all traffic again, at once."""
    _command("abort", route, why=why, url=url, api_key=api_key)


def _command(
    name: str, route: str, *, why: str | None, url: str, api_key: str | None, body: Any = None
) -> None:
    with Client(url, api_key) as api:
        path = f"/admin/routes/{segment(route)}/{name}"
        _, found = api.call("POST", path, params={"why": why}, body=body)
    status = found["status"]
    typer.echo(f"{route}: {canary_words(status['canary'])}; traffic meets {arms(status['effective_arms'])}")


def canary_words(canary: dict[str, Any] | None) -> str | None:
    """Return in one line how a canary is doing."""
    if canary is None:
        return None
    state = canary["state"].replace("_", " ")
    reason = f": {canary['reason']}" if canary["reason"] else ""
    return f"{canary['candidate']} is {state}, step {canary['step']} at {canary['share']:g}{reason}"


def plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Yield a plan in words."""
    pace = plan["units_per_day"]
    yield f"traffic now: about {pace:.0f} units a day" if pace else "no traffic in the last day to plan with"
    for number, step in enumerate(plan.get("steps", ()), start=1):
        late = "" if step["in_time"] else f", and it is held after {_days(step['deadline_days'])}"
        yield (
            f"step {number}: {step['share']:g} of the traffic, {step['candidate_units']} units of "
            f"{plan['candidate']} in {_days(step['days'])}{late}"
        )
        for name, one in step["detectable"].items():
            yield f"  {name}: finds differences from {_scaled(one, one['difference'])}"
    if "steps" in plan:
        yield f"in all {_days(plan['days'])}, then it {_THEN[plan['then']]}"
    for label, one in plan.get("candidates", {}).items():
        yield f"{label} against {plan['stable']} on {plan['metric']}:"
        yield f"  {_days(one['days'])} for a difference of {_scaled(one, one['difference'])}"
        yield f"  in {one['within_days']:g} days differences from {_scaled(one, one['detectable'])}"


_THEN = {"promote": "is promoted", "wait": "waits for a person"}


def print_experiment(found: dict[str, Any], *, now: float) -> None:
    """Print what was found of an experiment: arms, intervals as bars, and the verdict in words."""
    canary = found["canary"]
    if canary is not None:
        typer.echo()
        typer.echo(f"Canary  {canary_words(canary)}")
    figures = found["findings"]
    if figures is None:
        return
    typer.echo()
    ago = age(max(0.0, now - figures["until"]))
    typer.echo(f"Experiment  as of {ago} ago; units are {figures['units_are']}")
    if figures["sampled"] < 1:
        typer.echo(f"  made from {figures['sampled']:g} of the units")
    print_table(
        ["ARM", "SHARE", "UNITS", "REQUESTS", "ERRORS", "COLD"],
        [
            [label, figures["epochs"][-1]["shares"].get(label), *(one[name] for name in _COUNTS)]
            for label, one in figures["arms"].items()
        ],
        indent=2,
    )
    for label, candidate in figures["candidates"].items():
        _print_candidate(label, candidate, figures)
    if figures["canary"] is not None:
        _print_guardrails(figures["canary"])


_COUNTS = ("units", "requests", "errors", "cold")


def _print_candidate(label: str, candidate: dict[str, Any], figures: dict[str, Any]) -> None:
    typer.echo()
    typer.echo(f"{label} against {figures['stable']}")
    estimates = [abs(one["estimate"]) for one in candidate["metrics"].values() if one["estimate"]]
    span = min(1.0, max([SMALLEST_SPAN, *(1.5 * each for each in estimates)]))
    print_table(
        ["METRIC", "BETTER", f"DIFFERENCE (±{100 * span:.0f} %)", "ESTIMATE", "BETWEEN", "UNITS"],
        [
            [
                f"{name} (primary)" if name == figures["primary"] else name,
                one["better"],
                bar(one["low"], one["high"], one["estimate"], span=span, width=BAR_WIDTH),
                "-" if one["estimate"] is None else _scaled(one, one["estimate"]),
                f"{one['low'] * one['scale']:+.1f} and {one['high'] * one['scale']:+.1f}",
                f"{one['candidate_units']} to {one['stable_units']}"
                + (f", {one['open_units']} open" if one["open_units"] else ""),
            ]
            for name, one in candidate["metrics"].items()
        ],
        indent=2,
    )
    typer.echo(f"  {candidate['verdict']['text']}")


def _print_guardrails(canary: dict[str, Any]) -> None:
    typer.echo()
    typer.echo(f"Guardrails  {canary['step_units']} units of {canary['candidate']} are closed in this step")
    rows = [
        [
            name,
            f"{one['limit']:g}",
            "-" if one["estimate"] is None else f"{one['estimate']:+.3f}",
            f"{one['low']:+.3f} and {one['high']:+.3f}",
            "BREACHED" if one["breached"] else "kept" if one["proven"] else "not broken so far",
        ]
        for name, one in canary["guardrails"].items()
    ]
    if rows:
        print_table(["GUARDRAIL", "LIMIT", "ESTIMATE", "BETWEEN", "STATE"], rows, indent=2)


def experiment_fields(route: dict[str, Any]) -> list[tuple[str, object]]:
    """Return what a route's spec says of its canary, for people."""
    canary, status = route["spec"]["canary"], route["status"]["canary"]
    if canary is None:
        return [("canary", None)]
    guardrails = ", ".join(f"{name} {limit:g}" for name, limit in canary["guardrails"].items())
    steps = ", ".join(f"{share:g}" for share in canary["steps"])
    fields: list[tuple[str, object]] = [
        ("canary", f"{canary['candidate']} in steps {steps}; then {canary['then']}"),
        ("guardrails", guardrails),
    ]
    if status is not None:
        fields.append(("step since", when(status["step_at"])))
    return fields


def _days(days: float | None) -> str:
    return "unknown time" if days is None else age(days * DAY_S)


def _scaled(one: dict[str, Any], value: float) -> str:
    return f"{value * one['scale']:.1f} {one['unit']}".rstrip()
