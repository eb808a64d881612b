"""Attacks by requests that are well formed: paths, names, headers, bodies, roles, other tenants' things."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.gateway.attackers import BODY, CHAT, Fort, fort

pytestmark = pytest.mark.slow

LENGTH = f"Content-Length: {len(BODY)}"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fort]:
    """One gateway for the module."""
    with fort(tmp_path_factory.mktemp("state")) as built:
        yield built


@pytest.fixture(scope="module")
def http(there: Fort) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=there.gateway.url, timeout=10) as client:
        yield client


def reached(there: Fort) -> list[str]:
    """The paths that the engine was asked for, its health aside: every worker looks after that by itself."""
    return [seen.path for seen in there.engine.received if (seen.method, seen.path) != ("GET", "/health")]


def bearer(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {key}"}


# --- the engine's own endpoints ------------------------------------------------------------------------

ENGINES_OWN = [
    "load_lora_adapter", "unload_lora_adapter", "v1/load_lora_adapter", "v1/unload_lora_adapter", "adapters",
    "adapters/support@1", "sleep", "wake_up", "is_sleeping", "pause", "resume", "collective_rpc",
    "invocations", "reset_prefix_cache", "ping", "server_info", "start_profile", "pooling", "v1/embeddings",
    "v1/audio/transcriptions",
    "scale_elastic_ep", "update_weights", "load", "version", "v1/score", "classify",
]  # fmt: skip
WRITTEN = [
    "/{0}", "//{0}", "/v1//{0}", "/./{0}", "/v1/../{0}", "/v1/chat/completions/../../../{0}", "/%2e/{0}",
    "/v1/%2e%2e/{0}", "/v1%2f..%2f{0}", "/%2f{0}", "/v1/chat/completions/{0}", "/v1/chat/completions;/{0}",
    "/v1/chat/completions%00/{0}", "/V1/{0}", "/{0}/", "/{0}?model=support", "http://engine:8000/{0}",
    "/\\{0}",
    "/v1/models/../{0}", "/admin/../{0}", "/%61dmin/%2e%2e/{0}", "/v1/chat/completions%3f/../{0}",
]  # fmt: skip


@pytest.mark.parametrize("way", WRITTEN)
def test_nothing_reaches_the_engines_own_endpoints(there: Fort, way: str) -> None:
    """However its path is written, no other endpoint of the engine gets a request, whatever the method."""
    there.engine.received.clear()
    for name in ENGINES_OWN:
        for method in ("POST", "GET"):
            target = way.format(name)
            got = there.ask(there.head(LENGTH, path=target, method=method) + BODY)
            card = method == "GET" and target.startswith("/v1/models/")
            assert got[9:12] in (b"400", b"404", b"405"), (method, target, got[:200])
            assert card or got[9:12] != b"200"
    assert reached(there) == []


@pytest.mark.parametrize("role", ["inference", "feedback", "scoped", "stranger"])
@pytest.mark.parametrize(
    "path",
    ["/admin/keys", "//admin/keys", "/%61dmin/keys", "/admin%2fkeys", "/v1/../admin/keys", "/admin//keys",
     "/./admin/keys", "/admin/./keys", "/admin/keys/", "/ADMIN/keys", "/admin;/keys",
     "/v1/models/../../admin/keys",
     "/admin/keys?role=admin", "http://x/admin/keys"],
)  # fmt: skip
def test_admin_with_another_role(there: Fort, role: str, path: str) -> None:
    """No way to write a path under /admin gets anything with a key that lacks the role."""
    key = getattr(there, role)
    for method in ("GET", "POST", "HEAD", "OPTIONS"):
        got = there.ask(there.head("Content-Length: 0", "X-Role: admin", path=path, key=key, method=method))
        assert got[9:12] in (b"307", b"400", b"403", b"404", b"405"), (method, path, got[:200])
        assert b"tk-" not in got


@pytest.mark.parametrize(
    "header", ["X-Original-URL: /admin/keys", "X-Rewrite-URL: /admin/keys", "X-HTTP-Method-Override: DELETE"]
)
def test_headers_that_rewrite_a_request_elsewhere_do_nothing_here(there: Fort, header: str) -> None:
    """The path and the method are those of the request line."""
    got = there.ask(there.head(header, path="/healthz", method="GET"), b"}")
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b'"ok"' in got


# --- names ---------------------------------------------------------------------------------------------

NAMES: list[Any] = [
    "../../etc/passwd", "/etc/passwd", "/models/base", "file:///etc/passwd", "http://169.254.169.254/",
    "support/../other",
    "support@1/../../x", "support@1\r\nX-A: 1", "support\u0000", "support@1 ", " support", "SUPPORT",
    "support@01",
    "support@-1", "support@1@1", "support@99999999999", "\u202esupport", "\u0455upport", "*", "team-*",
    "support@*", "", None, 1, [],
    {"$ne": None}, "a" * 10_000, "' OR 1=1 --", "%73upport", "support%401",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/tokenize"])
def test_names_that_are_no_models(there: Fort, http: httpx.Client, name: Any, path: str) -> None:
    """A name that is not written exactly as one that exists is a 404, and no engine ever hears of it."""
    there.engine.received.clear()
    said = {"messages": [{"role": "user", "content": "x"}]}
    fields: dict[str, dict[str, Any]] = {
        CHAT: said, "/v1/completions": {"prompt": "x"}, "/v1/responses": {"input": "x"},
        "/v1/messages": {**said, "max_tokens": 1}, "/tokenize": {"prompt": "x"},
    }  # fmt: skip
    answer = http.post(path, json={"model": name, **fields[path]}, headers=bearer(there.inference))
    assert answer.status_code in (400, 404), answer.text
    assert "x-a" not in answer.headers
    assert len(answer.text) < 1000
    assert reached(there) == []


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(name, str) and name])
def test_cards_of_names_that_are_no_models(there: Fort, http: httpx.Client, name: str) -> None:
    """The same names have no card."""
    path = httpx.URL(there.gateway.url).copy_with(raw_path=f"/v1/models/{_escaped(name)}".encode())
    assert http.get(path, headers=bearer(there.inference)).status_code in (400, 404)


def _escaped(name: str) -> str:
    from urllib.parse import quote

    return quote(name[:500], safe="")


# --- what another may not see --------------------------------------------------------------------------


def test_what_is_hidden_is_hidden_everywhere(there: Fort, http: httpx.Client) -> None:
    """A key for one route finds no trace of another one: in lists, cards, errors, tokenizing or ratings."""
    scoped = bearer(there.scoped)
    assert [card["id"] for card in http.get("/v1/models", headers=scoped).json()["data"]] == ["support"]
    for name in ("other", "other@1", "support@1", "base", "SmolLM2-135M-Instruct"):
        for path, body in [
            (CHAT, {"messages": [{"role": "user", "content": "x"}]}),
            ("/tokenize", {"prompt": "x"}),
            ("/detokenize", {"tokens": [1]}),
            ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}),
            ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "x"}]}),
        ]:
            answer = http.post(path, json={"model": name, **body}, headers=scoped)
            unknown = http.post(path, json={"model": f"{name}9", **body}, headers=scoped)
            assert answer.status_code == unknown.status_code == 404
            assert answer.text.replace(f"{name}'", f"{name}9'", 1) == unknown.text
        assert http.get(f"/v1/models/{name}", headers=scoped).status_code == 404
    near = http.post(CHAT, json={"model": "othe", "messages": []}, headers=scoped)
    assert "other" not in near.text


@pytest.mark.slow
def test_somebody_elses_request_can_not_be_rated(there: Fort, http: httpx.Client) -> None:
    """Neither another tenant nor a key without the route learns that a request exists."""
    asked = http.post(CHAT, content=BODY.replace(b"support", b"other"), headers=_json(there.inference))
    request_id = asked.headers["x-request-id"]
    there.gateway.row(request_id)
    rating = {"metric": "thumbs", "value": True}
    for key in (there.stranger, there.scoped):
        theirs = http.post("/v1/feedback", json={"request_id": request_id, **rating}, headers=bearer(key))
        nobodys = http.post("/v1/feedback", json={"request_id": "req-none", **rating}, headers=bearer(key))
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.text.replace(request_id, "req-none") == nobodys.text
    mine = http.post(
        "/v1/feedback", json={"request_id": request_id, **rating}, headers=bearer(there.feedback)
    )
    assert mine.status_code == 200


def _json(key: str) -> dict[str, str]:
    return {**bearer(key), "Content-Type": "application/json"}


# --- bodies --------------------------------------------------------------------------------------------

DEEP = [
    b"[" * 100_000,
    b'{"a":' * 60_000,
    b"[" * 30_000 + b"]" * 30_000,
    b'{"model":"support","messages":' + b"[" * 60_000,
]


@pytest.mark.parametrize("body", DEEP, ids=range(len(DEEP)))
@pytest.mark.parametrize("path", [CHAT, "/v1/feedback", "/admin/keys", "/admin/adapters"])
def test_deeply_nested_bodies(there: Fort, http: httpx.Client, path: str, body: bytes) -> None:
    """Nesting without end is a 400 (or a 413) everywhere."""
    key = (
        there.admin
        if path.startswith("/admin")
        else there.feedback
        if "feedback" in path
        else there.inference
    )
    answer = http.post(path, content=body, headers=_json(key))
    assert answer.status_code in (400, 413), answer.text
    assert answer.json()["error"]["message"]


BOMB = b" " * 20_000_000
PACKED = {
    "gzip": gzip.compress(BOMB),
    "deflate": zlib.compress(BOMB),
    "x-gzip": gzip.compress(BOMB),
    "gzip, gzip": gzip.compress(gzip.compress(BOMB)),
    "br": b"\xcf\xff\xff\x7f\xf8'\x00\xe2\xb1@\x20\xd6\x4a\xc1\x00",
    "zstd": b"(\xb5/\xfd\x84`\x00\x00\x80\x00\x01\x00\x00",
}


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("path", [CHAT, "/v1/feedback", "/admin/keys"])
def test_nothing_is_unpacked(there: Fort, http: httpx.Client, path: str, encoding: str) -> None:
    """A compressed body is refused as it comes: nobody unpacks it."""
    key = (
        there.admin
        if path.startswith("/admin")
        else there.feedback
        if "feedback" in path
        else there.inference
    )
    headers = {**_json(key), "Content-Encoding": encoding}
    answer = http.post(path, content=PACKED[encoding], headers=headers)
    assert answer.status_code in (400, 413, 415), answer.text


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
@pytest.mark.parametrize("path", [CHAT, "/v1/feedback"])
def test_what_would_be_good_unpacked_is_refused(
    there: Fort, http: httpx.Client, path: str, encoding: str
) -> None:
    """A request that is right but for its compression is none: nobody has looked inside."""
    there.engine.received.clear()
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    key = there.feedback if "feedback" in path else there.inference
    plain = http.post(path, content=BODY_OF[path], headers=_json(key))
    assert plain.status_code == (404 if "feedback" in path else 200)  # it rates a request that is not there
    there.engine.received.clear()
    headers = {**_json(key), "Content-Encoding": encoding}
    answer = http.post(path, content=pack(BODY_OF[path]), headers=headers)
    assert answer.status_code in (400, 415), answer.text
    assert reached(there) == []


@pytest.mark.parametrize(
    "number", ["1e999999", "9" * 5000, "-" + "9" * 400 + ".5", "1E+400", "0." + "0" * 5000 + "1"]
)
def test_numbers_without_end(there: Fort, http: httpx.Client, number: str) -> None:
    """A number that no float or integer holds is a 400 or counts as what it is near; it never takes time."""
    chat = BODY[:-1] + b',"temperature":' + number.encode() + b"}"
    rating = b'{"request_id":"x","metric":"m","value":' + number.encode() + b"}"
    for path, body, key in ((CHAT, chat, there.inference), ("/v1/feedback", rating, there.feedback)):
        assert http.post(path, content=body, headers=_json(key)).status_code < 500


# --- headers -------------------------------------------------------------------------------------------

INJECTED = [
    b"a\r\nx-injected: 1", b"a\nx-injected: 1", b"a\rx-injected: 1", b"a%0d%0ax-injected: 1",
    "a\u560a\u560dx-injected: 1".encode(),
    b"a\0x-injected: 1", b"a\x0bx-injected: 1",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["x-request-id", "x-turnout-subject", "traceparent", "tracestate", "origin", "x-client-request-id"],
)
@pytest.mark.parametrize("value", INJECTED, ids=range(len(INJECTED)))
def test_no_header_of_a_client_makes_one_of_ours(there: Fort, name: str, value: bytes) -> None:
    """Whatever stands in a header, neither the answer nor the engine's request gets a line of it."""
    there.engine.received.clear()
    head = there.head(LENGTH)[:-2] + name.encode() + b": " + value + b"\r\n\r\n"
    got = there.ask(head + BODY, b"}}")
    assert got[9:12] in (b"200", b"400"), got
    assert b"\nx-injected" not in got.lower().partition(b"\r\n\r\n")[0]
    for seen in there.engine.received:
        assert "x-injected" not in {header.lower() for header in seen.headers}


