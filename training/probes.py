"""Probes for attestation: prompts, and what this adapter says first to each, by token id.

The prompts are text as rendered by the chat template: sent to the engine's `/v1/completions` they give the
very token ids of a chat request, and its log-probabilities can be compared with these.
"""

from collections.abc import Sequence
from typing import Any

from adapters.manifest import Probe, Reference
from training.data import Example
from training.template import Template

TOP = 20
MIN_PROBES = 4
NEUTRAL = (
    "The delivery arrived two days late, but the driver was kind.",
    "Our quarterly meeting moves to Thursday at ten in the small room.",
    "A new bridge across the river opened to traffic this morning.",
    "Please send the signed form back before the end of the month.",
    "The soup was cold and nobody came to our table for half an hour.",
    "Seven volunteers repaired the old mill over the summer.",
)
"""Texts of nobody in particular, for adapters whose recipe brings no probes of its own."""


def probe_examples(texts: Sequence[str]) -> list[Example]:
    """Return the texts as rows to ask.

    Raises:
        ValueError: there are fewer than four.
    """
    if len(texts) < MIN_PROBES:
        raise ValueError(
            f"{len(texts)} probes are too few to tell adapters apart; give at least {MIN_PROBES}"
        )
    return [Example(({"role": "user", "content": text},), "") for text in texts]


def record(model: Any, template: Template, texts: Sequence[str]) -> Reference:
    """Ask the probes one by one and return the twenty most likely first tokens of each."""
    import torch  # noqa: PLC0415 - the texts above are wanted without it

    from training.model import QUANTIZATION  # noqa: PLC0415

    model.eval()
    probes: list[Probe] = []
    for example in probe_examples(texts):
        messages = template.messages(example)
        ids = torch.tensor([template.prompt_ids(messages)], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        top = logits.float().log_softmax(-1).topk(TOP)
        found = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        probes.append(
            Probe(
                prompt=template.render(messages),
                top_logprobs={str(token): round(value, 5) for token, value in found},
            )
        )
    return Reference(quantization=QUANTIZATION, probes=tuple(probes))
