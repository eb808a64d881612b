"""The training run, on a base of two layers."""

from dataclasses import replace
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


def uneven(count: int) -> list[Example]:
    """Return the same with answers of one to four letters."""
    return [
        replace(row, completion=row.completion[0] * (1 + place % 4)) for place, row in enumerate(rows(count))
    ]


class Run:
    """A base, an adapter on it, encoded rows and a trainer."""

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        *,
        examples: list[Example] | None = None,
        exact: bool = False,
        **changes: Any,
    ) -> None:
        from training.fitting.fit import build_trainer
        from training.fitting.model import add_lora, in_float32, load_base

        self.config = replace(TrainConfig(epochs=2, rank=4, batch_size=4, learning_rate=5e-3), **changes)
        self.base = load_base(str(folder), quantization=self.config.quantization, full=self.config.full)
        if exact:
            in_float32(self.base.model)
        self.template = Template(self.base.tokenizer, self.base.stop_ids)
        self.encoded = [self.template.encode(example) for example in examples or rows(16)]
        self.model = self.base.model if self.config.full else add_lora(self.base.model, self.config)
        self.steps: list[tuple[int, int, float | None]] = []
        self.validations: list[tuple[int, float]] = []
        self.trainer = build_trainer(
            self.model,
            self.encoded,
            self.encoded[:4],
            self.config,
            template=self.template,
            scratch=scratch,
            on_step=lambda *step: self.steps.append(step),
            on_validation=lambda *seen: self.validations.append(seen),
            checkpoints=False,
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


@pytest.mark.parametrize("packing", [True, False])
def test_the_loss_is_on_the_answers_alone(tiny_base: Path, tmp_path: Path, packing: bool) -> None:
    """Labels of the real collator, decoded, are the answers with their ends of turn; prompts stand once."""
    from training.fitting.loss import IGNORED

    run = Run(tiny_base, tmp_path, packing=packing)
    batch = next(iter(run.trainer.get_train_dataloader()))
    assert ("attention_mask" in batch) is not packing
    decode = run.base.tokenizer.decode
    answers = decode(batch["labels"][batch["labels"] != IGNORED].tolist()).split("<|im_end|>")
    assert len(answers) == 5
    assert set(answers[:-1]) <= {"aaa", "bbb"}
    mask = batch.get("attention_mask", batch["input_ids"] >= 0)
    whole = decode(batch["input_ids"][mask == 1].tolist())
    assert whole.count("<|im_start|>system") == 4
    assert whole.count("<|im_start|>assistant") == 4
    assert whole.endswith("<|im_end|>")


@pytest.mark.parametrize("packing", [True, False])
def test_a_step_is_the_same_in_one_pass_and_in_several(
    tiny_base: Path, tmp_path: Path, packing: bool
) -> None:
    """The loss is the mean over all answer tokens of a step, however its rows are spread over passes."""
    import torch

    from training.fitting.fit import fit

    found, losses = [], []
    for passes in (1, 2, 4):
        run = Run(
            tiny_base,
            tmp_path,
            examples=uneven(8),
            exact=True,
            accumulation=passes,
            epochs=1,
            packing=packing,
        )
        fit(run.trainer)
        losses.append(run.steps[1][2])
        found.append(torch.cat([weight.flatten() for weight in run.trainable().values()]).detach())
    assert losses == [pytest.approx(losses[0], rel=1e-3)] * 3
    assert torch.allclose(found[0], found[1], atol=1e-3)
    assert torch.allclose(found[0], found[2], atol=1e-3)


def test_validation_does_not_depend_on_how_rows_are_batched(run: Run) -> None:
    """It is the mean over tokens of all rows, and draws no random numbers."""
    import torch

    from training.fitting.plan import at_speed

    before = torch.random.get_rng_state()
    with at_speed(run.trainer.model, run.trainer.plan):
        first = run.trainer.evaluate()["eval_loss"]
        run.trainer.args.per_device_eval_batch_size = 1
        again = run.trainer.evaluate()["eval_loss"]
    assert first == pytest.approx(again, rel=2e-2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert [step for step, _ in run.validations] == [0, 0]


def test_a_run_that_learns_no_more_ends_with_its_best_weights(tiny_base: Path, tmp_path: Path) -> None:
    """Against validation rows with the opposite answers it stops after two worse ones."""
    from training.fitting.collating import items
    from training.fitting.fit import fit

    run = Run(tiny_base, tmp_path, epochs=20, patience=2, eval_steps=2, learning_rate=2e-2)
    opposite = [Encoded(row.prompt, run.template.ended("zq")) for row in run.encoded[:4]]
    run.trainer.eval_dataset = items(opposite, run.config, packed=run.trainer.plan.apart)
    done = fit(run.trainer)
    assert done.steps < 80
    assert done.best_step < done.steps
    assert done.validation_after == min(loss for _, loss in run.validations)
    assert run.trainer.evaluate()["eval_loss"] == pytest.approx(done.validation_after, rel=2e-2)


def test_a_loss_that_is_no_number_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to change, and nothing goes on with broken weights."""
    from training.fitting import trainers
    from training.fitting.fit import fit

    plain = trainers.nats
    monkeypatch.setattr(
        trainers, "nats", lambda *given: plain(*given) * (float("nan") if len(run.steps) > 2 else 1)
    )
    with pytest.raises(ValueError, match="lower --learning-rate"):
        fit(run.trainer)
    assert len(run.steps) == 4


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_the_end_of_memory_is_answered_with_a_proposal(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It names options, and what the run would take with them."""
    from training.fitting import trainers
    from training.fitting.fit import DoesNotFit, fit

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(trainers, "nats", fails)
    with pytest.raises(DoesNotFit, match=r"add --unpack-base false.*GB"):
        fit(run.trainer)


def test_a_run_that_can_not_fit_never_begins(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU the kernel would end it without a word. Weights that are there already count once."""
    from training.fitting import plan
    from training.fitting.room import DoesNotFit

    monkeypatch.setattr(plan, "free_bytes", lambda: 100_000)
    with pytest.raises(DoesNotFit, match=r"add --accumulation 4.*GB are free"):
        Run(tiny_base, tmp_path)


def test_other_errors_stay_what_they_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of a program is not taken for a lack of memory."""
    from training.fitting import trainers
    from training.fitting.fit import fit

    def fails(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(trainers, "nats", fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(run.trainer)


def test_gradient_checkpoints_change_no_result(tiny_base: Path, tmp_path: Path) -> None:
    """What is computed twice is the same the second time, documents apart included."""
    import torch

    from training.fitting.fit import fit

    found = []
    for checkpointing in (False, True):
        run = Run(tiny_base, tmp_path, gradient_checkpointing=checkpointing, epochs=1)
        fit(run.trainer)
        found.append(torch.cat([weight.flatten() for weight in run.trainable().values()]).detach())
    assert torch.equal(found[0], found[1])


def test_full_fine_tuning_gives_a_base_model(tiny_base: Path, tmp_path: Path) -> None:
    """Every weight is trained in float32 and nearly all move; what is saved loads like any base model."""
    import torch

    from training.fitting.fit import fit
    from training.fitting.model import load_base, save_model

    run = Run(tiny_base, tmp_path, full=True, quantization="none", learning_rate=1e-3)
    before = {name: weight.detach().clone() for name, weight in run.trainable().items()}
    assert len(before) == len(list(run.model.parameters()))
    done = fit(run.trainer)
    assert done.validation_after is not None
    assert done.validation_before is not None
    assert done.validation_after < done.validation_before
    assert {weight.dtype for weight in run.trainable().values()} == {torch.float32}
    linear = [name for name in before if "proj" in name]
    moved = sum(int((run.trainable()[name] != before[name]).sum()) for name in linear)
    assert moved / sum(before[name].numel() for name in linear) > 0.95
    save_model(run.model, run.base.tokenizer, tmp_path / "out", dtype="bfloat16")
    again = load_base(str(tmp_path / "out"), quantization="none")
    assert again.tokenizer.chat_template == run.base.tokenizer.chat_template
    assert not (tmp_path / "out" / "adapter_config.json").exists()


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
                ids = torch.tensor([prompt + label], device=run.model.device)
                logits = run.model(input_ids=ids).logits[0].float().log_softmax(-1)
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
