"""A command whose options are the fields of dataclasses, so that each is written down once."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

import typer

Command = Callable[[typer.Context, dict[str, Any]], None]


def takes(*groups: type[Any]) -> Callable[[Command], Callable[..., None]]:
    """Give a command the options that the fields of `groups` declare, each `Annotated` as Typer wants it."""

    def decorate(run: Command) -> Callable[..., None]:
        def command(ctx: typer.Context, **given: Any) -> None:
            run(ctx, given)

        parameters = [
            inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        ]
        for group in groups:
            hints = get_type_hints(group, include_extras=True)
            parameters += [
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=field.default,
                    annotation=hints[field.name],
                )
                for field in fields(group)
            ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # as PEP 362 has it
        command.__annotations__ = {}
        command.__doc__ = run.__doc__
        return command

    return decorate


def chosen(ctx: typer.Context, given: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were chosen: by the environment, over it by the file, over both by flags."""
    flags = {name: given[name] for name in given if _source(ctx, name) == "COMMANDLINE"}
    environment = {name: given[name] for name in given if _source(ctx, name) == "ENVIRONMENT"}
    return {**environment, **file, **flags}


def by_flag(ctx: typer.Context) -> set[str]:
    """Return the options that were given on the command line."""
    return {name for name in ctx.params if _source(ctx, name) == "COMMANDLINE"}


def _source(ctx: typer.Context, name: str) -> str | None:
    # By name: Typer has a copy of Click of its own, whose values are not those of the library.
    source = ctx.get_parameter_source(name)
    return None if source is None else source.name
