"""Every operation of the OpenAPI document, asked at random, right and wrong: it does what it says.

schemathesis makes the requests and has every one of its checks on. What it finds that is meant to be so
stands in `meant`, with the reason.
"""

import os
import re
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from gateway.core.requests import Role
from tests import fake_engine
from tests.gateway.harness import Gateway, running, settings_for

pytestmark = pytest.mark.slow
EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "3"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A gateway with a route to the base model, and the settings' own key, which nothing can revoke."""
    key = "the-key-of-this-test"
    with (
        fake_engine.start() as engine,
        running(settings_for(tmp_path_factory.mktemp("state"), auth={"admin_key": key})) as gateway,
    ):
        gateway.store.engines({"e0": engine})
        gateway.store.route("support", {"base": 1.0})
        gateway.store.key(*Role)
        gateway.settle()
        yield gateway, key


def meant(fault: Exception, method: str, query: Collection[str]) -> bool:
    """Whether a finding is how it should be."""
    kind, said = type(fault).__name__, str(fault)
    if kind == "RejectedPositiveData":
        # What a schema can't say: that a name exists, that shares add up, that limits fit their owner.
        # Nor that a cursor is what the page before said.
        return method in ("POST", "PUT") or "after" in query
    if kind == "AcceptedNegativeData":
        # A query parameter more, or one twice, changes nothing; and the key is set by this test again.
        return set(re.findall(r"^  - (\w+)", said, re.MULTILINE)) <= {"query", "header"}
    return False


def test_it_does_what_it_says(served: tuple[Gateway, str]) -> None:
    """No fault of the server, no status, type, form or header undocumented, and nothing wrong let in."""
    import schemathesis  # a second and a half, which no other test should wait for

    gateway, key = served
    negative = schemathesis.GenerationMode.NEGATIVE
    document = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    found: dict[tuple[str, str], str] = {}
    asked: set[str] = set()

    def ask(case: Any) -> None:
        asked.add(case.operation.label)
        try:
            case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, timeout=20)
        except BaseExceptionGroup as group:
            for fault in group.exceptions:
                if not isinstance(fault, Exception):
                    raise
                if not meant(fault, case.method, case.query or ()):
                    found.setdefault((case.operation.label, type(fault).__name__), str(fault))

    for operation in (result.ok() for result in document.get_all_operations()):
        for mode in (schemathesis.GenerationMode.POSITIVE, negative):
            go = given(case=operation.as_strategy(generation_mode=mode))(ask)
            quick = settings(
                max_examples=EXAMPLES,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                derandomize=True,
                phases=[Phase.generate],
                database=None,
            )
            try:
                quick(go)()
            except Unsatisfiable:  # an operation without parameters can't be asked wrongly
                assert mode is negative
    assert len(asked) > 40
    assert not found, "\n\n".join(f"{where}: {what}" for where, what in found.items())
