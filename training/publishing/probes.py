"""Probes for attestation: the prompts that tell this adapter from others best, and what it says to them.

A probe is text. Sent to the engine's `/v1/completions` it gives the token ids that it gives here, so that
log-probabilities can be compared. Probes are short, since every proof on every engine pays for their tokens.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from adapters.answers import MIN_NOISE, TOP, choose, difference, distance
from adapters.manifest import Probe, Reference, Separation
from adapters.registry import digest_of
from training.data.rows import Example
from training.fitting.template import Template

log = logging.getLogger(__name__)

MIN_PROBES = 4
MAX_PROBES = 6
MAX_PROBE_TOKENS = 8
BUDGET_TOKENS = 40
"""A CPU engine takes 6 to 12 ms for each with an adapter. 110 tokens of longer prompts tell no more apart."""

RUNS = 8
"""Runs in bfloat16 from which the noise is taken. One adapter's differed by a factor of three."""

MAX_ROWS = 16
"""So many held-out rows at most are tried as probes, where rows may be stored at all."""

PREDECESSOR = "predecessor"
NEUTRAL = (
    "The delivery arrived two days late, but the driver was kind.",
    "Our quarterly meeting moves to Thursday at ten in the small room.",
    "A new bridge across the river opened to traffic this morning.",
    "Please send the signed form back before the end of the month.",
    "The soup was cold and nobody came to our table for half an hour.",
    "Seven volunteers repaired the old mill over the summer.",
)
"""Texts of nobody in particular, for adapters whose recipe brings no probes of its own."""

GENERAL = (
    "The capital of France is",
    "Question: What should I cook for dinner tonight?\nAnswer:",
    "Write the next line of the poem:\nThe night was long, the road was white,\n",
    'Extract the names as JSON: "Ada wrote to Charles."\n',
)
"""Prompts of no task and no template, tried beside the others."""

Tops = list[dict[str, float]]
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Said:
    """What the adapter, the base model and the version before say to the same prompts."""

    own: Tops
    base: Tops
    predecessor: Tops | None


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


def candidates(template: Template, texts: Sequence[str], rows: Sequence[Example] = ()) -> list[str]:
    """Return the prompts to choose from: the ends of chat prompts, where the answer begins, and general ones.

    `rows` are held-out rows that may be stored; sixteen of them at most are tried.
    """
    examples = [*probe_examples(texts), *rows[:MAX_ROWS]]
    rendered = [template.render(template.messages(example)) for example in examples]
    return list(dict.fromkeys([*(template.tail(each, MAX_PROBE_TOKENS) for each in rendered), *GENERAL]))


def record(
    model: Any,
    template: Template,
    prompts: Sequence[str],
    *,
    predecessor: Path | None = None,
    base_digest: str | None = None,
) -> Reference:
    """Choose the probes among `prompts` and return what this adapter says to them.

    `model` is a PEFT model with the adapter active, and computes in float32 afterwards: the
    answers are computed in float32 at the end, and how far those in bfloat16 are from them is the noise that
    another implementation must be given: the mean of several runs, since one may be lucky. `predecessor` is
    the folder of the version before; one that can't be loaded on this base model is logged and left out.
    `base_digest` goes into the certificate.
    """
    from training.fitting.model import as_served, in_float32, quantization_of  # noqa: PLC0415 - the texts above are wanted without torch
    from training.fitting.unpacking import unpacked_while_judged  # noqa: PLC0415

    model.eval()
    if predecessor is not None and not _load(model, predecessor):
        predecessor = None
    both = predecessor is not None
    with unpacked_while_judged(model):
        heard = _hear(model, template, prompts, with_predecessor=both)
    chosen = choose(
        _gains(heard),
        [len(template.ids(prompt)) for prompt in prompts],
        at_most=MAX_PROBES,
        budget=BUDGET_TOKENS,
        at_least=MIN_PROBES,
    )
    probes = [prompts[place] for place in chosen]
    with unpacked_while_judged(as_served(model)):
        base = _tops(model, template, probes, model.disable_adapter())
        runs = [_tops(model, template, probes, _nudged(model, run)) for run in range(RUNS)]
    exact = _hear(in_float32(model), template, probes, with_predecessor=both)
    noise = fmean(distance(exact.own, run) for run in runs)
    noise = max(MIN_NOISE, noise, distance(exact.base, base))
    before = exact.predecessor
    return Reference(
        quantization=quantization_of(model),
        probes=tuple(
            Probe(
                prompt=prompt,
                top_logprobs=exact.own[place],
                base=exact.base[place],
                predecessor=None if before is None else before[place],
            )
            for place, prompt in enumerate(probes)
        ),
        noise=round(noise, 5),
        separation=Separation(
            base=round(distance(exact.own, exact.base) / noise, 2),
            predecessor=None if before is None else round(distance(exact.own, before) / noise, 2),
        ),
        predecessor=None if predecessor is None else digest_of(predecessor),
        base_digest=base_digest,
        template_digest=template.digest,
        tokenizer_digest=template.tokenizer_digest,
        quantization_config=quantization_config(model),
    )


