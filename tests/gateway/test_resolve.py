"""From the requested model to the version that answers."""

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.refs import VersionRef
from gateway.core.requests import Principal, Role, Target
from gateway.core.routes import Arm, Capture, Shadow
from gateway.core.scopes import Scope
from gateway.errors import NotFound, TurnoutError, Unavailable
from gateway.routing.resolve import resolve, subject_of
from gateway.routing.table import RouteEntry, RoutingTable, build
from gateway.store.control import Snapshot
from gateway.store.fleet import RegistrationRow, ReplicaRow

ANN = Principal("key-ann", "acme", frozenset({Role.INFERENCE}))
NOTHING: MappingProxyType[str, Any] = MappingProxyType({})


def route(name: str, *arms: Arm, sticky: str = "subject", capture: Capture | None = None) -> RouteEntry:
    """A route as requests meet it."""
    return RouteEntry(name, arms, sticky, capture or Capture(), None, NOTHING)


def table(*routes: RouteEntry) -> RoutingTable:
    """A table with these routes, versions `a@1`, `a@2` and the base model `Base-1B`."""
    return RoutingTable(
        generation=7,
        base_model="Base-1B",
        routes={entry.name: entry for entry in routes},
        versions=frozenset({VersionRef("a", 1), VersionRef("a", 2)}),
        placement=NOTHING,
        replica_urls=NOTHING,
        keys=NOTHING,
    )


HALVES = (Arm(adapter="a@1", share=0.5), Arm(adapter="a@2", share=0.5))
TABLE = table(
    route("a", *HALVES),
    route("by-key", *HALVES, sticky="key"),
    route("by-tenant", *HALVES, sticky="tenant"),
    route("loose", *HALVES, sticky="none"),
    route("plain", Arm(adapter="base", share=1.0)),
    route("empty"),
    RouteEntry("shadowed", HALVES, "none", Capture(), None, NOTHING, Shadow(adapter="a@2", share=1.0)),
    RouteEntry("unlit", HALVES, "none", Capture(), None, NOTHING, Shadow(adapter="a@2", share=0.0)),
)


def ask(model: object, *, subject: str | None = None, request_id: str = "req-1") -> Target:
    """Resolve against the table."""
    return resolve(TABLE, model, principal=ANN, request_id=request_id, subject=subject)


@pytest.mark.parametrize(
    ("model", "engine_model", "adapter"),
    [
        ("Base-1B", "Base-1B", None),
        ("base", "Base-1B", None),
        ("plain", "Base-1B", None),
        ("a@2", "a@2", VersionRef("a", 2)),
    ],
)
def test_names_that_resolve(model: str, engine_model: str, adapter: VersionRef | None) -> None:
    """Base model, base arm and pinned version resolve to the name that the engine knows."""
    target = ask(model)
    assert (target.engine_model, target.adapter) == (engine_model, adapter)


@pytest.mark.parametrize(
    "model", [None, "", 0, 1.5, [], {}, True, "A", "a@3", "a@0", "a@01", "b@1", "Base", "a "]
)
def test_names_that_do_not(model: object) -> None:
    """Absent, empty, of a wrong type or unknown: always a 404, never the base model."""
    with pytest.raises(NotFound) as error:
        ask(model)
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("by-kay", "did you mean 'by-key'?"),
        ("a@9", "did you mean 'a@2', 'a@1'?"),
        ("by-kay@1", "did you mean 'by-key'?"),
        ("Base-1C", "did you mean 'Base-1B'?"),
        ("x" * 100_000, "does not exist"),
        ("zzz", "'zzz' does not exist"),
    ],
)
def test_hints(model: str, hint: str) -> None:
    """A name that is close to one that exists gets it as a hint, and a long one is cut."""
    with pytest.raises(NotFound) as error:
        ask(model)
    assert error.value.message.endswith(hint)
    assert len(error.value.message) < 250


def test_a_route_that_is_prepared_is_unavailable() -> None:
    """A route without arms yet is a 503 that says so."""
    with pytest.raises(Unavailable, match="prepared"):
        ask("empty")


@given(st.one_of(st.none(), st.text(), st.integers(), st.sampled_from(["a", "a@1", "plain", "by-key"])))
def test_the_base_model_is_never_an_accident(model: object) -> None:
    """Whatever is asked, the base model answers only to its own names and through an arm that says base."""
    try:
        target = ask(model)
    except TurnoutError:
        return
    if target.adapter is None:
        assert model in ("base", "Base-1B") or target.arm == "base"
    else:
        assert target.engine_model == str(target.adapter)


