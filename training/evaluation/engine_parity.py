"""Asks the serving engine what was asked here, and compares."""

from collections.abc import Sequence
from typing import Any

import torch

from adapters.answers import MAX_DRIFT, MIN_NOISE, TOP, Answers, distance
from training.data.rows import Example
from training.evaluation.answers import answer, left_padded
from training.evaluation.endpoint import Endpoint, EndpointFailed
from training.evaluation.figures import mean
from training.evaluation.parity import Parity, why_off
from training.evaluation.resampling import Resampling, interval
from training.evaluation.scorer import Scorer
from training.evaluation.systems import System

SAMPLE = 24
_BATCH = 8


def compare_with_engine(
    scorer: Scorer,
    system: System,
    rows: Sequence[Example],
    endpoint: Endpoint,
    *,
    model: str,
    room: int,
    seed: int,
) -> Parity:
    """Ask both for the first tokens and the whole answers of a sample of rows, evenly spaced.

    `model` is the system's name at the endpoint. An endpoint that fails is a finding, not an error.
    """
    sample = list(rows[:: max(1, len(rows) // SAMPLE)])[:SAMPLE]
    messages = [scorer.template.messages(row) for row in sample]
    rendered = [scorer.template.render(each) for each in messages]
    ids = [scorer.template.prompt_ids(each) for each in messages]
    with scorer.speaking(system):
        together, alone = _tops(scorer.model, ids, _BATCH), _tops(scorer.model, ids, 1)
        texts = [
            text
            for start in range(0, len(ids), _BATCH)
            for text in answer(
                scorer.model, scorer.base.tokenizer, ids[start : start + _BATCH], max_new_tokens=room
            )
        ]
    reference = system.manifest.reference if system.manifest else None
    noise = max(MIN_NOISE, distance(together, alone), (reference and reference.noise) or 0.0)
    try:
        served = endpoint.first_tokens(model, rendered, count=TOP)
        said = endpoint.answers(model, rendered, max_tokens=room)
    except EndpointFailed as error:
        return Parity(system.name, endpoint.url, len(sample), noise=noise, failed=str(error))
    from_base = None
    if system.digest is not None:
        with scorer.model.disable_adapter():
            base = _tops(scorer.model, ids, _BATCH)
        from_base = distance(base, served)
        if system.manifest is not None:
            noise = max(noise, _drift(base, endpoint, system.manifest.base.name, rendered))
    alike = [float(ours == theirs) for ours, theirs in zip(texts, said, strict=True)]
    agreement = interval(mean("agreement", alike), Resampling(len(alike), seed=seed))
    apart = distance(alone, served)
    return Parity(
        system.name,
        endpoint.url,
        len(sample),
        round(apart, 5),
        round(noise, 5),
        None if from_base is None else round(from_base, 5),
        agreement,
        off=why_off(apart, noise, from_base, agreement),
    )


def _drift(base: Answers, endpoint: Endpoint, name: str, prompts: Sequence[str]) -> float:
    """Return how far the endpoint's base model is from the one here, or 0 where it serves none by this name.

    It is the noise between two computations of the same weights on these very prompts.
    """
    try:
        return min(MAX_DRIFT, distance(base, endpoint.first_tokens(name, prompts, count=TOP)))
    except EndpointFailed:
        return 0.0


def _tops(model: Any, prompts: Sequence[list[int]], size: int) -> Answers:
    """Return the likeliest first tokens after each prompt, asked in batches of `size`."""
    found: list[dict[str, float]] = []
    with torch.inference_mode():
        for start in range(0, len(prompts), size):
            ids, mask = left_padded(prompts[start : start + size], 0)
            logits = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).to(model.device),
                logits_to_keep=torch.tensor([ids.shape[1] - 1], device=model.device),
            ).logits[:, -1]
            top = logits.float().log_softmax(-1).topk(min(TOP, logits.shape[-1]))
            for tokens, values in zip(top.indices.tolist(), top.values.tolist(), strict=True):
                found.append({str(token): value for token, value in zip(tokens, values, strict=True)})
    return found
