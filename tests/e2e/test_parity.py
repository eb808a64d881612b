"""The engine answers with an adapter as PEFT does on the same quantized base: every example task."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters import base
from adapters.base import DEFAULT, folder_of
from tests.e2e.conftest import Service
from training.examples.recipes import RECIPES
from training.publishing.probes import probe_examples

LIBRARY = Path(base.__file__).parent / "library"
ANSWER_TOKENS = 40
MOST = 0.5
"""The share of whole answers that must be the same."""

TIE = 1.0
"""Nats. Where an answer differs, PEFT must find the engine's first other token nearly as likely as its own:
there rounding decides. The engine's log-probabilities are up to 0.4 from PEFT's (docs/decisions/0009)."""


@pytest.fixture(scope="module")
def loaded() -> Any:
    """The base model on NF4 with every example adapter beside each other."""
    from peft import PeftModel

    from training.fitting.model import load_base

    found = load_base(str(folder_of(DEFAULT)))
    model = None
    for name in RECIPES:
        folder = str(LIBRARY / name)
        if model is None:
            model = PeftModel.from_pretrained(found.model, folder, adapter_name=name)
        else:
            model.load_adapter(folder, adapter_name=name)
    return found, model


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_engines_answers_are_pefts(service: Service, loaded: Any, name: str) -> None:
    """The same chat messages get the same greedy answers, end of turn included, or PEFT nearly ties there."""
    from training.evaluation.answers import generate
    from training.fitting.template import Template

    found, model = loaded
    recipe = RECIPES[name]
    template = Template(found.tokenizer, found.stop_ids, instruction=recipe.instruction)
    asked = [template.messages(row) for row in probe_examples((*recipe.probes, recipe.sample))]
    model.set_adapter(name)
    wanted = generate(
        model,
        found.tokenizer,
        [template.prompt_ids(messages) for messages in asked],
        max_new_tokens=ANSWER_TOKENS,
        batch_size=1,
        on_rows=lambda _: None,
    )
    said = [_answer(service.url, f"{name}@1", messages) for messages in asked]
    pairs = list(zip(said, wanted, strict=True))
    assert sum(one == two for one, two in pairs) >= MOST * len(asked), pairs
    for messages, (one, two) in zip(asked, pairs, strict=True):
        if one != two:
            gap = _gap(model, found, template.prompt_ids(messages), one, two)
            assert gap <= TIE, (gap, one, two)


def _gap(model: Any, found: Any, prompt: list[int], said: str, wanted: str) -> float:
    """Return how much likelier PEFT finds its token than the engine's where they first differ, in nats."""
    import torch

    end = min(found.stop_ids)
    one, two = ([*found.tokenizer.encode(text, add_special_tokens=False), end] for text in (said, wanted))
    place = next(at for at, (ours, theirs) in enumerate(zip(one, two, strict=False)) if ours != theirs)
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *two[:place]]])).logits[0, -1].float()
    return float(logits[two[place]] - logits[one[place]])


def _answer(url: str, model: str, messages: list[dict[str, str]]) -> str:
    body = {"model": model, "messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return str(answer.json()["choices"][0]["message"]["content"]).strip()
