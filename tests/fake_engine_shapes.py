"""The fake engine's answers of `/v1/responses`, `/v1/messages` and token counts, shaped as vLLM 0.32 does."""

import json
from collections.abc import Iterator
from typing import Any

from tests.fake_engine_answers import Answer
from tests.fake_engine_http import Reply, Request

_EPOCH = 1_700_000_000
COUNTING = ("/tokenize", "/detokenize", "/v1/messages/count_tokens")


class ResponsesAnswer(Answer):
    """An answer of `/v1/responses`: named events with numbers, usage in the last one, no [DONE]."""

    ending = b""

    def frame(self, event: dict[str, Any]) -> bytes:
        """An event as it is written: with its name."""
        return f"event: {event['type']}\n".encode() + super().frame(event)

    def whole(self) -> dict[str, Any]:
        """The whole response, with its usage."""
        incomplete = self.finish == "length"
        return {
            "id": self._body.get("request_id", "resp_fake"),
            "created_at": _EPOCH,
            "incomplete_details": {"reason": "max_output_tokens"} if incomplete else None,
            "model": self.echoed,
            "object": "response",
            "output": [self._item("".join(self.words), "completed")],
            "status": "incomplete" if incomplete else "completed",
            "usage": {"input_tokens": 7, "output_tokens": self.count, "total_tokens": 7 + self.count},
        }

    def _item(self, text: str | None, status: str) -> dict[str, Any]:
        content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
        return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}

    def events(self) -> Iterator[dict[str, Any]]:
        """The events of a stream, numbered."""
        for number, event in enumerate(self._events()):
            yield {**event, "sequence_number": number}

    def _events(self) -> Iterator[dict[str, Any]]:
        begun = {**self.whole(), "status": "in_progress", "output": [], "usage": None}
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        yield {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": self._item(None, "in_progress"),
        }
        for word in self.words:
            yield {"type": "response.output_text.delta", "output_index": 0, "delta": word + self.pad}
        text = "".join(self.words)
        yield {"type": "response.output_text.done", "output_index": 0, "text": text}
        yield {"type": "response.output_item.done", "output_index": 0, "item": self._item(text, "completed")}
        yield {"type": "response.completed", "response": self.whole()}


class MessagesAnswer(Answer):
    """An answer of `/v1/messages`: named events, usage in the first and the last but one, no [DONE]."""

    ending = b""

    def frame(self, event: dict[str, Any]) -> bytes:
        """An event as it is written: with its name."""
        return f"event: {event['type']}\n".encode() + super().frame(event)

    def fault(self, message: str) -> bytes:
        """The event with which the engine breaks off."""
        return self.frame({"type": "error", "error": {"type": "internal_error", "message": message}})

    def whole(self) -> dict[str, Any]:
        """The whole message."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": "".join(self.words)}],
            "model": self.echoed,
            "stop_reason": "max_tokens" if self.finish == "length" else "end_turn",
            "usage": {"input_tokens": 7, "output_tokens": self.count},
        }

    def events(self) -> Iterator[dict[str, Any]]:
        """The events of a stream."""
        whole = self.whole()
        usage = {"input_tokens": 7, "output_tokens": 0}
        yield {
            "type": "message_start",
            "message": {**whole, "content": [], "stop_reason": None, "usage": usage},
        }
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        for word in self.words:
            delta = {"type": "text_delta", "text": word + self.pad}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        yield {"type": "message_delta", "delta": end, "usage": whole["usage"]}
        yield {"type": "message_stop"}


KINDS: dict[str, type[Answer]] = {
    "/v1/chat/completions": Answer,
    "/v1/completions": Answer,
    "/v1/responses": ResponsesAnswer,
    "/v1/messages": MessagesAnswer,
}


def prompts_in(request: Request) -> int:
    """Return how many requests a call is for the engine: one for each prompt of a list."""
    prompt = request.json.get("prompt")
    return len(prompt) if isinstance(prompt, list) else 1


def is_single_token(request: Request) -> bool:
    """Whether a call is for one token, given by its id, after another one."""
    return request.json.get("prompt") == [[1]] and request.json.get("max_tokens") == 1


def count(request: Request, reply: Reply) -> None:
    """Answer one of COUNTING: a token is a word."""
    body = request.json
    said = body.get("prompt") or json.dumps(body.get("messages"))
    tokens = list(range(len(str(said).split())))
    if request.path == "/tokenize":
        reply.json(200, {"count": len(tokens), "max_model_len": 2048, "tokens": tokens, "token_strs": None})
    elif request.path == "/detokenize":
        reply.json(200, {"prompt": " ".join(f"w{token}" for token in body.get("tokens", ()))})
    else:
        context = {"original_input_tokens": len(tokens)}
        reply.json(200, {"input_tokens": len(tokens), "context_management": context})
