"""The model of an engine and the simulation of policies on it."""

from dataclasses import replace

import pytest

from loadtests.affinity.engine import Costs, EngineSize, Job, ModelEngine
from loadtests.affinity.simulated import POLICIES, Setting, compare

COSTS = Costs(prefill_ms_per_token=1.0, decode_ms_per_token=10.0, step_ms=0.0, cold_load_ms=5.0)
SMALL = Setting(
    replicas=4,
    adapters=40,
    clients_per_replica=3,
    requests=400,
    size=EngineSize(kv_tokens=8_192, max_cpu_loras=8, max_loras=4),
)


class Bench:
    """One engine, stepped until it is idle."""

    def __init__(self, *, size: EngineSize, prefix_caching: bool = True) -> None:
        self.engine = ModelEngine(size, COSTS, prefix_caching=prefix_caching)
        self.now = 0.0

    def ask(self, *adapters: str, prefix: int = 100) -> dict[str, tuple[float, float]]:
        """Submit a job for each adapter at once; when each one's first token came and when it ended."""
        first: dict[str, float] = {}
        ended: dict[str, float] = {}
        for adapter in adapters:
            job = Job(
                adapter,
                prefix,
                10,
                3,
                on_first=lambda now, a=adapter: first.update({a: now}),
                on_end=lambda now, a=adapter: ended.update({a: now}),
            )
            self.engine.submit(job, self.now)
        began = self.now
        while self.engine.next_at is not None:
            self.now = self.engine.next_at
            self.engine.finish_step(self.now)
        return {adapter: (first[adapter] - began, ended[adapter] - began) for adapter in adapters}


def size(**fields: int) -> EngineSize:
    """An engine with room for everything but what is named."""
    return EngineSize(**{"kv_tokens": 10_000, "max_cpu_loras": 8, "max_loras": 8, **fields})


def test_a_request_costs_its_load_its_prompt_and_its_tokens() -> None:
    """5 ms for the adapter, 110 for the prompt, which brings the first token, and 10 for each other token."""
    assert Bench(size=size()).ask("a") == {"a": (115.0, 135.0)}


def test_a_cached_prefix_and_a_resident_adapter_cost_nothing() -> None:
    """The second time only the prompt's own end is computed; without prefix caching all of it."""
    bench = Bench(size=size())
    bench.ask("a")
    assert bench.ask("a") == {"a": (10.0, 30.0)}
    bare = Bench(size=size(), prefix_caching=False)
    bare.ask("a")
    assert bare.ask("a") == {"a": (110.0, 130.0)}


@pytest.mark.parametrize(("kv_tokens", "cached"), [(250, True), (150, False)])
def test_the_cache_keeps_what_was_used_last(kv_tokens: int, cached: bool) -> None:
    """With room for two prefixes the first one is still there after a second; with room for one it is not."""
    bench = Bench(size=size(kv_tokens=kv_tokens))
    bench.ask("a")
    bench.ask("b")
    assert (bench.ask("a")["a"][0] == 10.0) is cached


def test_more_adapters_than_a_batch_holds_wait() -> None:
    """With one adapter in a batch the second begins when the first has ended."""
    found = Bench(size=size(max_loras=1)).ask("a", "b")
    assert found["b"][0] > found["a"][1]


@pytest.mark.slow
@pytest.mark.parametrize("prefix_caching", [True, False], ids=["cached", "not-cached"])
def test_every_policy_answers_everything(prefix_caching: bool) -> None:
    """Every policy runs to its end, the same each time; with prefix caching placement is well ahead."""
    setting = replace(SMALL, prefix_caching=prefix_caching)
    found = compare(setting)
    assert tuple(found) == POLICIES
    assert found == compare(setting)
    if prefix_caching:
        assert found["placement"].tokens_per_s > 1.5 * found["round_robin"].tokens_per_s
        assert found["placement"].cached_share > found["least_loaded"].cached_share
    else:
        assert {outcome.cached_share for outcome in found.values()} == {0.0}
