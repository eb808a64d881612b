"""A command whose options are the fields of dataclasses, so that each is written down once."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

import typer
from click.core import ParameterSource

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
    by: dict[str, dict[str, Any]] = {"ENVIRONMENT": {}, "COMMANDLINE": {}}
    for name, value in given.items():
        source = ctx.get_parameter_source(name)
        if source in {ParameterSource.ENVIRONMENT, ParameterSource.COMMANDLINE}:
            by[source.name][name] = value
    return {**by["ENVIRONMENT"], **file, **by["COMMANDLINE"]}


def by_flag(ctx: typer.Context, given: dict[str, Any]) -> set[str]:
    """Return the options that were given on the command line."""
    return {name for name in given if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
