"""The training run, on a base of two layers."""

from pathlib import Path
from typing import Any

import pytest

from training.config import TrainConfig
from training.data.rows import Example
from training.fitting.template import Encoded, Template

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]


def rows(count: int) -> list[Example]:
    """Return rows of a task that can be learned: answer with the first letter."""
    return [
        Example(({"role": "user", "content": f"{'ab'[number % 2]} {number}"},), "ab"[number % 2] * 3)
        for number in range(count)
    ]


class Run:
    """A base, an adapter on it, encoded rows and a trainer."""

    def __init__(self, folder: Path, scratch: Path, *, count: int = 16, epochs: float = 2) -> None:
        from training.fitting.fit import build_trainer
        from training.fitting.model import add_lora, load_base

        self.base = load_base(str(folder))
        self.template = Template(self.base.tokenizer, self.base.stop_ids)
        self.encoded = [self.template.encode(example) for example in rows(count)]
        self.config = TrainConfig(epochs=epochs, rank=4, batch_size=4, learning_rate=5e-3)
        self.model = add_lora(self.base.model, self.config)
        self.steps: list[tuple[int, int, float | None]] = []
        self.trainer = build_trainer(
            self.model,
            self.encoded,
            self.encoded[:4],
            self.config,
            pad_id=self.base.tokenizer.pad_token_id,
            scratch=scratch,
            on_step=lambda *step: self.steps.append(step),
        )

    def trainable(self) -> dict[str, Any]:
        """Return the weights that training may change."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}


@pytest.fixture
def run(tiny_base: Path, tmp_path: Path) -> Run:
    """A run that is ready to start."""
    return Run(tiny_base, tmp_path)


def test_weights_and_moments_are_float32_and_nearly_all_weights_move(run: Run) -> None:
    """Small updates are not lost to bfloat16: not in the trainer's hands, and not in the optimizer's."""
    import torch

    from training.fitting.fit import fit

    before = {name: weight.detach().clone() for name, weight in run.trainable().items()}
    assert before
    assert {weight.dtype for weight in before.values()} == {torch.float32}
    fit(run.trainer)
    assert {weight.dtype for weight in run.trainable().values()} == {torch.float32}
    state = run.trainer.optimizer.state
    moments = [value for entry in state.values() for key, value in entry.items() if key.startswith("exp_avg")]
    assert len(moments) == 2 * len(before)
    assert {moment.dtype for moment in moments} == {torch.float32}
    moved = sum(int((weight != before[name]).sum()) for name, weight in run.trainable().items())
    assert moved / sum(weight.numel() for weight in before.values()) > 0.95


def test_training_learns_after_an_evaluation(run: Run) -> None:
    """The validation loss falls, though a pass in evaluation mode came before the first step."""
    from training.fitting.fit import fit

    done = fit(run.trainer)
    assert done.steps == 8
    assert done.validation_before is not None
    assert done.validation_after is not None
    assert done.validation_after < done.validation_before - 0.3
    assert [step[:2] for step in run.steps] == [(number, 8) for number in range(1, 9)]
    assert run.steps[-1][2] is not None


def test_the_loss_is_on_the_answers_alone(run: Run) -> None:
    """Labels of the real collator, decoded, are the answers with their ends of turn."""
    from training.fitting.fit import IGNORED

    batch = next(iter(run.trainer.get_train_dataloader()))
    for labels, ids, mask in zip(batch["labels"], batch["input_ids"], batch["attention_mask"], strict=True):
        kept = labels[labels != IGNORED].tolist()
        assert run.base.tokenizer.decode(kept) in {"aaa<|im_end|>", "bbb<|im_end|>"}
        whole = run.base.tokenizer.decode(ids[mask == 1].tolist())
        assert whole.count("<|im_start|>system") == 1
        assert whole.count("<|im_start|>assistant") == 1
        assert whole.endswith("<|im_end|>")


def test_leaving_out_the_prompts_logits_changes_no_loss(run: Run) -> None:
    """The loss of a padded batch is the plain model's own loss on its rows."""
    import torch

    from training.fitting.fit import Collator, _rows

    encoded = [Encoded([3, 4, 5, 6, 7], [8, 1]), Encoded([9], [10, 11, 1])]
    batch = Collator(1)(_rows(encoded))
    run.model.eval()
    with torch.no_grad():
        ours = run.trainer.compute_loss(run.model, batch)
        total = torch.tensor(0.0)
        for row in encoded:
            ids = torch.tensor([row.prompt + row.completion])
            labels = torch.tensor([[-100] * len(row.prompt) + row.completion])
            total += run.model(input_ids=ids, labels=labels).loss * len(row.completion)
    assert float(ours) == pytest.approx(float(total / 5), abs=2e-2)


def test_the_templates_ids_are_those_of_the_chat_request(run: Run) -> None:
    """Training sees the very ids that the engine's chat endpoint gives the model."""
    messages = run.template.messages(rows(1)[0])
    wanted = run.base.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    assert run.template.prompt_ids(messages) == list(wanted["input_ids"])
    assert run.base.tokenizer(run.template.render(messages)).input_ids == run.template.prompt_ids(messages)


def test_choosing_among_labels_agrees_with_one_by_one_likelihoods(run: Run) -> None:
    """Padding and batching do not change the choice."""
    import torch

    from training.evaluation.answers import choose

    prompts = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
    labels = [[20], [21, 22], [23, 24, 25]]
    seen: list[int] = []
    found = choose(run.model, prompts, labels, batch_size=4, on_rows=seen.append)
    run.model.eval()
    for prompt, choice in zip(prompts, found, strict=True):
        scores = []
        for label in labels:
            with torch.no_grad():
                logits = run.model(input_ids=torch.tensor([prompt + label])).logits[0].float().log_softmax(-1)
            start = len(prompt) - 1
            scores.append(sum(float(logits[start + place, token]) for place, token in enumerate(label)))
        assert choice == max(range(3), key=scores.__getitem__)
    assert sum(seen) == 3


def test_answers_come_back_in_the_order_of_their_prompts(run: Run) -> None:
    """Sorting by length for the batches is undone, and padding changes no answer."""
    from training.evaluation.answers import generate

    prompts = [run.template.prompt_ids(run.template.messages(example)) for example in rows(5)]
    prompts[2] = prompts[2][:4]
    ask = {"max_new_tokens": 4, "on_rows": lambda _: None}
    together = generate(run.model, run.base.tokenizer, prompts, batch_size=5, **ask)
    alone = [generate(run.model, run.base.tokenizer, [one], batch_size=1, **ask)[0] for one in prompts]
    assert together == alone