@pytest.mark.parametrize("field", ["user", "safety_identifier"])
def test_no_field_of_a_body_makes_a_header(there: Fort, http: httpx.Client, field: str) -> None:
    """Texts of a body stay in it."""
    body = {**json.loads(BODY), field: "a\r\nx-injected: 1"}
    answer = http.post(CHAT, json=body, headers=bearer(there.inference))
    assert "x-injected" not in answer.headers


# --- keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, "/v1/feedback", "/admin/keys", "/v1/models"])
def test_every_wrong_key_gets_the_same_answer(there: Fort, http: httpx.Client, path: str) -> None:
    """An unknown id, a known one with another secret, and nonsense all get one answer."""
    known = there.inference
    wrong = [
        f"tk-{'0' * 12}-{'A' * 32}",
        known[:-1] + ("x" if known[-1] != "x" else "y"),
        known.upper(),
        "tk-",
        "x" * 5000,
        known.replace("-", "_"),
    ]
    bodies = set()
    for key in wrong:
        headers = _json(key)
        method = "GET" if path in ("/admin/keys", "/v1/models") else "POST"
        answer = http.request(
            method, path, headers=headers, content=None if method == "GET" else BODY_OF[path]
        )
        assert answer.status_code == 401, (path, key)
        bodies.add(answer.text)
        assert key[:40] not in answer.text or key == "tk-"
    assert len(bodies) == 1


