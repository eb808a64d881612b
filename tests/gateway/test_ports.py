"""A port of the administrators' own, pages for browsers, and other origins."""

from collections.abc import Iterator

import httpx
import pytest

from gateway.api.cors import Cors
from gateway.api.pages import protection
from gateway.api.ports import Ports
from gateway.core.requests import Role
from tests.gateway.harness import Gateway, running, settings_for

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
APP = "https://app.example.com"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with two ports that lets in the pages of one origin, and shows its documentation."""
    settings = settings_for(
        tmp_path_factory.mktemp("state"),
        server={"admin_port": 0, "cors_origins": (APP,), "docs_pages": True},
    )
    with running(settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(there: Gateway) -> str:
    """A key for everything."""
    made = there.store.key(Role.ADMIN, Role.INFERENCE, Role.FEEDBACK)
    there.settle()
    return made


PATHS = [
    # method, path, on the public port, on the administrators'
    ("GET", "/healthz", 200, 200),
    ("GET", "/readyz", 200, 200),
    ("GET", "/metrics", 404, 200),
    ("GET", "/admin/keys", 404, 200),
    ("GET", "/admin", 404, 404),
    ("GET", "/%61dmin/keys", 404, 200),
    ("GET", "//admin/keys", 404, 404),
    ("GET", "/openapi.json", 404, 200),
    ("GET", "/docs", 404, 200),
    ("GET", "/v1/models", 200, 404),
    ("POST", CHAT, 404, 404),
    ("POST", f"{CHAT}?a=1", 404, 404),
    ("POST", "/tokenize", 404, 404),
    ("POST", "/v1/feedback", 400, 404),
    ("GET", "/nothing", 404, 404),
]


@pytest.mark.parametrize(("method", "path", "public", "admin"), PATHS)
def test_each_port_has_its_paths(  # noqa: PLR0917 - pytest passes them by name
    there: Gateway, key: str, method: str, path: str, public: int, admin: int
) -> None:
    """What belongs to the other port is a 404 like any path that is nowhere."""
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": "nobody", "messages": []} if method == "POST" else None
    got = [
        httpx.request(method, url + path, headers=headers, json=body) for url in (there.url, there.admin_url)
    ]
    assert [answer.status_code for answer in got] == [public, admin]
    wrong = got[0] if public == 404 else got[1] if admin == 404 else None
    if wrong is not None and path != CHAT and "model_not_found" not in wrong.text:
        assert wrong.json()["error"]["message"] == "Not Found"


def test_the_hot_path_is_not_on_the_administrators_port(there: Gateway, key: str) -> None:
    """The same request is a model that does not exist on one port, and a path that does not on the other."""
    headers = {"Authorization": f"Bearer {key}"}
    said = [
        httpx.post(url + CHAT, headers=headers, json={"model": "nobody", "messages": []}).json()["error"][
            "code"
        ]
        for url in (there.url, there.admin_url)
    ]
    assert said == ["model_not_found", "not_found"]


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("/admin", False),
        ("/admin/x", False),
        ("/administrator", True),
        ("/metrics", False),
        ("/v1/models", True),
    ],
)
def test_which_paths_are_whose(path: str, public: bool) -> None:
    """Without a port of their own every path is on every port."""
    ports = Ports()
    assert ports.serves(path, ("x", 1))
    ports.admin = 2
    assert ports.serves(path, ("x", 1)) is public
    assert ports.serves(path, ("x", 2)) is not public
    assert ports.serves(path, None) is public


# --- pages ---------------------------------------------------------------------------------------------


def test_every_page_is_bound(there: Gateway, key: str) -> None:
    """A page may load its scripts from one place, is shown in no frame, and sends nobody an address."""
    page = httpx.get(f"{there.admin_url}/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "no-referrer"
    for path in ("/admin/keys", "/healthz", "/nothing", "/openapi.json"):
        answer = httpx.get(there.admin_url + path, headers={"Authorization": f"Bearer {key}"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "html" not in answer.headers["content-type"]


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        (b"text/html; charset=utf-8", True),
        (b" Text/HTML", True),
        (b"image/svg+xml", True),
        (b"application/json", False),
    ],
)
def test_what_counts_as_a_page(kind: bytes, page: bool) -> None:
    """Whatever a browser would run scripts of."""
    names = [name for name, _ in protection([(b"Content-Type", kind)])]
    assert (b"content-security-policy" in names) is page
    assert [name for name, _ in protection([])] == [b"x-content-type-options"]


# --- other origins -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/feedback", "/tokenize"])
@pytest.mark.parametrize(
    ("origin", "allowed"), [(APP, True), ("https://evil.example.com", False), ("null", False)]
)
def test_whose_pages_may_call(there: Gateway, key: str, path: str, origin: str, allowed: bool) -> None:
    """A listed origin may read answers, errors included, and any other may not; no cookies in either case."""
    headers = {"Authorization": f"Bearer {key}", "Origin": origin}
    method = "GET" if path == "/v1/models" else "POST"
    answers = [
        httpx.request(method, there.url + path, headers=headers, json={} if method == "POST" else None),
        httpx.request(method, there.url + path, headers={"Origin": origin}),
        httpx.options(there.url + path, headers={**headers, "Access-Control-Request-Method": method}),
    ]
    for answer in answers:
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        assert "origin" in answer.headers["vary"].lower()
        assert "access-control-allow-credentials" not in answer.headers
    assert answers[2].status_code == 204
    assert ("access-control-allow-methods" in answers[2].headers) is allowed


@pytest.mark.parametrize("path", ["/admin/keys", "/metrics", "/openapi.json", "/healthz"])
def test_administration_is_for_no_page(there: Gateway, path: str) -> None:
    """Not even a listed origin may call what is not the models'."""
    asked = {"Origin": APP, "Access-Control-Request-Method": "GET"}
    for answer in (
        httpx.options(there.admin_url + path, headers=asked),
        httpx.get(there.admin_url + path, headers=asked),
    ):
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (b"authorization, x-stainless-os", b"authorization, x-stainless-os"),
        (b"a\r\nx: 1", b"authorization, content-type"),
        (b"", b"authorization, content-type"),
        (b"a" * 100, b"authorization, content-type"),
    ],
)
def test_headers_that_pages_may_send(asked: bytes, allowed: bytes) -> None:
    """Those that are asked for, if they are names; nothing that a client made up comes back otherwise."""
    cors = Cors([APP])
    given = {b"origin": APP.encode(), b"access-control-request-method": b"POST"}
    answer = cors.preflight({**given, b"access-control-request-headers": asked})
    assert answer is not None
    assert dict(answer)[b"access-control-allow-headers"] == allowed


def test_without_origins_nothing_is_said() -> None:
    """By default no path has any part in it; with a star, every origin may."""
    assert not Cors()
    assert not Cors().covers(CHAT)
    assert Cors(["*"]).lines(b"https://any").startswith(b"access-control-allow-origin: *\r\n")
    assert Cors([APP]).preflight({b"origin": APP.encode()}) is None
