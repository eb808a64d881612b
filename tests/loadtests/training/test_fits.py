"""The arithmetic of `make bench-training`: when a target was reached, and a clock that stands still."""

import random

import pytest

from loadtests.training.fits import Clock, Measured, seconds_to, validation_loss
from training.fitting.template import Encoded

CURVE = [(0.0, 3.0), (10.0, 1.0), (20.0, 0.5)]


@pytest.mark.parametrize(
    ("target", "wanted"),
    [(3.5, 0.0), (3.0, 0.0), (2.0, 5.0), (1.0, 10.0), (0.75, 15.0), (0.5, 20.0), (0.4, None)],
)
def test_the_time_to_a_target_is_read_off_the_curve(target: float, wanted: float | None) -> None:
    """Between two validations the loss falls in a straight line; an unreached target has no time."""
    assert seconds_to(CURVE, target) == wanted


def test_a_loss_that_rises_first_reaches_a_target_when_it_comes_down() -> None:
    """What lies above the target counts as not reached."""
    assert seconds_to([(0.0, 1.0), (5.0, 2.0), (10.0, 1.0)], 1.5) == 0.0
    assert seconds_to([(0.0, 2.0), (5.0, 2.5), (10.0, 1.5)], 2.0) == 0.0
    assert seconds_to([(0.0, 2.2), (5.0, 2.6), (10.0, 1.6)], 2.1) == pytest.approx(7.5)


def test_the_clock_stands_still_while_it_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations of a minute each leave the seconds of training alone."""
    now = [0.0]
    monkeypatch.setattr("loadtests.training.fits.time.perf_counter", lambda: now[0])
    measured = Measured("turnout", "mixed", 7, tokens=600)

    def validate() -> float:
        now[0] += 60
        return 1.0

    clock = Clock(validate, 2, measured)
    clock.begin()
    for step in range(1, 4):
        now[0] += 1
        clock.step(step, 3)
    assert measured.seconds == 3
    assert [seconds for seconds, _ in measured.curve] == [0.0, 2.0, 3.0]
    assert measured.tokens_per_s == 200


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_a_validation_in_batches_is_that_of_row_by_row() -> None:
    """Rows of other lengths in the batch, and the attention of training, change nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.fitting.attention import documents_apart

    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=99
        )
    )
    drawn = random.Random(4)
    rows = [
        Encoded(*(drawn.choices(range(99), k=drawn.randint(low, high)) for low, high in ((5, 40), (1, 4))))
        for _ in range(19)
    ]
    total, count = 0.0, 0
    for row in rows:
        ids = torch.tensor([row.prompt + row.completion])
        labels = torch.tensor([[-100] * len(row.prompt) + row.completion])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * len(row.completion)
        count += len(row.completion)
    with documents_apart(model.train()):
        assert validation_loss(model, rows) == pytest.approx(total / count, rel=1e-4)
        assert model.config._attn_implementation == "turnout_documents"
    assert model.training