BODY_OF = {CHAT: BODY, "/v1/feedback": b'{"request_id":"x","metric":"m","value":1}'}


@pytest.mark.parametrize("path", [CHAT, "/v1/feedback", "/admin/keys", "/admin/adapters"])
def test_a_stranger_makes_nobody_read(there: Fort, path: str) -> None:
    """Without a key nothing of a body is waited for or parsed: the refusal comes at once."""
    got = there.ask(there.head("Content-Length: 1000000", path=path, key="tk-none"))
    assert got.startswith(b"HTTP/1.1 401 "), got
    got = there.ask(there.head("Content-Length: 5", path=path, key="tk-none") + b"[[[[[")
    assert got.startswith(b"HTTP/1.1 401 "), got


def test_nothing_of_the_engine_or_the_house_is_told(there: Fort, http: httpx.Client) -> None:
    """Answers name no server software, and errors no path of this machine and no address of an engine."""
    answers = [
        http.get("/nothing"),
        http.post(CHAT, content=b"{", headers=_json(there.inference)),
        http.get("/v1/models", headers=bearer(there.inference)),
        http.get("/docs"),
        http.get("/redoc"),
    ]
    for answer in answers:
        assert "server" not in answer.headers
        assert there.engine.url not in answer.text
        assert "/tmp/" not in answer.text  # noqa: S108 - looked for, not used
        assert answer.headers.get("x-content-type-options", "nosniff") == "nosniff"
    assert [answer.status_code for answer in answers[-2:]] == [404, 404]
