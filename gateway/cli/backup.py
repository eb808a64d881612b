"""`turnout backup` and `turnout restore`: everything that a start needs, into a folder and back."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.group import CliError
from gateway.cli.options import Config, Json
from gateway.cli.output import print_json

if TYPE_CHECKING:
    from gateway.backups.folder import Contents
    from gateway.backups.whole import Places


def backup(
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that does not exist yet.")],
    *,
    requests: Annotated[
        bool, typer.Option("--requests/--no-requests", help="With the recorded requests.")
    ] = True,
    pepper: Annotated[
        bool, typer.Option("--pepper/--no-pepper", help="With the secret that API keys are hashed with.")
    ] = True,
    config: Config = None,
    json: Json = False,
) -> None:
    """Back up databases, adapters and the pepper of this machine's settings, while it serves."""
    from gateway.backups.databases import BackupFailed  # noqa: PLC0415 - the database
    from gateway.backups.whole import back_up  # noqa: PLC0415
    from gateway.store.database import StoreUnavailable  # noqa: PLC0415

    try:
        contents = back_up(_places(config), to, requests=requests, pepper=pepper)
    except (BackupFailed, StoreUnavailable, OSError) as error:
        raise CliError(str(error)) from error
    _tell(contents, f"backed up to {to}", json=json)
    if contents.missing and not json:
        typer.echo(f"not on this machine, and not in it: the files of {len(contents.missing)} versions")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `turnout backup` wrote.")],
    *,
    config: Config = None,
    json: Json = False,
) -> None:
    """Put a back-up where this machine's settings say, where nothing is yet. `turnout serve` must not run."""
    from gateway.backups.databases import BackupFailed  # noqa: PLC0415 - the database
    from gateway.backups.whole import restore as put_back  # noqa: PLC0415
    from gateway.store.database import StoreUnavailable  # noqa: PLC0415
    from gateway.supervise.lock import AlreadyServing, only_one  # noqa: PLC0415

    places = _places(config)
    try:
        with only_one(places.blob_root.parent):
            contents = put_back(places, source)
    except (AlreadyServing, BackupFailed, StoreUnavailable, OSError) as error:
        raise CliError(str(error)) from error
    _tell(contents, f"restored from {source}", json=json)


def _places(config: Path | None) -> "Places":
    from gateway.backups.whole import Places  # noqa: PLC0415 - the database
    from gateway.settings import SettingsError, load  # noqa: PLC0415 - the web stack's validation

    try:
        settings = load(config)
    except SettingsError as error:
        raise CliError(str(error)) from error
    state = settings.state_dir.absolute()
    return Places(
        {"control": settings.control_url, "requests": settings.requests_url},
        settings.blob_root,
        settings.auth.pepper_file or state / "pepper",
    )


def _tell(contents: "Contents", done: str, *, json: bool) -> None:
    if json:
        print_json(asdict(contents))
        return
    size = sum(count for count, _ in contents.files.values())
    stores = ", ".join(f"{name} (schema {store.schema})" for name, store in contents.stores.items())
    typer.echo(f"{done}: {stores}, {size / 1e6:.1f} MB; {len(contents.blobs)} adapters")
