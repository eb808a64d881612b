"""A model of one vLLM engine for simulations: continuous batching, a prefix cache, an LRU of adapters.

Time is in milliseconds. A step takes prompts first come first served, up to a number of tokens, and gives
one token to every running request, as vLLM's scheduler does with chunked prefill. What a step costs is
linear in its tokens; the coefficients are measured ones, see `Costs`.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """What an engine needs, in milliseconds; by default what the CPU engine does on one core."""

    prefill_ms_per_token: float = 6.0
    decode_ms_per_token: float = 16.0
    step_ms: float = 10.0
    cold_load_ms: float = 33.0
    attest_tokens: int = 100


@dataclass(frozen=True)
class EngineSize:
    """What an engine holds: tokens of KV cache, adapters in memory and in a batch, requests in a batch."""

    kv_tokens: int
    max_cpu_loras: int
    max_loras: int
    max_running: int = 64
    max_step_tokens: int = 512


@dataclass(eq=False)
class Job:
    """One request on an engine. `prefix` tokens may be cached under `adapter`; `suffix` tokens never are."""

    adapter: str
    prefix: int
    suffix: int
    output: int
    on_first: Callable[[float], None]
    on_end: Callable[[float], None]
    to_prefill: int = 0
    made: int = 0
    started: bool = False


class ModelEngine:
    """Steps through its jobs. `next_at` is when its present step ends, None while it is idle."""

    def __init__(self, size: EngineSize, costs: Costs, *, prefix_caching: bool) -> None:
        self.next_at: float | None = None
        self.cached_tokens = 0
        self.prefilled_tokens = 0
        self.cold_loads = 0
        self._size = size
        self._costs = costs
        self._caching = prefix_caching
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._in_step: list[tuple[Job, int]] = []
        self._prefixes: OrderedDict[str, int] = OrderedDict()
        self._resident: OrderedDict[str, None] = OrderedDict()

    def submit(self, job: Job, now: float) -> None:
        """Take a job; an idle engine starts at once."""
        self._waiting.append(job)
        if self.next_at is None:
            self._start_step(now)

    def finish_step(self, now: float) -> None:
        """End the present step: tokens appear, finished requests leave, and the next step starts."""
        for job, tokens in self._in_step:
            if tokens:
                job.to_prefill -= tokens
                if job.to_prefill > 0:
                    continue
                self._remember_prefix(job)
                job.on_first(now)
            job.made += 1
            if job.made >= job.output:
                self._running.remove(job)
                job.on_end(now)
        self._start_step(now)

    def _start_step(self, now: float) -> None:
        cost = self._costs.step_ms
        budget = self._size.max_step_tokens
        step: list[tuple[Job, int]] = []
        for job in self._running:
            if job.to_prefill > 0:
                tokens = min(job.to_prefill, budget)
                if tokens == 0:
                    continue
                budget -= tokens
                cost += tokens * self._costs.prefill_ms_per_token
                step.append((job, tokens))
            else:
                cost += self._costs.decode_ms_per_token
                step.append((job, 0))
        adapters = {job.adapter for job in self._running}
        for job in list(self._waiting):
            if budget == 0 or len(self._running) >= self._size.max_running:
                break
            if job.adapter not in adapters and len(adapters) >= self._size.max_loras:
                continue
            self._waiting.remove(job)
            adapters.add(job.adapter)
            self._running.append(job)
            cost += self._admit(job)
            tokens = min(job.to_prefill, budget)
            budget -= tokens
            cost += tokens * self._costs.prefill_ms_per_token
            step.append((job, tokens))
        self._in_step = step
        self.next_at = now + cost if step else None

    def _admit(self, job: Job) -> float:
        """Load the adapter if it is not in memory, look its prefix up; return what that costs."""
        cost = 0.0
        if job.adapter not in self._resident:
            self.cold_loads += 1
            cost = self._costs.cold_load_ms
            if len(self._resident) >= self._size.max_cpu_loras:
                self._resident.popitem(last=False)
        self._resident[job.adapter] = None
        self._resident.move_to_end(job.adapter)
        hit = self._caching and job.prefix > 0 and job.adapter in self._prefixes
        if hit:
            self._prefixes.move_to_end(job.adapter)
            self.cached_tokens += job.prefix
        job.to_prefill = job.suffix + (0 if hit else job.prefix)
        self.prefilled_tokens += job.to_prefill
        return cost

    def _remember_prefix(self, job: Job) -> None:
        if not self._caching or job.prefix == 0:
            return
        self._prefixes[job.adapter] = job.prefix
        self._prefixes.move_to_end(job.adapter)
        in_use = sum(running.suffix + running.made for running in self._running)
        while sum(self._prefixes.values()) + in_use > self._size.kv_tokens and len(self._prefixes) > 1:
            self._prefixes.popitem(last=False)
