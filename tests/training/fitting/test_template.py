"""The chat template, with a tokenizer of one token a character."""

from types import SimpleNamespace
from typing import Any

import pytest

from training.data.rows import Example
from training.fitting.template import Template, TemplateError

END = "\x03"
BEGIN = "\x02"


class Characters:
    """Tokenizes to code points; adds a first token by itself when asked to, as Llama's tokenizer does."""

    chat_template: str | None = "here"

    def __init__(self, *, begins: bool = False, end: str = END, past: str = "") -> None:
        self.bos_token = BEGIN if begins else None
        self._end = end
        self._past = past

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool = False
    ) -> str:
        """Render as the small models' templates do, with a system message where there is none."""
        assert not tokenize
        given = (
            messages if messages[0]["role"] == "system" else [{"role": "system", "content": "S"}, *messages]
        )
        past = {"assistant": self._past}
        text = "".join(
            f"<{turn['role']}>{past.get(turn['role'], '')}{turn['content']}{self._end}\n" for turn in given
        )
        return (self.bos_token or "") + text + ("<assistant>" if add_generation_prompt else "")

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any:
        """Return the ids of a text."""
        ids = [ord(letter) for letter in text]
        return SimpleNamespace(input_ids=[ord(BEGIN), *ids] if add_special_tokens and self.bos_token else ids)


def text(ids: list[int]) -> str:
    """Return the text of ids."""
    return "".join(map(chr, ids))


ROW = Example(({"role": "user", "content": "hi"},), "ho", 1)


def test_a_row_is_rendered_once_and_ends_the_turn() -> None:
    """The prompt has every role once, and the answer is its text and the end of turn, nothing after it."""
    encoded = Template(Characters(), [ord(END)]).encode(ROW)
    assert text(encoded.prompt) == f"<system>S{END}\n<user>hi{END}\n<assistant>"
    assert text(encoded.completion) == f"ho{END}"
    assert len(encoded) == len(encoded.prompt) + 3


def test_a_given_system_message_replaces_the_templates_own() -> None:
    """Training renders what a client's system message would give."""
    row = Example(({"role": "system", "content": "be brief"}, *ROW.messages), "ho")
    assert text(Template(Characters(), [ord(END)]).encode(row).prompt).startswith(f"<system>be brief{END}")


def test_an_instruction_stands_before_the_last_user_message() -> None:
    """Clients send the instruction, an empty line and the text; the row itself is not changed."""
    template = Template(Characters(), [ord(END)], instruction="Do it.")
    assert template.messages(ROW) == [{"role": "user", "content": "Do it.\n\nhi"}]
    assert ROW.messages[0]["content"] == "hi"


def test_worked_examples_are_finished_turns_before_the_row() -> None:
    """Each has its own instruction and its answer."""
    template = Template(Characters(), [ord(END)], instruction="Do it.")
    found = template.messages(ROW, [Example(({"role": "user", "content": "one"},), "1")])
    assert [turn["content"] for turn in found] == ["Do it.\n\none", "1", "Do it.\n\nhi"]


@pytest.mark.parametrize("begins", [False, True])
def test_a_rendered_probe_gives_the_ids_of_the_chat_request(begins: bool) -> None:
    """The text sent to `/v1/completions` gets no second begin token, and lacks none."""
    tokenizer = Characters(begins=begins)
    template = Template(tokenizer, [ord(END)])
    messages = template.messages(ROW)
    assert tokenizer(template.render(messages)).input_ids == template.prompt_ids(messages)


def test_an_end_at_which_the_engine_does_not_stop_is_refused() -> None:
    """A model trained on it would never end its answers."""
    with pytest.raises(TemplateError, match="does not stop"):
        Template(Characters(end="|"), [ord(END)])


def test_a_template_that_writes_past_answers_differently_is_refused() -> None:
    """The prompt of serving must be the beginning of what was trained on."""
    with pytest.raises(TemplateError, match="differently"):
        Template(Characters(past="[thought]"), [ord(END)])


def test_a_base_without_a_chat_template_is_refused() -> None:
    """A model that was never taught to chat is no base for chat adapters."""
    tokenizer = Characters()
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match="no chat template"):
        Template(tokenizer, [ord(END)])


def test_a_row_without_a_user_message_can_not_take_an_instruction() -> None:
    """The line is named."""
    row = Example(({"role": "system", "content": "s"},), "ho", 7)
    with pytest.raises(TemplateError, match="line 7"):
        Template(Characters(), [ord(END)], instruction="Do it.").encode(row)
