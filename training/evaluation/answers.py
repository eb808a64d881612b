"""Ask the model: greedy answers in batches, and how likely given answers are to it."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from training.fitting.room import in_parts

OnRows = Callable[[int], None]
BATCH_TOKENS = 8192
"""So many tokens at most are in a batch, padding included: logits of long answers take gigabytes."""

MIN_SHARED = 24
"""From so many tokens on, what prompts have in common (worked examples, an instruction) is read only once."""


def batches(lengths: Sequence[int], size: int, *, tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Yield the places of rows in batches of at most `size` rows and `tokens` tokens.

    Longest first: equal lengths share a batch, and a batch that does not fit in memory fails at once.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batch and (len(batch) == size or (len(batch) + 1) * lengths[batch[0]] > tokens):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def answer(model: Any, tokenizer: Any, prompts: Sequence[list[int]], *, max_new_tokens: int) -> list[str]:
    """Return the greedy answers to one batch of prompts (token ids), as the engine gives at temperature 0."""
    pad = tokenizer.pad_token_id or 0
    ids, mask = left_padded(prompts, pad)
    written = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
    )
    texts = tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    on_rows: OnRows,
) -> list[str]:
    """Return the greedy answer to each prompt."""
    model.eval()
    answers: list[str] = [""] * len(prompts)
    lengths = [len(prompt) + max_new_tokens for prompt in prompts]

    def ask(places: Sequence[int]) -> list[str]:
        return answer(model, tokenizer, [prompts[place] for place in places], max_new_tokens=max_new_tokens)

    for batch in batches(lengths, batch_size):
        texts = in_parts(ask, batch, longest=lengths[batch[0]])
        for place, text in zip(batch, texts, strict=True):
            answers[place] = text
        on_rows(len(batch))
    return answers


def choose(
    model: Any,
    prompts: Sequence[list[int]],
    labels: Sequence[list[int]],
    *,
    batch_size: int,
    on_rows: OnRows,
) -> list[int]:
    """Return for each prompt the number of the label that the model finds most likely as its answer.

    The likelihood is that of the label's tokens without the end of the turn, as in lm-evaluation-harness:
    a base model that goes on talking after the right label is not punished for it.
    """
    model.eval()
    longest = max(map(len, labels))
    chosen = [0] * len(prompts)
    lengths = [len(prompt) + longest for prompt in prompts]

    def ask(places: Sequence[int]) -> list[list[float]]:
        return likelihoods(model, [prompts[place] for place in places], [list(labels)] * len(places))

    for batch in batches(lengths, batch_size):
        found = in_parts(ask, batch, longest=lengths[batch[0]])
        for place, values in zip(batch, found, strict=True):
            chosen[place] = max(range(len(labels)), key=values.__getitem__)
        on_rows(len(batch))
    return chosen


def likelihoods(
    model: Any, prompts: Sequence[list[int]], endings: Sequence[Sequence[list[int]]]
) -> list[list[float]]:
    """Return the log-likelihood, in nats, of each ending after its prompt, for one batch.

    Every prompt has equally many endings, none of them empty. The prompts are read once: their keys and
    values serve all endings. What all prompts of the batch begin with is read once for all of them.
    """
    found: list[list[float]] = [[] for _ in prompts]
    with torch.inference_mode():
        first, past, mask = _read(model, prompts)
        for number in range(len(endings[0])):
            own = [row[number] for row in endings]
            rest = _rest(model, past, mask, own) if max(map(len, own)) > 1 else None
            for row, ending in enumerate(own):
                value = float(first[row, ending[0]])
                if rest is not None and len(ending) > 1:
                    value += float(rest[row, : len(ending) - 1].sum())
                found[row].append(value)
    return found


def _read(model: Any, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Return the log-probabilities of the first tokens after the prompts, keys and values, and their mask."""
    shared = _shared(prompts)
    ids, mask = left_padded([prompt[shared:] for prompt in prompts], 0)
    place = shared + (mask.cumsum(dim=1) - 1).clamp(min=0)
    past = None
    if shared:
        begun = torch.tensor([prompts[0][:shared]], device=model.device)
        past = model(
            input_ids=begun,
            attention_mask=torch.ones_like(begun),
            logits_to_keep=torch.tensor([shared - 1], device=model.device),
            use_cache=True,
        ).past_key_values
        past.batch_repeat_interleave(len(prompts))
        mask = torch.cat([torch.ones((len(prompts), shared), dtype=mask.dtype), mask], dim=1)
    read = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=place.to(model.device),
        past_key_values=past,
        logits_to_keep=torch.tensor([ids.shape[1] - 1], device=model.device),
        use_cache=True,
    )
    return read.logits[:, -1].float().log_softmax(-1).cpu(), read.past_key_values, mask


def _shared(prompts: Sequence[list[int]]) -> int:
    """Return how many tokens all prompts begin with, if it is worth a pass; each keeps one at least."""
    most = min(map(len, prompts)) - 1
    first = prompts[0]
    count = 0
    while count < most and all(prompt[count] == first[count] for prompt in prompts):
        count += 1
    return count if len(prompts) > 1 and count >= MIN_SHARED else 0


def _rest(model: Any, past: Any, mask: torch.Tensor, endings: Sequence[list[int]]) -> torch.Tensor:
    """Return the log-probability of each ending's tokens from the second on, 0 beyond its end."""
    longest = max(map(len, endings)) - 1
    ids = torch.zeros((len(endings), longest), dtype=torch.long)
    wanted = torch.zeros_like(ids)
    there = torch.zeros_like(ids)
    for row, ending in enumerate(endings):
        ids[row, : len(ending) - 1] = torch.tensor(ending[:-1], dtype=torch.long)
        wanted[row, : len(ending) - 1] = torch.tensor(ending[1:], dtype=torch.long)
        there[row, : len(ending) - 1] = 1
    place = mask.sum(dim=1, keepdim=True) + torch.arange(longest)
    logits = model(
        input_ids=ids.to(model.device),
        attention_mask=torch.cat([mask, torch.ones_like(ids)], dim=1).to(model.device),
        position_ids=place.to(model.device),
        # A pass appends to what it is given, and the next ending needs it as it was.
        past_key_values=copy.deepcopy(past),
        use_cache=True,
    ).logits
    values = torch.zeros(ids.shape)
    for row in range(len(endings)):  # one row at a time: float32 logits of a whole batch take gigabytes
        seen = logits[row].float().log_softmax(-1)
        values[row] = seen.gather(1, wanted[row, :, None].to(seen.device)).squeeze(1).cpu()
    return values * there


def left_padded(rows: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask of rows that end together."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, width - len(row) :] = torch.tensor(row)
        mask[place, width - len(row) :] = 1
    return ids, mask
