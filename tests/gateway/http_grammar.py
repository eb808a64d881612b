"""Requests to the hot paths as a grammar makes them: right, half right, and nothing like HTTP at all."""

import json
import random
from dataclasses import dataclass
from typing import Any

from gateway.api.endpoints import ENDPOINTS, Endpoint
from tests.fake_engine import BASE_MODEL

MODELS = ("support", "support@1", "other", "other@1", BASE_MODEL, "base", "", "nobody", "../etc", "support@2")
WORDS = (
    "hello",
    "",
    "a" * 300,
    "ü€😀",
    "\u202e\x00\x7f",
    "<|im_start|>",
    "../../x",
    "data: [DONE]\n\n",
    "{{7*7}}",
)
NUMBERS = (0, 1, -1, 2, 16, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, 1e-320)
METHODS = ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "post", "POSTS", "")
TYPES = ("text/plain", "application/json; charset=utf-16", "APPLICATION/JSON", "", "application/jsonx", "a/b")
ENCODINGS = ("gzip", "identity", "br, gzip", "")


@dataclass(frozen=True)
class Sent:
    """A request: its bytes, whether its end is clear to who reads it, and whose it is."""

    raw: bytes
    whole: bool
    tenant: str | None


class Grammar:
    """Makes requests. `keys` are the keys by tenant; each tenant's texts hold a mark of their own."""

    def __init__(self, seed: int, keys: dict[str, str], marks: dict[str, str]) -> None:
        self._dice = random.Random(seed)
        self._keys = keys
        self._marks = marks

    def request(self) -> Sent:
        """Return the next one."""
        dice = self._dice
        endpoint = dice.choice(ENDPOINTS)
        tenant = dice.choice([*self._keys, None]) if dice.random() < 0.2 else dice.choice([*self._keys])
        body = self._body(endpoint, self._marks.get(tenant or "", "nobody"))
        method = "POST" if dice.random() < 0.95 else dice.choice(METHODS)
        lines = [f"{method} {self._target(endpoint)} HTTP/1.{dice.choice('1110')}", "Host: x"]
        lines += self._credentials(tenant) + self._odd_headers()
        framing, framed, whole = self._framed(body)
        lines += framing
        raw = "".join(f"{line}\r\n" for line in lines).encode("latin-1", "replace") + b"\r\n" + framed
        if dice.random() < 0.03:
            raw, whole = self._broken(raw), False
        return Sent(raw, whole and method == "POST", tenant)

    # --- the head -----------------------------------------------------------------------------------------

    def _target(self, endpoint: Endpoint) -> str:
        path, dice = endpoint.path, self._dice
        if dice.random() < 0.93:
            return path
        return dice.choice(
            (
                path + "/",
                "/" + path,
                path.upper(),
                path + "?model=support&x=%00",
                path.replace("/", "/%2e/"),
                path[:-1],
                "http://x" + path,
                path + "%",
                "*",
                path + "/" + "a" * 3000,
            )
        )

    def _credentials(self, tenant: str | None) -> list[str]:
        dice = self._dice
        if tenant is None:
            wrong = (
                "Bearer x",
                "Basic eDp5",
                "Bearer",
                "",
                f"Bearer tk-{'0' * 12}-{'A' * 32}",
                "Bearer \xff",
            )
            return [f"Authorization: {dice.choice(wrong)}"] if dice.random() < 0.7 else []
        name = "x-api-key: " if dice.random() < 0.1 else "Authorization: Bearer "
        lines = [name + self._keys[tenant]]
        return lines * 2 if dice.random() < 0.01 else lines

    def _odd_headers(self) -> list[str]:
        dice = self._dice
        lines = ["Content-Type: application/json"]
        if dice.random() < 0.05:
            lines = [f"Content-Type: {dice.choice(TYPES)}"]
        for name, values, share in (
            ("Content-Encoding", ENCODINGS, 0.02),
            ("x-turnout-subject", ("a", "\xe9" * 300, "", "a\tb"), 0.2),
            ("x-turnout-internal", ("true", "false", "maybe"), 0.03),
            ("x-request-id", ("mine", "a" * 500, "<b>", "\xff"), 0.2),
            ("anthropic-version", ("2023-06-01", ""), 0.2),
            ("Expect", ("100-continue", "200-ok"), 0.02),
            ("Connection", ("close", "keep-alive", "upgrade"), 0.1),
            ("Upgrade", ("websocket", "h2c"), 0.01),
            ("traceparent", ("00-" + "1" * 32 + "-" + "2" * 16 + "-01", "x"), 0.05),
            ("Origin", ("http://evil.example", "null"), 0.05),
        ):
            if dice.random() < share:
                lines.append(f"{name}: {dice.choice(values)}")
        return lines

    def _framed(self, body: bytes) -> tuple[list[str], bytes, bool]:
        """Return header lines, the framed body, and whether where it ends is clear."""
        dice = self._dice
        way = dice.random()
        if way < 0.85:
            return [f"Content-Length: {len(body)}"], body, True
        if way < 0.97:
            pieces = [body[at : at + 50] for at in range(0, len(body), 50)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            return ["Transfer-Encoding: chunked"], framed, True
        length = dice.choice((len(body) + 7, max(0, len(body) - 3), -1, 10**20, "0x10", ""))
        return [f"Content-Length: {length}"], body, False

    def _broken(self, raw: bytes) -> bytes:
        """Return bytes with some of them changed, doubled or gone."""
        dice = self._dice
        broken = bytearray(raw)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(broken))
            way = dice.randrange(3)
            if way == 0:
                broken[at] = dice.randrange(256)
            elif way == 1:
                del broken[at : at + dice.randint(1, 20)]
            else:
                broken[at:at] = broken[at : at + dice.randint(1, 40)]
            if not broken:
                break
        return bytes(broken)

    # --- the body -----------------------------------------------------------------------------------------

    def _body(self, endpoint: Endpoint, mark: str) -> bytes:
        dice = self._dice
        way = dice.random()
        if way < 0.03:
            return dice.choice(
                (b"", b"[]", b"null", b'"x"', b"{", b"\xef\xbb\xbf{}", b"[" * 5000, b'{"a":' * 300)
            )
        if way < 0.05:
            return dice.randbytes(dice.randint(1, 200))
        body = self._plain(endpoint, mark)
        for _ in range(dice.choice((0, 0, 1, 1, 2, 4))):
            body[dice.choice([*endpoint.fields, "nonsense", "a" * 100])] = self._value(3)
        written = json.dumps(body, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
        if dice.random() < 0.02:
            written = written[:-1] + b',"model":"other","model":"support"}'
        return written[: dice.randrange(len(written))] if dice.random() < 0.02 else written

    def _plain(self, endpoint: Endpoint, mark: str) -> dict[str, Any]:
        """Return a body that is right but for what the dice say of its model."""
        dice = self._dice
        text = f"{mark} {dice.choice(WORDS)}"
        body: dict[str, Any] = {"model": dice.choice(MODELS if dice.random() < 0.3 else MODELS[:1])}
        if endpoint.path == "/detokenize":
            return {**body, "tokens": [1, 2, 3]}
        if endpoint.path == "/v1/responses":
            return {**body, "input": text}
        if endpoint.path in ("/v1/completions", "/tokenize"):
            return {**body, "prompt": text}
        body["messages"] = [{"role": "user", "content": text}]
        if endpoint.path == "/v1/messages":
            body["max_tokens"] = 3
        if endpoint.prompt is not None and dice.random() < 0.3:
            body["stream"] = True
        return body

    def _value(self, depth: int) -> Any:
        dice = self._dice
        way = dice.random()
        if way < 0.3:
            return dice.choice(NUMBERS)
        if way < 0.55:
            return dice.choice(WORDS)
        if way < 0.75:
            return dice.choice((None, True, False))
        if not depth:
            return []
        if way < 0.88:
            return [self._value(depth - 1) for _ in range(dice.randint(0, 4))]
        return {dice.choice(WORDS): self._value(depth - 1) for _ in range(dice.randint(0, 4))}