@given(st.text(min_size=1), st.text(), st.text())
def test_a_subject_sticks(subject: str, one: str, other: str) -> None:
    """One subject gets one arm whatever the request, under one pseudonym that is not the subject."""
    first, second = (ask("a", subject=subject, request_id=request) for request in (one, other))
    assert (first.arm, first.unit) == (second.arm, second.unit)
    assert first.unit is not None
    assert first.probability == 0.5


def test_without_a_subject_the_draw_is_new_each_time() -> None:
    """Requests without a subject, or on a route that is not sticky, spread over the arms and have no unit."""
    for name, subject in (("a", None), ("loose", "ann")):
        targets = [ask(name, subject=subject, request_id=f"req-{n}") for n in range(50)]
        assert {target.arm for target in targets} == {"a@1", "a@2"}
        assert {target.unit for target in targets} == {None}


def test_sticky_by_key() -> None:
    """A route that is sticky by key gives one key one arm, whatever the subject."""
    targets = [ask("by-key", subject=f"s{n}", request_id=f"r{n}") for n in range(20)]
    assert len({(target.arm, target.unit) for target in targets}) == 1


def test_sticky_by_tenant() -> None:
    """A route that is sticky by tenant gives all keys of one tenant one arm, and tenants each their own."""

    def met(tenant: str, key: str) -> tuple[str | None, str | None]:
        who = Principal(key, tenant, frozenset({Role.INFERENCE}))
        target = resolve(TABLE, "by-tenant", principal=who, request_id=key, subject=key)
        return target.arm, target.unit

    assert len({met("one", f"k{n}") for n in range(20)}) == 1
    assert {met(f"t{n}", "k")[0] for n in range(20)} == {"a@1", "a@2"}


@pytest.mark.parametrize(
    ("capture", "share"),
    [
        (Capture(), 0.0),
        (Capture(mode="full"), 1.0),
        (Capture(mode="sampled", share=0.3), 0.3),
        (Capture(mode="sampled", share=0.0), 0.0),
    ],
)
def test_capture_follows_the_policy(capture: Capture, share: float) -> None:
    """Off captures nothing, full everything, sampled its share of the requests."""
    there = table(route("a", *HALVES, capture=capture))
    taken = [
        resolve(there, "a", principal=ANN, request_id=f"r{n}", subject="one").capture for n in range(2000)
    ]
    assert abs(sum(taken) / 2000 - share) < 0.05


SUBJECTS: list[tuple[str | None, dict[str, Any], str | None]] = [
    ("header", {"user": "u"}, "header"),
    (None, {"safety_identifier": "s", "user": "u"}, "s"),
    (None, {"user": "u", "metadata": {"user_id": "m"}}, "u"),
    (None, {"metadata": {"user_id": "m"}}, "m"),
    ("", {"user": ""}, None),
    (None, {"user": 3, "metadata": "x"}, None),
    ("x" * 1000, {}, "x" * 256),
]


@pytest.mark.parametrize(("header", "body", "subject"), SUBJECTS)
def test_who_the_subject_is(header: str | None, body: dict[str, Any], subject: str | None) -> None:
    """The header, then the fields in their order; anything but a text counts as nobody."""
    assert subject_of(header, body) == subject


def registration(replica: str, label: str, incarnation: str, state: Any = "attested") -> RegistrationRow:
    """What is known of a version on a replica."""
    ref = VersionRef.parse(label)
    assert ref is not None
    return RegistrationRow(replica, ref, incarnation, "sha256:0", state, None, None, 0.0)


def replica(name: str, *, healthy: bool = True) -> ReplicaRow:
    """A replica in its second incarnation."""
    return ReplicaRow(name, f"http://{name}", None, "2", healthy, None, None, {})


