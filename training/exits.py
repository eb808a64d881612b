"""From what went wrong to a message and an exit code, for every command of training."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from adapters.base import BaseMissing
from adapters.packages import DownloadFailed
from adapters.prepare_base import PrepareFailed
from gateway.store.database import StoreUnavailable


@contextmanager
def exit_codes(program: str = "turnout train") -> Iterator[None]:
    """Turn what can go wrong into a message and an exit code."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        yield
    except ValueError as error:
        typer.echo(f"{program}: {error}", err=True)
        raise typer.Exit(2) from error
    except (BaseMissing, DownloadFailed, PrepareFailed, StoreUnavailable, OSError) as error:
        typer.echo(f"{program}: {error}", err=True)
        raise typer.Exit(1) from error
    except ImportError as error:
        typer.echo(f"{program}: {error}; install the `training` extra", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo(f"{program}: stopped; nothing was published", err=True)
        raise typer.Exit(130) from error
