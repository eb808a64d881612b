"""`turnout train`, `data` and `monitor`: programs of their own, which this process becomes."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer

from gateway.cli.group import CliError

HELP = {"--help", "-h"}
TRAINING = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes")
PROBING = ("torch", "transformers", "peft", "bitsandbytes")
DATA = ("numpy", "pyarrow")
MONITORING = ("evidently", "pandas", "py3langid", "sklearn")


def train(ctx: typer.Context) -> None:
    """Train an adapter from a file and publish it (`turnout train --help` has the options)."""
    become("training", ctx.args, needs=TRAINING)


def probe(ctx: typer.Context) -> None:
    """Choose and record the probes of an adapter's folder, for attestation (`turnout probe --help`)."""
    become("training", ctx.args, needs=PROBING, module="training.publishing.reference")


def evaluate(ctx: typer.Context) -> None:
    """Judge adapter versions on held-out rows, with intervals (`turnout evaluate --help`)."""
    become("training", ctx.args, needs=PROBING, module="training.evaluation.cli")


def runs(ctx: typer.Context) -> None:
    """List, show and remove the runs of `turnout train` (`turnout runs --help`)."""
    become("training", ctx.args, needs=(), module="training.runs.cli")


def data_check(ctx: typer.Context) -> None:
    """Check data before it is trained on (`turnout data check --help`)."""
    become("training", ["check", *ctx.args], needs=DATA, module="training.data.cli")


def monitor(ctx: typer.Context) -> None:
    """Look for drift in a route's recorded requests (`turnout monitor run --help`)."""
    become("monitoring", ctx.args, needs=MONITORING)


def become(
    package: str, arguments: Sequence[str], *, needs: Sequence[str], module: str | None = None
) -> NoReturn:
    """Replace this process by `python -m package`, with its arguments, its exit code and its signals.

    `module` is run in place of the package itself.

    Raises:
        CliError: a library of the package's extra is missing.
    """
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing and not HELP.intersection(arguments):
        raise CliError(
            f"{', '.join(missing)} is not installed: install the `{package}` extra with "
            f"pip install 'turnout[{package}]'"
        )
    # -P: a folder `training` in the working directory is not ours.
    command = [sys.executable, "-P", "-m", module or package, *arguments]
    environment = {**settings_of_the_file(), **os.environ}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)  # noqa: S606 - a list, no shell; the user's own arguments


def settings_of_the_file() -> dict[str, str]:
    """Return what the settings file says, as environment variables: those programs read no file.

    Raises:
        CliError: the file is not valid.
    """
    path = Path(os.environ.get("TURNOUT_CONFIG", "turnout.toml"))
    if not path.is_file():
        return {}
    from gateway.settings import SettingsError, load  # noqa: PLC0415 - slow, and only with a file

    try:
        return load(path).told
    except SettingsError as error:
        raise CliError(str(error)) from error
