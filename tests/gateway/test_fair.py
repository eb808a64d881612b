"""The fair queue: shares by weight, nobody starved, nobody passed over twice, no turn kept for the absent."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.replicas.fair import FairQueue, Place

TENANTS = ("a", "b", "c")
WEIGHTS = st.floats(0.25, 8)


def first(queue: FairQueue[int]) -> Place[int]:
    """Serve whose turn it is."""
    place = next(iter(queue))
    queue.serve(place)
    return place


@settings(max_examples=30, deadline=None)
@given(st.tuples(WEIGHTS, WEIGHTS, WEIGHTS))
def test_shares_follow_the_weights(weights: tuple[float, ...]) -> None:
    """While all have somebody waiting, each gets its share, to within one turn of each."""
    queue: FairQueue[int] = FairQueue()
    queue.weights = dict(zip(TENANTS, weights, strict=True))
    for number in range(200):
        for tenant in TENANTS:
            queue.push(number, tenant)
    served = Counter(first(queue).tenant for _ in range(100))
    for tenant, weight in queue.weights.items():
        assert abs(served[tenant] - 100 * weight / sum(weights)) <= len(TENANTS)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(0, 299))
def test_a_newcomer_goes_before_a_crowd(crowd: int, served: int) -> None:
    """A tenant that comes while another one has a crowd waiting is served next but one at the latest."""
    queue: FairQueue[int] = FairQueue()
    for number in range(crowd):
        queue.push(number, "a")
    for _ in range(min(served, crowd - 1)):
        first(queue)
    queue.push(0, "b")
    turns = [first(queue).tenant for _ in range(min(2, len(queue)))]
    assert "b" in turns


def test_a_tenant_keeps_its_own_order() -> None:
    """Those of one tenant are served as they came."""
    queue: FairQueue[int] = FairQueue()
    for number in range(30):
        queue.push(number, TENANTS[number % 3])
    order: dict[str, list[int]] = {tenant: [] for tenant in TENANTS}
    while queue:
        place = first(queue)
        order[place.tenant].append(place.item)
    assert all(numbers == sorted(numbers) for numbers in order.values())


@pytest.mark.parametrize(
    ("waiting", "weights", "newcomer", "goes"),
    [
        ("aaaa", {}, "b", "a"),
        ("aaaa", {}, "a", None),
        ("aabb", {}, "a", None),
        ("aabb", {}, "c", "a"),
        ("ab", {}, "c", None),
        ("aaab", {"a": 4.0}, "b", None),
        ("aaab", {"*": 4.0, "b": 1.0}, "b", None),
        ("aaaabb", {"b": 0.25}, "a", "b"),
        ("", {}, "a", None),
    ],
)
def test_who_has_to_go(waiting: str, weights: dict[str, float], newcomer: str, goes: str | None) -> None:
    """Of a full queue the last of the tenant goes that has the most for its weight, or the newcomer."""
    queue: FairQueue[int] = FairQueue()
    queue.weights = weights
    last = {}
    for number, tenant in enumerate(waiting):
        last[tenant] = queue.push(number, tenant)
    surplus = queue.surplus(newcomer)
    assert surplus is (None if goes is None else last[goes])


class Turns(RuleBasedStateMachine):
    """Tenants come, are served and leave, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.queue.weights = {"a": 4.0, "b": 1.0, "c": 0.5}
        self.waiting: list[Place[int]] = []

    @rule(tenant=st.sampled_from(TENANTS))
    def come(self, tenant: str) -> None:
        self.waiting.append(self.queue.push(0, tenant))

    @rule(choose=st.randoms(use_true_random=False))
    def leave(self, choose: object) -> None:
        """Somebody leaves; a second time does nothing."""
        if self.waiting:
            place = self.waiting.pop(choose.randrange(len(self.waiting)))  # type: ignore[attr-defined]
            self.queue.leave(place)
            self.queue.leave(place)

    @rule()
    def serve(self) -> None:
        """The turn is somebody's who waits: the queue never holds anybody back."""
        if self.waiting:
            place = first(self.queue)
            self.waiting.remove(place)

    @invariant()
    def counts_are_right(self) -> None:
        assert len(self.queue) == len(self.waiting)
        for tenant in TENANTS:
            assert self.queue.waiting(tenant) == sum(place.tenant == tenant for place in self.waiting)
        assert sorted(self.waiting) == [*self.queue]


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=12, stateful_step_count=30, deadline=None, derandomize=True)


def test_nobody_starves() -> None:
    """The lightest waits no longer than its share says, however many of the others keep coming."""
    queue: FairQueue[int] = FairQueue()
    queue.weights = {"a": 100.0, "b": 1.0}
    for number in range(50):
        queue.push(number, "a")
    queue.push(-1, "b")
    queue.push(-2, "b")
    served = []
    for number in range(300):
        queue.push(number, "a")
        served.append(first(queue).tenant)
    assert served.count("b") == 2
    assert served.index("b") <= 51
