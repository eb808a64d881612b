"""What the fake engine answers: words, events and log-probabilities, built from what the weights say."""

import json
from collections.abc import Iterator
from typing import Any

from tests.fake_engine_http import Request
from tests.fake_engine_weights import Tops

_EPOCH = 1_700_000_000


class Answer:
    """What one request to the chat or completions endpoint is answered with, whole or in events."""

    ending = b"data: [DONE]\n\n"

    def __init__(
        self,
        request: Request,
        *,
        echoed: str,
        speaker: str,
        tops: Tops,
        tokens: int,
        pad_chars: int,
        says: str | None = None,
    ) -> None:
        body = request.json
        self._body = body
        self._chat = not request.path.endswith("/v1/completions")
        self._tops = tops
        self.pad = "x" * pad_chars
        names = ("max_completion_tokens", "max_tokens", "max_output_tokens")
        limit = next((body[name] for name in names if body.get(name)), tokens)
        self.count = min(int(limit), tokens)
        self.words = [f"{speaker}:", *(f" w{i}" for i in range(1, self.count))]
        self.finish = "length" if limit <= tokens else "stop"
        if says is not None:
            limit = next((body[name] for name in names if body.get(name)), len(says))
            pieces = [says[place : place + 4] for place in range(0, len(says), 4)]
            self.words, self.finish = pieces[:limit], "length" if limit < len(pieces) else "stop"
            self.count = len(self.words)
        prefix = "chatcmpl" if self._chat else "cmpl"
        kind = "chat.completion" if self._chat else "text_completion"
        self.echoed = echoed
        self.id = f"{prefix}-{request.headers.get('x-request-id', 'fake')}"
        self._head = {
            "id": self.id,
            "object": kind,
            "created": _EPOCH,
            "model": echoed,
        }

    def frame(self, event: dict[str, Any]) -> bytes:
        """An event as it is written."""
        return b"data: " + json.dumps(event).encode() + b"\n\n"

    def fault(self, message: str) -> bytes:
        """The event with which the engine breaks off."""
        error = {"error": {"message": message, "type": "InternalServerError", "code": 500}}
        return b"data: " + json.dumps(error).encode() + b"\n\n"

    def _usage(self) -> dict[str, int]:
        prompt = 7 * len(self._prompts())
        done = self.count * len(self._prompts())
        return {"prompt_tokens": prompt, "total_tokens": prompt + done, "completion_tokens": done}

    def _prompts(self) -> list[Any]:
        prompt = self._body.get("prompt")
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
            return prompt
        return [prompt]

    def whole(self) -> dict[str, Any]:
        """The body of an answer that is not streamed; a batch of prompts gets a choice each."""
        text = "".join(self.words)
        if self._chat:
            message = {"role": "assistant", "content": text}
            choices: list[dict[str, Any]] = [{"index": 0, "message": message, "finish_reason": self.finish}]
        else:
            choices = [
                {"index": i, "text": text, "finish_reason": self.finish, "logprobs": self._logprobs(prompt)}
                for i, prompt in enumerate(self._prompts())
            ]
        return {**self._head, "choices": choices, "usage": self._usage()}

    def events(self) -> Iterator[dict[str, Any]]:
        """The events of a stream, without the final [DONE]."""
        head = dict(self._head)
        if self._chat:
            head["object"] = "chat.completion.chunk"
            yield {**head, "choices": [self._choice({"role": "assistant", "content": ""}, None)]}
        for number, word in enumerate(self.words):
            finish = self.finish if number == len(self.words) - 1 else None
            piece = word + self.pad
            yield {**head, "choices": [self._choice({"content": piece} if self._chat else piece, finish)]}
        if (self._body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": self._usage()}

    def _choice(self, piece: Any, finish: str | None) -> dict[str, Any]:
        name = "delta" if self._chat else "text"
        return {"index": 0, name: piece, "logprobs": None, "finish_reason": finish}

    def _logprobs(self, prompt: Any) -> dict[str, Any] | None:
        wanted = self._body.get("logprobs")
        if wanted is None:
            return None
        top = self._tops(prompt if isinstance(prompt, str) else json.dumps(prompt), wanted)
        token, value = next(iter(top.items()))
        return {"tokens": [token], "token_logprobs": [value], "top_logprobs": [top], "text_offset": [0]}
