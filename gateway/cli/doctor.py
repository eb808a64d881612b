"""`turnout doctor`: is everything there that `turnout serve` needs? One line a check, with what to do."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import typer

from gateway.cli.checks import agents, engines, machine, stores
from gateway.cli.checks.check import Check
from gateway.cli.options import Config, Json
from gateway.cli.output import print_fields, print_json


def doctor(*, config: Config = None, json: Json = False) -> None:
    """Check that this machine has what `turnout serve` needs. The exit code is 0 only when it has."""
    checks = list(examine(config))
    amiss = [check for check in checks if not check.ok]
    problems = [check for check in amiss if check.grave]
    if json:
        print_json({"ok": not problems, "checks": [asdict(check) for check in checks]})
    else:
        print_fields((f"{check.sign}  {check.name}", check.found) for check in checks)
        for check in amiss:
            typer.echo(f"- {check.name}: {check.todo}")
    if problems:
        raise typer.Exit(1)


def examine(config: Path | None) -> Iterator[Check]:
    """Yield every finding. When the settings are wrong, nothing that depends on them is looked at."""
    from gateway.settings import SettingsError, load  # noqa: PLC0415 - other commands need not pay for it

    yield machine.python()
    yield machine.libraries()
    try:
        settings = load(config)
    except SettingsError as error:
        yield Check("settings", ok=False, found=str(error).replace("\n", "; "), todo="mend the settings")
        return
    yield Check("settings", ok=True, found="valid")
    state = machine.state_dir(settings.state_dir)
    yield state
    yield machine.disk(settings.state_dir)
    yield from machine.files(settings, config)
    yield machine.open_files(settings)
    yield from engines.base_model(settings)
    yield from engines.engines(settings)
    yield from agents.agents(settings)
    yield from machine.ports(settings)
    yield from machine.certificate(settings)
    if state.ok:
        yield from stores.stores(settings)
