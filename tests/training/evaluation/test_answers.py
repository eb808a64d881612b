"""Batches, greedy answers and likelihoods, on a base of two layers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]

PROMPTS = [[0, 40, 41], [0, 50], [0, 60, 61, 62, 63, 64]]
ENDINGS = [[[70], [71, 72]], [[73, 74, 75], [76, 1]], [[77, 1], [78]]]


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> Any:
    """The base, loaded once, computing in float32."""
    from training.fitting.model import in_float32, load_base

    loaded = load_base(str(tiny_base))
    in_float32(loaded.model)
    loaded.model.eval()
    return loaded


def alone(model: Any, prompt: list[int], ending: list[int]) -> float:
    """Return the log-likelihood of an ending by one plain pass without padding or cache."""
    import torch

    ids = torch.tensor([prompt + ending], device=model.device)
    with torch.inference_mode():
        seen = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(seen.gather(1, ids[0, len(prompt) :, None]).sum())


def test_likelihoods_in_a_batch_are_those_of_single_passes(base: Any) -> None:
    """Padding on both sides and shared keys and values change nothing."""
    from training.evaluation.answers import likelihoods

    found = likelihoods(base.model, PROMPTS, ENDINGS)
    for prompt, endings, values in zip(PROMPTS, ENDINGS, found, strict=True):
        assert values == pytest.approx([alone(base.model, prompt, ending) for ending in endings], abs=1e-3)


def test_what_prompts_share_is_read_once(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long beginning in common changes nothing but the work."""
    from training.evaluation import answers

    begin = [0, *range(30, 70)]
    prompts = [[*begin, *prompt] for prompt in PROMPTS]
    expected = [
        [alone(base.model, prompt, ending) for ending in endings]
        for prompt, endings in zip(prompts, ENDINGS, strict=True)
    ]
    assert answers._shared(prompts) == len(begin) + 1
    for found, values in zip(answers.likelihoods(base.model, prompts, ENDINGS), expected, strict=True):
        assert found == pytest.approx(values, abs=1e-3)
    monkeypatch.setattr(answers, "MIN_SHARED", 1000)
    assert answers._shared(prompts) == 0
    for found, values in zip(answers.likelihoods(base.model, prompts, ENDINGS), expected, strict=True):
        assert found == pytest.approx(values, abs=1e-3)


@pytest.mark.parametrize(
    ("prompts", "shared"), [([[1] * 40, [1] * 40], 39), ([[1] * 40], 0), ([[1] * 9, [1] * 9], 0)]
)
def test_each_prompt_keeps_a_token_of_its_own(prompts: list[list[int]], shared: int) -> None:
    """Equal prompts, one alone, and short ones."""
    from training.evaluation.answers import _shared

    assert _shared(prompts) == shared


def test_the_likeliest_label_is_chosen(base: Any) -> None:
    """In whatever batches the prompts are asked."""
    from training.evaluation.answers import choose

    labels = [[70], [71, 72], [1]]
    counted: list[int] = []
    expected = [
        max(range(3), key=lambda number: alone(base.model, prompt, labels[number])) for prompt in PROMPTS
    ]
    for size in (1, 2, 32):
        assert choose(base.model, PROMPTS, labels, batch_size=size, on_rows=counted.append) == expected
    assert sum(counted) == 9


def test_answers_come_back_in_order(base: Any) -> None:
    """Greedy answers of a batch are those of single prompts."""
    from training.evaluation.answers import generate

    one_by_one = [
        generate(
            base.model, base.tokenizer, [prompt], max_new_tokens=6, batch_size=1, on_rows=lambda _: None
        )[0]
        for prompt in PROMPTS
    ]
    together = generate(
        base.model, base.tokenizer, PROMPTS, max_new_tokens=6, batch_size=2, on_rows=lambda _: None
    )
    assert together == one_by_one


@given(st.lists(st.integers(1, 400), max_size=60), st.integers(1, 8), st.integers(100, 1000))
def test_batches_hold_every_row_once_within_their_bounds(lengths: list[int], size: int, tokens: int) -> None:
    """Longest first; a row that alone is above the bound still has its batch."""
    from training.evaluation.answers import batches

    found = list(batches(lengths, size, tokens=tokens))
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= tokens
    flat = [lengths[place] for batch in found for place in batch]
    assert flat == sorted(lengths, reverse=True)


def test_a_label_that_begins_with_another_can_win(base: Any) -> None:
    """Where one label's tokens begin another's, the end of the turn belongs to both."""
    from training.evaluation.prompts import label_endings
    from training.fitting.template import Template

    template = Template(base.tokenizer, base.stop_ids)
    plain, nested = label_endings(template, ["ab", "b"]), label_endings(template, ["a", "ab"])
    assert [ids[-1] == template.end_id for ids in plain] == [False, False]
    assert [ids[-1] == template.end_id for ids in nested] == [True, True]


def test_worked_examples_are_left_out_until_the_prompt_fits(base: Any) -> None:
    """The row itself stays whole."""
    from training.data.rows import Example
    from training.evaluation.prompts import prompt_with
    from training.fitting.template import Template

    template = Template(base.tokenizer, base.stop_ids)
    row = Example(({"role": "user", "content": "here"},), "a")
    shots = [Example(({"role": "user", "content": "x" * 100},), "b")] * 6
    alone_ids = template.prompt_ids(template.messages(row))
    found = prompt_with(template, row, shots, room=20, most=512)
    assert len(alone_ids) < len(found) <= 492
    assert found[-20:] == alone_ids[-20:]
    assert prompt_with(template, row, shots, room=20, most=60) == alone_ids
