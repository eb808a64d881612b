"""Ask the model: greedy answers in batches, and the choice among labels by their log-likelihood."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

OnRows = Callable[[int], None]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    on_rows: OnRows,
) -> list[str]:
    """Return the greedy answer to each prompt (token ids), as the engine gives it at temperature 0."""
    model.eval()
    answers: list[str] = [""] * len(prompts)
    # Longest first: equal lengths share a batch, and a batch that does not fit in memory fails at once.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids, mask = _left_padded([prompts[index] for index in batch], tokenizer.pad_token_id or 0)
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id or 0,
        )
        texts = tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        for index, text in zip(batch, texts, strict=True):
            answers[index] = text.strip()
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
    pairs = [(index, number) for index in range(len(prompts)) for number in range(len(labels))]
    pairs.sort(key=lambda pair: -len(prompts[pair[0]]))
    scores = torch.full((len(prompts), len(labels)), -torch.inf)
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        found = _likelihoods(model, [(prompts[index], labels[number]) for index, number in batch])
        for (index, number), value in zip(batch, found, strict=True):
            scores[index, number] = value
        on_rows(sum(1 for _, number in batch if number == 0))
    return [int(choice) for choice in scores.argmax(dim=1)]


def _likelihoods(model: Any, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """Return the log-likelihood of each answer after its prompt. Padded on the left: answers end together."""
    ids, mask = _left_padded([prompt + answer for prompt, answer in rows], 0)
    width, longest = ids.shape[1], max(len(answer) for _, answer in rows)
    with torch.inference_mode():
        logits = model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            logits_to_keep=torch.arange(width - longest - 1, width, device=model.device),
        ).logits[:, :-1]
        seen = logits.float().log_softmax(-1).cpu()
    token = seen.gather(2, ids[:, -longest:, None]).squeeze(2)
    return [float(token[place, -len(answer) :].sum()) for place, (_, answer) in enumerate(rows)]


def _left_padded(rows: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask of rows that end together."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, width - len(row) :] = torch.tensor(row)
        mask[place, width - len(row) :] = 1
    return ids, mask
