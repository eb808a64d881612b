"""What serves the versions, asked over HTTP."""

from typing import Any

import pytest

from tests.training.evaluation.servers import serving
from training.evaluation.endpoint import BATCH, Endpoint, EndpointFailed
from training.evaluation.parity import why_off
from training.evaluation.resampling import Interval

pytestmark = pytest.mark.slow

SURE = Interval(1.0, 0.9, 1.0)


def engine(_path: str, body: dict[str, Any], _headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
    """Answer as vLLM does, in any order."""
    choices = [
        {
            "index": place,
            "text": f" {prompt}! ",
            "logprobs": {"top_logprobs": [{"token_id:5": -0.1, "token_id:7": -2.5}]},
        }
        for place, prompt in enumerate(body["prompt"])
    ]
    return 200, {"choices": choices[::-1]}, {}


def test_prompts_are_asked_in_batches_and_come_back_in_order() -> None:
    """First tokens by id, whole answers without outer white space."""
    prompts = [f"p{number}" for number in range(2 * BATCH + 1)]
    with serving(engine) as url, Endpoint(f"{url}/v1/", key=None) as endpoint:
        assert endpoint.up()
        assert endpoint.first_tokens("a@1", prompts, count=2) == [{"5": -0.1, "7": -2.5}] * len(prompts)
        assert endpoint.answers("a@1", prompts, max_tokens=4) == [f"{prompt}!" for prompt in prompts]


def test_an_address_is_named_without_its_password() -> None:
    """It stands in reports, which are kept; the endpoint is asked with it all the same."""
    keys: list[str | None] = []

    def asked(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        keys.append(next((value for name, value in headers.items() if name.lower() == "authorization"), None))
        return engine(path, body, headers)

    with (
        serving(asked) as url,
        Endpoint(url.replace("://", "://user:s3cret@"), key=None) as endpoint,
    ):
        assert endpoint.url == url.replace("://", "://***@")
        endpoint.answers("a@1", ["p"], max_tokens=1)
    assert keys[0] is not None
    assert keys[0].startswith("Basic ")


def test_the_gateway_that_sets_the_salt_itself_is_asked_without() -> None:
    """An engine gets a salt of its own for each batch; the gateway refuses the field and is asked again."""
    salts: list[Any] = []

    def gateway(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        salts.append(body.get("cache_salt"))
        if "cache_salt" in body:
            return 400, {"error": {"message": "'cache_salt' can't be set here"}}, {}
        assert headers["authorization"] == "Bearer k"
        return engine(path, body, headers)

    with serving(gateway) as url, Endpoint(url, key="k") as endpoint:
        assert endpoint.answers("a@1", ["x"], max_tokens=1) == ["x!"]
    assert [salt is None for salt in salts] == [False, True]


def test_requests_are_marked_as_internal_where_the_key_may() -> None:
    """Experiments do not count them; a key without that right asks without the mark."""
    marks: list[str | None] = []

    def gateway(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        marks.append(headers.get("x-turnout-internal"))
        if marks[-1] is not None:
            return 403, {"error": {"message": "the role internal is needed"}}, {}
        return engine(path, body, headers)

    with serving(gateway) as url, Endpoint(url, key="k") as endpoint:
        assert endpoint.answers("a@1", ["x"], max_tokens=1) == ["x!"]
        assert endpoint.answers("a@1", ["y"], max_tokens=1) == ["y!"]
    assert marks == ["true", None, None]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, {"error": {"message": "no such model"}}, {}), "no such model"),
        ((200, {"choices": []}, {}), "0 answers to 1"),
        ((200, "<html>", {}), "without JSON"),
        ((200, {"id": 1}, {}), "another form"),
        ((200, {"choices": [{"index": 0}]}, {}), "another form"),
    ],
)
def test_what_an_endpoint_does_wrong_is_said(answer: Any, message: str) -> None:
    """Refusals keep the engine's reason."""
    with (
        serving(lambda *_: answer) as url,
        Endpoint(url, key=None) as endpoint,
        pytest.raises(EndpointFailed, match=message),
    ):
        endpoint.answers("a@1", ["x"], max_tokens=1)


def test_an_endpoint_without_log_probabilities_is_no_engine() -> None:
    """Other servers answer /v1/completions too."""
    with (
        serving(lambda *_: (200, {"choices": [{"index": 0, "text": "x", "logprobs": None}]}, {})) as url,
        Endpoint(url, key=None) as endpoint,
        pytest.raises(EndpointFailed, match="log-probabilities"),
    ):
        endpoint.first_tokens("a@1", ["x"], count=2)


def test_nobody_is_not_up() -> None:
    """A port where nobody listens, and an address that is none."""
    with Endpoint("http://127.0.0.1:9", key=None) as endpoint:
        assert not endpoint.up()
        with pytest.raises(EndpointFailed, match="can't be asked"):
            endpoint.answers("a@1", ["x"], max_tokens=1)
    with pytest.raises(ValueError, match="not an address"):
        Endpoint("here", key=None)


@pytest.mark.parametrize(
    ("apart", "from_base", "agreement", "reason"),
    [
        (0.02, 0.5, SURE, None),
        (0.029, 0.001, SURE, None),
        (0.2, 0.5, SURE, "20.0 times the noise"),
        (0.2, 0.01, SURE, "like the base model"),
        (0.02, None, Interval(0.5, 0.3, 0.7), "50%"),
        (0.02, None, Interval(0.88, 0.7, 0.95), None),
    ],
)
def test_why_an_engine_is_off(
    apart: float, from_base: float | None, agreement: Interval, reason: str | None
) -> None:
    """Up to three times the noise is rounding; nearer to the base than to the version is the base."""
    found = why_off(apart, 0.01, from_base, agreement)
    assert (found is None) if reason is None else (found is not None and reason in found)