def quantization_config(model: Any) -> dict[str, Any] | None:
    """Return how a model was quantized, as its own config says it, or None for one that was not."""
    found = getattr(model.config, "quantization_config", None)
    if found is None:
        return None
    document = found if isinstance(found, dict) else found.to_dict()
    return {name: value if isinstance(value, _PLAIN) else str(value) for name, value in document.items()}


def _load(model: Any, predecessor: Path) -> bool:
    try:
        model.load_adapter(str(predecessor), adapter_name=PREDECESSOR)
    except (OSError, ValueError, RuntimeError) as error:
        log.warning("the version before can't be loaded, so no probe is chosen against it: %s", error)
        return False
    return True


def _gains(heard: Said) -> dict[str, list[float]]:
    rivals = {"base": heard.base}
    if heard.predecessor is not None:
        rivals[PREDECESSOR] = heard.predecessor
    return {
        name: [difference(own, other) for own, other in zip(heard.own, said, strict=True)]
        for name, said in rivals.items()
    }


def _hear(model: Any, template: Template, prompts: Sequence[str], *, with_predecessor: bool) -> Said:
    own = model.active_adapter
    before: Tops | None = None
    if with_predecessor:
        model.set_adapter(PREDECESSOR)
        before = _tops(model, template, prompts, nullcontext())
        model.set_adapter(own)
    return Said(
        _tops(model, template, prompts, nullcontext()),
        _tops(model, template, prompts, model.disable_adapter()),
        before,
    )


@contextmanager
def _nudged(model: Any, seed: int) -> Iterator[None]:
    """Move a model's first numbers by up to one rounding of bfloat16, at random; not with seed 0.

    From there on every other rounding falls differently, as in another implementation of the same weights.
    """
    import torch  # noqa: PLC0415

    generator = torch.Generator().manual_seed(seed)

    def nudge(_module: Any, _given: Any, output: Any) -> Any:
        wide = 2 * torch.rand(output.shape, generator=generator) - 1
        factor = 1 + wide.to(output.device) * torch.finfo(torch.bfloat16).eps / 2
        return (output.float() * factor).to(output.dtype)

    hook = model.get_input_embeddings().register_forward_hook(nudge) if seed else None
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def _tops(
    model: Any, template: Template, prompts: Sequence[str], context: AbstractContextManager[Any]
) -> Tops:
    """Ask the prompts one by one, as nothing is padded then; return the likeliest first tokens of each."""
    import torch  # noqa: PLC0415

    found: Tops = []
    with context, torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([template.ids(prompt)], device=model.device)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
            top = logits.float().log_softmax(-1).topk(TOP)
            pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
            found.append({str(token): round(value, 5) for token, value in pairs})
    return found