def test_placement_needs_proof_on_the_present_incarnation() -> None:
    """A version is placed where it is attested on this incarnation of a healthy replica, nowhere else."""
    snapshot = Snapshot(
        generation=3,
        routes=(),
        versions=frozenset(),
        replicas=(replica("r1"), replica("r2"), replica("r3", healthy=False)),
        registrations=(
            registration("r1", "a@1", "2"),
            registration("r2", "a@1", "1"),
            registration("r3", "a@1", "2"),
            registration("r2", "a@2", "2", "registered"),
            registration("gone", "a@1", "2"),
        ),
        keys=(),
    )
    built = build(snapshot, base_model="Base-1B", default_capture=Capture())
    assert dict(built.placement) == {"base": ("r1", "r2"), "a@1": ("r1",)}
    assert set(built.replica_urls) == {"r1", "r2", "r3"}


def test_a_shadow_is_never_the_version_that_serves() -> None:
    """A sampled request names its shadow, unless it is served by that very version; no sample, no shadow."""
    for number in range(50):
        target = ask("shadowed", request_id=f"req-{number}")
        assert target.shadow == ("a@2" if target.arm == "a@1" else None)
        assert ask("unlit", request_id=f"req-{number}").shadow is None
    assert ask("a@1").shadow is None


# --- what a key may use --------------------------------------------------------------------------------


def said(there: RoutingTable, model: object, *patterns: str) -> str:
    """What a key with these patterns hears about a model: what answers, or the error."""
    who = Principal("k", "acme", frozenset({Role.INFERENCE}), scope=Scope(patterns))
    try:
        target = resolve(there, model, principal=who, request_id="r", subject="s")
    except NotFound as error:
        return f"{error.message} {error.code} {error.param}"
    return target.engine_model


ALLOWED = [
    ("plain", ["plain"], "Base-1B"),
    ("a@2", ["a@2"], "a@2"),
    ("a@2", ["a@*"], "a@2"),
    ("base", ["base"], "Base-1B"),
    ("Base-1B", ["base"], "Base-1B"),
    ("by-key", ["by-*"], None),
]


@pytest.mark.parametrize(("model", "patterns", "served"), ALLOWED)
def test_what_a_scoped_key_may_use(model: str, patterns: list[str], served: str | None) -> None:
    """What a pattern names is served as for anybody."""
    assert said(TABLE, model, *patterns) in ({served} if served else {"a@1", "a@2"})


WITHOUT = ["a", "by-key", "plain", "empty", "a@1", "a@2", "base", "Base-1B"]


@pytest.mark.parametrize("model", WITHOUT)
@pytest.mark.parametrize("patterns", [(), ("loose",), ("loose", "z*", "*@9")])
def test_what_is_hidden_does_not_exist(model: str, patterns: tuple[str, ...]) -> None:
    """A name outside the scope gets the very message that it would get if nothing of that name existed."""
    bare = RoutingTable(
        generation=7,
        base_model="other-base",
        routes={"loose": TABLE.routes["loose"]},
        versions=frozenset(),
        placement=NOTHING,
        replica_urls=NOTHING,
        keys=NOTHING,
    )
    if model == "base":  # a name of the base model everywhere
        assert said(TABLE, model, *patterns) == "the model 'base' does not exist model_not_found model"
    else:
        assert said(TABLE, model, *patterns) == said(bare, model, *patterns)


@pytest.mark.parametrize("model", ["by-kay", "a@9", "Base-1C", "plane", "", None, "emptyy", "b"])
def test_hints_know_nothing_of_what_is_hidden(model: object) -> None:
    """No error of a key names a route, a version or a base model that it may not use."""
    message = said(TABLE, model, "loose")
    for name in ("by-key", "a@1", "a@2", "plain", "empty", "Base"):
        assert f"{name!r}" not in message
    assert "Base-1B" not in message


@given(
    st.one_of(st.text(), st.sampled_from(WITHOUT)), st.lists(st.sampled_from(["a", "a@1", "by-*", "base"]))
)
def test_a_scope_only_takes_away(model: str, patterns: list[str]) -> None:
    """Whatever a scoped key gets, a key without limits gets too; and never another version by another way."""
    answer = said(TABLE, model, *patterns)
    if "does not exist" in answer or "names no model" in answer:
        return
    assert model in {*TABLE.routes, "base", "Base-1B"} or answer == model


def test_many_hidden_names_do_not_crowd_out_the_hint() -> None:
    """However many hidden routes begin alike, the one that may be used is still suggested."""
    many = table(*(route(f"supp{n:04}") for n in range(500)), route("support", *HALVES))
    assert said(many, "suport", "support").partition("?")[0].endswith("did you mean 'support'")
