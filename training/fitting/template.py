"""The chat template, applied once: from messages to the token ids that the engine would see.

The prompt is rendered exactly as `/v1/chat/completions` renders it (with the template's own system message
where the client sends none), and the answer ends with the token that ends the assistant's turn.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from training.data.rows import Example, Message, Preference, Rated

_OF_THE_MOMENT = ("padding", "truncation")  # how it was called last

Asking = Example | Preference | Rated
"""A row that asks something."""

_PROBE_ANSWER = "yes"
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
"""What ends a text for GPT, SmolLM and Qwen, for Llama 3, for Llama 2 and Mistral, for Gemma."""


class TemplateError(ValueError):
    """The base model's chat template can't be trained with; the message says why."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as token ids. The loss is on `completion` alone, whose last id ends the turn.

    `weight` is the row's share of the draws beside other rows'.
    """

    prompt: list[int]
    completion: list[int]
    weight: float = 1.0

    def __len__(self) -> int:
        """Return the length in tokens."""
        return len(self.prompt) + len(self.completion)


class Template:
    """A tokenizer's chat template with the end of turn that belongs to it."""

    def __init__(self, tokenizer: Any, stop_ids: Iterable[int], *, instruction: str | None = None) -> None:
        """Take the tokenizer and the ids at which the engine stops.

        `instruction` is put before the last user message of every row, with an empty line between.

        Raises:
            TemplateError: there is no chat template, or an answer's end would not stop the engine.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise TemplateError("the base model has no chat template; take an instruction-tuned one")
        self._tokenizer = tokenizer
        self._instruction = instruction
        self.end_id = self._end_of_turn(set(stop_ids))

    def messages(self, example: Asking, shots: Sequence[Example] = ()) -> list[Message]:
        """Return what a client sends for this row; `shots` are put before it as finished turns."""
        turns: list[Message] = []
        for shot in shots:
            turns += [
                *instructed(shot, self._instruction),
                {"role": "assistant", "content": shot.completion},
            ]
        return turns + instructed(example, self._instruction)

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt as text, up to where the assistant's answer starts.

        A leading token that the tokenizer adds by itself is left out, so that the same text sent to
        `/v1/completions` gives the same token ids as the messages sent to `/v1/chat/completions`.
        """
        text = self._render(messages)
        begin = self._tokenizer.bos_token
        if begin and text.startswith(begin) and self._tokenizer("").input_ids:
            return text.removeprefix(begin)
        return text

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt's token ids."""
        return self._ids(self._render(messages))

    def encode(self, example: Example) -> Encoded:
        """Return one row as token ids, prompt and answer apart, as they come about when serving."""
        prompt = self.prompt_ids(self.messages(example))
        return Encoded(prompt, self.ended(example.completion), example.weight)

    def ended(self, answer: str) -> list[int]:
        """Return an answer's token ids with the end of the turn."""
        return [*self._ids(answer), self.end_id]

    def text_ids(self, text: str) -> list[int]:
        """Return the token ids of a text outside of any chat, with the token that ends a text."""
        return [*self._ids(text), self.end_of_text_id]

    @property
    def end_of_text_id(self) -> int:
        """The token that separated the texts of pre-training; instruction tuning often took another."""
        known = self._tokenizer.get_vocab()
        for name in END_OF_TEXT:
            if name in known:
                return int(known[name])
        return self.end_id

    @property
    def digest(self) -> str:
        """`sha256:…` of the chat template's text."""
        return _digest(str(self._tokenizer.chat_template))

    @property
    def tokenizer_digest(self) -> str | None:
        """`sha256:…` of everything that decides which ids a text becomes; None for a tokenizer of Python."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        document = json.loads(backend.to_str())
        kept = {name: value for name, value in document.items() if name not in _OF_THE_MOMENT}
        return _digest(json.dumps(kept, sort_keys=True))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer itself, for libraries that ask for it."""
        return self._tokenizer

    @property
    def pad_id(self) -> int:
        """The token that fills what is masked."""
        return int(self._tokenizer.pad_token_id or 0)

    def ids(self, text: str) -> list[int]:
        """Return the token ids that the engine's `/v1/completions` makes of a text, with what it adds."""
        return list(self._tokenizer(text).input_ids)

    def tail(self, text: str, tokens: int) -> str:
        """Return the end of a text, of so many tokens at most."""
        ids = self._ids(text)
        return text if len(ids) <= tokens else str(self._tokenizer.decode(ids[-tokens:]))

    def answer_ids(self, answer: str) -> list[int]:
        """Return an answer's token ids without the end of the turn."""
        return self._ids(answer)

    def _render(self, messages: Sequence[Message]) -> str:
        rendered = self._tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        return str(rendered)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _end_of_turn(self, stop_ids: set[int]) -> int:
        question: Message = {"role": "user", "content": "Is it so?"}
        prompt = self._render([question])
        whole = self._tokenizer.apply_chat_template(
            [question, {"role": "assistant", "content": _PROBE_ANSWER}], tokenize=False
        )
        start = f"{prompt}{_PROBE_ANSWER}"
        if not whole.startswith(start):
            raise TemplateError("the chat template writes a past answer differently from a new one")
        tail = self._ids(whole.removeprefix(start))
        if not tail or tail[0] not in stop_ids:
            raise TemplateError(
                f"the chat template ends an answer with token {tail[:1]}, at which the engine does not stop "
                f"(it stops at {sorted(stop_ids)}); mend eos_token_id in generation_config.json"
            )
        return tail[0]


def instructed(example: Asking, instruction: str | None) -> list[Message]:
    """Return a row's messages with the instruction before the last of the user's, where there is one.

    Raises:
        TemplateError: there is no message of a user to put it before.
    """
    messages = [dict(message) for message in example.messages]
    if instruction is None:
        return messages
    for message in reversed(messages):
        if message["role"] == "user":
            message["content"] = f"{instruction}\n\n{message['content']}"
            return messages
    raise TemplateError(f"line {example.line} has no user message to put the instruction before")


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
