"""How long texts are for a model: in its tokenizer's tokens, and how many of them it can read at once."""

from collections.abc import Callable
from dataclasses import dataclass

Tokens = Callable[[str], int]
"""Returns how many tokens a text has, without those of a chat template."""


@dataclass(frozen=True, slots=True)
class Counting:
    """What counts the tokens of a text, and a context window (tokens); None where the model says none."""

    tokens: Tokens
    window: int | None = None

    def limit(self, max_tokens: int) -> int:
        """Return the most tokens of a row that is trained on, where it may have `max_tokens`."""
        return max_tokens if self.window is None else min(max_tokens, self.window)


def counting(model: str) -> Counting:
    """Return how a model, by its folder or id, counts.

    Raises:
        OSError: there is no such model.
        ImportError: transformers is not installed.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds, and only when asked for

    from adapters.base import folder_of  # noqa: PLC0415

    source = str(folder_of(model) or model)
    tokenizer = AutoTokenizer.from_pretrained(source)
    return Counting(lambda text: len(tokenizer(text, add_special_tokens=False).input_ids), _window_of(source))


def _window_of(source: str) -> int | None:
    from transformers import AutoConfig  # noqa: PLC0415

    try:
        config = AutoConfig.from_pretrained(source).get_text_config()
    except (OSError, ValueError):  # a tokenizer alone has none
        return None
    window = getattr(config, "max_position_embeddings", None)
    return window if isinstance(window, int) else None
