"""Requests of a given size: chats as an application sends them, each from another user."""

import json
import random

USERS = 64
MODEL = "bench"
_SYSTEM = (
    "You answer questions of on-call engineers. Be short, name the command to run, and say what it changes."
)
_WORDS = (  # noqa: SIM905 - a list of words reads best as text
    "the deploy raised error rate latency pool queue timeout of and to in for service payment login cache "
    "database replica shard lock index retry after before since build rollback limit memory disk network node"
).split()


def bodies(size_bytes: int, *, stream: bool = False, max_tokens: int = 64, users: int = USERS) -> list[bytes]:
    """Return a chat request for each user, each exactly `size_bytes` long; the same ones at every call.

    Raises:
        ValueError: a request does not fit into so few bytes.
    """
    made = []
    for user in range(users):
        body = {
            "model": MODEL,
            "messages": _conversation(random.Random(user), size_bytes),
            "max_tokens": max_tokens,
            "temperature": 0.7,
            "user": f"user-{user:04d}",
        }
        if stream:
            body["stream"] = True
        made.append(_fitted(body, size_bytes))
    return made


def _conversation(chance: random.Random, size_bytes: int) -> list[dict[str, str]]:
    """Turns of about 700 bytes after a system prompt, fewer bytes in all than wanted."""
    messages = [{"role": "system", "content": _SYSTEM}]
    spoken = 0
    while spoken + 900 < size_bytes - 400:
        role = "user" if len(messages) % 2 else "assistant"
        text = " ".join(chance.choices(_WORDS, k=110))
        messages.append({"role": role, "content": text})
        spoken += len(text) + 40
    messages.append({"role": "user", "content": "Why? "})
    return messages


def _fitted(body: dict[str, object], size_bytes: int) -> bytes:
    raw = json.dumps(body).encode()
    missing = size_bytes - len(raw)
    if missing < 0:
        raise ValueError(f"a request does not fit into {size_bytes} bytes")
    filler = (" ".join(_WORDS) + " ") * (missing // 200 + 1)
    at = raw.rindex(b"Why? ") + len(b"Why? ")
    return raw[:at] + filler[:missing].encode() + raw[at:]
