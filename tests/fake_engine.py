"""A fake vLLM engine for tests: its routes, statuses and texts, and its bugs, on a free loopback port.

    with fake_engine.start() as engine:
        engine.register("support@1")          # or POST /v1/load_lora_adapter as a client would
        engine.knobs.drop_after_chunks = 2    # misbehave from now on
        httpx.post(f"{engine.url}/v1/chat/completions", json=...)
        engine.received[-1].json["model"]

It runs in a thread of its own. Its HTTP server is written out by hand, so that it can also break HTTP:
half an answer, headers that never end, a connection closed under a request. Like the real one it takes
an empty `model` for the base model, re-reads an evicted adapter from its path, and dies when that is gone.
`python -m tests.fake_engine --port 0` runs one as a process of its own, which prints its address and
ends when the engine dies.
"""

import argparse
import asyncio
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import fake_engine_shapes
from tests.fake_engine_answers import Answer
from tests.fake_engine_http import ClientGone, Reply, Request, serve_connection
from tests.fake_engine_knobs import Knobs
from tests.fake_engine_metrics import said
from tests.fake_engine_steps import Steps
from tests.fake_engine_weights import BLOCK_TOKENS, PrefixCache, first_logprobs, read_weights

BASE_MODEL = "SmolLM2-135M-Instruct"
_EPOCH = 1_700_000_000
_WATCH_S = 0.02
_PATIENCE_S = 30.0
__all__ = ["BASE_MODEL", "FakeEngine", "Knobs", "first_logprobs", "read_weights", "start"]


@dataclass(frozen=True)
class _Adapter:
    path: str
    weights: bytes


