"""How many tokens a request will take, guessed before an engine has counted them, and from what they counted.

A guess is settled by the engine's own count when the request is over; it only decides what may begin.
"""

_FIRST_TOKENS_PER_BYTE = 0.25
_FIRST_ANSWER_TOKENS = 64.0
_LEAST, _MOST = 1 / 16, 1.0
_WEIGHT = 0.05


class Estimates:
    """Running means over the requests of this worker."""

    __slots__ = ("_answer_tokens", "_tokens_per_byte")

    def __init__(self) -> None:
        self._tokens_per_byte = _FIRST_TOKENS_PER_BYTE
        self._answer_tokens = _FIRST_ANSWER_TOKENS

    def prompt(self, body_bytes: int) -> int:
        """Return how many tokens the prompt of a body will have, at least one."""
        return max(1, int(body_bytes * self._tokens_per_byte))

    def answer(self) -> int:
        """Return how many tokens answers have, of one that nobody counted."""
        return int(self._answer_tokens)

    def learn(self, body_bytes: int, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Take what the engine has counted."""
        if prompt_tokens and body_bytes:
            seen = min(_MOST, max(_LEAST, prompt_tokens / body_bytes))
            self._tokens_per_byte += _WEIGHT * (seen - self._tokens_per_byte)
        if completion_tokens is not None:
            self._answer_tokens += _WEIGHT * (completion_tokens - self._answer_tokens)
