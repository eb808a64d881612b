"""Endpoints that look who calls before they read anything of a body, as FastAPI would by itself."""

from collections.abc import Callable, Coroutine
from typing import Any, Self

from fastapi import Request, Response
from fastapi.routing import APIRoute

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class KnownFirst(APIRoute):
    """A route that asks `admit` about each request first. `by` makes the class of such routes."""

    @staticmethod
    def admit(request: Request) -> object:
        """Raise when a request is not to be read."""
        raise NotImplementedError

    @classmethod
    def by(cls, admit: Callable[[Request], object]) -> type[Self]:
        """Return the class of routes that ask `admit`."""
        return type(cls.__name__, (cls,), {"admit": staticmethod(admit)})

    def get_route_handler(self) -> Handle:
        """Return FastAPI's handler behind the question."""
        handle = super().get_route_handler()

        async def known(request: Request) -> Response:
            self.admit(request)
            return await handle(request)

        return known
