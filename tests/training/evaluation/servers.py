"""Small real HTTP servers for tests: an ASGI app on a port of this machine."""

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

App = Callable[[Any, Any, Any], Awaitable[None]]
Answer = Callable[[str, dict[str, Any], dict[str, str]], tuple[int, Any, dict[str, str]]]
"""(path, body, headers) to status, document (or text) and headers."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def answering(answer: Answer) -> App:
    """Return an app that answers every request by a function."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        whole, more = b"", True
        while more:
            message = await receive()
            whole += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status, document, own = answer(scope["path"], json.loads(whole or b"{}"), headers)
        body = document if isinstance(document, str) else json.dumps(document)
        sent = [(name.encode(), value.encode()) for name, value in own.items()]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body.encode()})

    return app


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Serve for the length of the block; yield the address."""
    server = _Server(uvicorn.Config(answering(answer), port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.ready.wait(20)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