class FakeEngine:
    """One engine: what it knows, what it received, and how it is told to misbehave."""

    def __init__(
        self, *, base_model: str = BASE_MODEL, max_lora_rank: int = 16, max_cpu_loras: int = 16
    ) -> None:
        self.base_model = base_model
        self.knobs = Knobs()
        self.received: list[Request] = []
        self.steps = Steps()
        self.aborted = 0
        self.url = ""
        self.port = 0
        self.started_at = _EPOCH + 0.25
        self.dead = False
        self.on_request: Callable[[Request], None] | None = None
        self._max_lora_rank = max_lora_rank
        self._max_cpu_loras = max_cpu_loras
        self._paths: dict[str, str] = {}
        self._resident: OrderedDict[str, _Adapter] = OrderedDict()
        self._prefixes = PrefixCache(block_words=BLOCK_TOKENS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def running(self) -> int:
        """How many requests are in flight."""
        return self.steps.running

    @property
    def incarnation(self) -> str:
        """`process_start_time_seconds` as /metrics writes it."""
        return repr(self.started_at)

    @property
    def adapters(self) -> list[str]:
        """The names that are registered."""
        return list(self._paths)

    def register(self, name: str, path: str = "/nowhere") -> None:
        """Register an adapter without files; its weights are its name's."""
        self._paths[name] = path
        self._resident[name] = _Adapter(path, name.encode())

    def restart(self) -> None:
        """Forget every adapter and begin a new incarnation, as after a crash."""
        self._paths.clear()
        self._resident.clear()
        self._prefixes.clear()
        self.started_at += 1
        self.dead = False

    def close_connections(self) -> None:
        """Close every open connection at once, as a server that restarts does."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(_PATIENCE_S)

    def die(self) -> None:
        """End as a killed process does: nobody listens any more, and every connection is gone."""
        assert self._loop is not None

        async def work() -> None:
            self._die()

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(_PATIENCE_S)

    def live_again(self) -> None:
        """Start again on the same port, with no adapters, as a new process."""
        assert self._loop is not None
        self.restart()
        asyncio.run_coroutine_threadsafe(self._listen(self.port), self._loop).result(_PATIENCE_S)

    def posts(self, path: str = "/v1/chat/completions") -> list[Request]:
        """What was posted to `path`, oldest first."""
        return [request for request in self.received if request.path == path]

    # --- serving -----------------------------------------------------------------------------------

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve_connection(reader, writer, self._answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # One that is cancelled before it began closes nothing itself.
        task.add_done_callback(lambda _: writer.close())

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def _die(self) -> None:
        if not self.dead and self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            self.dead = True  # last: from now on nobody can reach it

    async def _cancel_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the tasks' callbacks close their connections,
        await asyncio.sleep(0)  # and the loop lets go of them

    async def _be_late(self) -> None:
        if self.knobs.late_checks:
            self.knobs.late_checks -= self.knobs.late_checks > 0
            await asyncio.sleep(self.knobs.health_delay_s)

    async def _answer(self, request: Request, reply: Reply) -> None:
        self.received.append(request)
        if self.on_request is not None:
            self.on_request(request)
        if self.dead:
            reply.drop()
        elif (request.method, request.path) == ("GET", "/health"):
            await self._be_late()
            reply.send(200 if self.knobs.healthy else 503, b"", "text/plain")
        elif (request.method, request.path) == ("GET", "/v1/models"):
            reply.json(200, self._models())
        elif (request.method, request.path) == ("GET", "/version"):
            reply.json(200, {"version": "0.32.0"})
        elif (request.method, request.path) == ("GET", "/metrics"):
            reply.send(200, said(self).encode(), "text/plain; version=0.0.4")
        elif request.path == "/v1/load_lora_adapter":
            await asyncio.sleep(self.knobs.load_delay_s)
            self._load(request, reply)
        elif request.path == "/v1/unload_lora_adapter":
            self._unload(request, reply)
        elif request.path in fake_engine_shapes.KINDS or request.path in fake_engine_shapes.COUNTING:
            await self._generate(request, reply)
        else:
            reply.json(404, {"detail": "Not Found"})

    def _models(self) -> dict[str, Any]:
        card = {"object": "model", "created": _EPOCH, "owned_by": "vllm"}
        cards = [{**card, "id": self.base_model, "root": self.base_model, "parent": None}]
        cards += [
            {**card, "id": name, "root": path, "parent": self.base_model}
            for name, path in self._paths.items()
        ]
        return {"object": "list", "data": cards}

    # --- adapters ----------------------------------------------------------------------------------

    def _load(self, request: Request, reply: Reply) -> None:
        name, path = request.json.get("lora_name"), request.json.get("lora_path")
        if not name or not path:
            return reply.error(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self._paths and not request.json.get("load_inplace"):
            message = (
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter "
                "in place, set 'load_inplace' to True."
            )
            return reply.error(400, "InvalidUserInput", message)
        if not Path(path).is_dir():
            message = f"Loading lora {name} failed: No adapter found for {path}"
            return reply.error(404, "NotFoundError", message)
        try:
            weights = read_weights(Path(path), self._max_lora_rank)
        except (OSError, ValueError) as error:
            return reply.error(500, "InternalServerError", f"Call to add_lora method failed: {error}")
        self._paths[name] = path
        self._keep(name, _Adapter(path, weights))
        return reply.send(200, f"Success: LoRA adapter '{name}' added successfully.".encode(), "text/plain")

    def _unload(self, request: Request, reply: Reply) -> None:
        name = request.json.get("lora_name")
        if not name:
            message = "'lora_name' needs to be provided to unload a LoRA adapter."
            return reply.error(400, "InvalidUserInput", message)
        if self._paths.pop(name, None) is None:
            return reply.error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        message = f"Success: LoRA adapter '{name}' removed successfully."  # and it stays resident
        return reply.send(200, message.encode(), "text/plain")

    def _keep(self, name: str, adapter: _Adapter) -> None:
        self._resident[name] = adapter
        self._resident.move_to_end(name)
        while len(self._resident) > self._max_cpu_loras:
            self._resident.popitem(last=False)

    def _weights(self, model: str) -> bytes | None:
        """The weights that answer for `model`; None is the base. Raises OSError when they are gone."""
        if model == self.base_model or model in self.knobs.unapplied or self.knobs.answer_as_base:
            return None
        if model in self.knobs.swapped:
            return read_weights(self.knobs.swapped[model], self._max_lora_rank)
        resident = self._resident.get(model)
        if resident is None:
            path = self._paths[model]
            resident = _Adapter(path, read_weights(Path(path), self._max_lora_rank))
        self._keep(model, resident)
        return resident.weights

    # --- generation --------------------------------------------------------------------------------

    async def _generate(self, request: Request, reply: Reply) -> None:
        model = request.json.get("model") or self.base_model
        if model != self.base_model and model not in self._paths:
            return reply.error(404, "NotFoundError", f"The model `{model}` does not exist.", param="model")
        if self.knobs.killer is not None and self.knobs.killer.encode() in request.body:
            self._die()
        if await self._misbehave(reply):
            return None
        if request.json.get("prompt_logprobs") is not None and model != self.base_model:
            self.knobs.fail_status, self.knobs.fail_times = 500, None  # from then on every request
            return reply.error(500, "InternalServerError", "EngineCore encountered an issue.")
        try:
            weights = self._weights(model)
        except OSError:
            self.dead = True
            return reply.drop()
        echoed = self.base_model if self.knobs.answer_as_base else model
        if request.path in fake_engine_shapes.COUNTING:
            return fake_engine_shapes.count(request, reply)
        rounding = self.steps.rounding(request, self.knobs)
        answer = fake_engine_shapes.KINDS[request.path](
            request,
            echoed=echoed,
            speaker="base" if weights is None else model,
            tops=self._prefixes.speaker(
                (model, self._paths.get(model)),
                weights,
                salt=request.json.get("cache_salt"),
                base=self.knobs.base,
                noise=self.knobs.noise,
                rounding=rounding,
            ),
            tokens=self.knobs.tokens,
            pad_chars=self.knobs.pad_chunk_chars,
            says=self.knobs.says,
        )
        try:
            with self.steps.taken(request):
                await asyncio.sleep(self.knobs.start_delay_s)
                if request.json.get("stream"):
                    await self._stream(answer, reply)
                else:
                    await asyncio.sleep(self.knobs.token_delay_s * answer.count)
                    reply.json(200, answer.whole())
        except (ClientGone, asyncio.CancelledError):
            self.aborted += 1
            raise
        return None

    async def _misbehave(self, reply: Reply) -> bool:
        knobs = self.knobs
        if knobs.fail_status is not None and knobs.fail_times != 0:
            if knobs.fail_times is not None:
                knobs.fail_times -= 1
            reply.error(knobs.fail_status, "InternalServerError", knobs.fail_message)
        elif knobs.close_before_headers:
            reply.drop()
        elif knobs.endless_headers:
            await reply.endless_headers()
        elif knobs.hang:
            self.steps.running += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.aborted += 1
                raise
            finally:
                self.steps.running -= 1
        else:
            return False
        return True

    async def _stream(self, answer: Answer, reply: Reply) -> None:
        reply.begin_stream()
        for number, event in enumerate(answer.events()):
            if number == self.knobs.drop_after_chunks:
                return reply.drop()
            if number == self.knobs.end_after_chunks:
                return reply.end_stream()
            if number == self.knobs.error_after_chunks:
                await reply.chunk(answer.fault("secret internals"))
                break
            await reply.chunk(answer.frame(event))
            await asyncio.sleep(self.knobs.token_delay_s)
        if answer.ending:
            await reply.chunk(answer.ending)
        await asyncio.sleep(self.knobs.linger_s)
        return reply.end_stream()


@contextmanager
def start(
    *, base_model: str = BASE_MODEL, max_lora_rank: int = 16, max_cpu_loras: int = 16, port: int = 0
) -> Iterator[FakeEngine]:
    """Run an engine in a thread on a free loopback port until the block ends."""
    engine = FakeEngine(base_model=base_model, max_lora_rank=max_lora_rank, max_cpu_loras=max_cpu_loras)
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        engine._loop = asyncio.get_running_loop()
        await engine._listen(port)
        ready.set()
        await stop.wait()
        if engine._server is not None:
            engine._server.close()
        await engine._cancel_all()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="fake-engine", daemon=True)
    thread.start()
    if not ready.wait(_PATIENCE_S):
        raise RuntimeError("the fake engine did not start")
    try:
        yield engine
    finally:
        assert engine._loop is not None
        engine._loop.call_soon_threadsafe(stop.set)
        thread.join(_PATIENCE_S)


def main() -> None:
    """Run one engine as a process until it is interrupted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--served-model-name", default=BASE_MODEL)
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-cpu-loras", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--token-ms", type=float, default=0.0)
    options, _ = parser.parse_known_args()
    limits = {"max_lora_rank": options.max_lora_rank, "max_cpu_loras": options.max_cpu_loras}
    running = start(port=options.port, base_model=options.served_model_name, **limits)
    with running as engine, suppress(KeyboardInterrupt):
        engine.started_at = time.time()
        engine.knobs.tokens, engine.knobs.token_delay_s = options.tokens, options.token_ms / 1000
        print(engine.url, flush=True)  # noqa: T201 - the address is its output
        while not engine.dead:
            time.sleep(_WATCH_S)
        sys.exit(1)


if __name__ == "__main__":
    main()
