"""Whether the serving engine says what is judged here: the same prompts, the same version, both asked.

Two honest computations of the same weights differ by rounding. What that amounts to is measured here, as the
difference between a prompt in a padded batch and the same prompt alone, and never taken to be less than what
training recorded. As in attestation, up to three times the noise is the same weights (docs/decisions/0009).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from adapters.answers import MIN_NOISE, TOP, Answers, distance
from training.data.rows import Example
from training.evaluation.answers import answer, left_padded
from training.evaluation.bootstrap import Interval, Resampling, interval
from training.evaluation.endpoint import Endpoint, EndpointFailed
from training.evaluation.figures import mean
from training.evaluation.scorer import Scorer
from training.evaluation.systems import System

SAMPLE = 24
TOLERANCE = 3.0
"""Times the noise; what attestation allows."""

STRONG = 5.0
AGREEMENT = 0.9
"""Greedy answers may part at a near tie. Fewer than nine in ten alike is no rounding."""

_BATCH = 8


@dataclass(frozen=True, slots=True)
class Parity:
    """How one system's answers here compare with the engine's. Distances and noise are in nats.

    `off` says why they are not the same, `failed` why nothing could be compared; both None is parity.
    """

    system: str
    url: str
    rows: int = 0
    distance: float | None = None
    noise: float | None = None
    distance_to_base: float | None = None
    agreement: Interval | None = None
    off: str | None = None
    failed: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the engine was compared, and agrees."""
        return self.off is None and self.failed is None

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "holds": self.holds}


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
    recorded = system.manifest.reference.noise if system.manifest and system.manifest.reference else None
    noise = max(MIN_NOISE, distance(together, alone), recorded or 0.0)
    try:
        served = endpoint.first_tokens(model, rendered, count=TOP)
        said = endpoint.answers(model, rendered, max_tokens=room)
    except EndpointFailed as error:
        return Parity(system.name, endpoint.url, len(sample), noise=noise, failed=str(error))
    from_base = None
    if system.digest is not None:
        with scorer.model.disable_adapter():
            from_base = distance(_tops(scorer.model, ids, _BATCH), served)
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


def why_off(apart: float, noise: float, from_base: float | None, agreement: Interval) -> str | None:
    """Return why an engine's answers are not those of the same weights, or None."""
    if from_base is not None and from_base < apart and apart > noise:
        return "the engine answers like the base model: the adapter is not applied there, or another one is"
    if apart > TOLERANCE * noise:
        return (
            f"first tokens differ by {apart:.3f} nats, {apart / noise:.1f} times the noise; "
            f"{TOLERANCE:g} times are rounding"
        )
    if agreement.high < AGREEMENT:
        return f"only {agreement.value:.0%} of the whole answers are the same"
    return None


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
