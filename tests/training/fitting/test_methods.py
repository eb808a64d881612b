"""Every method of training: in float32, after an evaluation, and to the end that it is for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training.config import METHODS, TrainConfig
from training.data.rows import DataError, Example, Preference, Rated, Row, Text
from training.fitting.template import Template

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
]
ASKED = [({"role": "user", "content": f"{letter}{number}"},) for number in range(6) for letter in "ab"]


def rows_for(method: str) -> list[Row]:
    """Return rows that a method can learn from: `yes` is wanted, `no` is not."""
    match method:
        case "sft":
            return [Example(asked, "yes") for asked in ASKED]
        case "dpo":
            return [Preference(asked, "yes", "no") for asked in ASKED]
        case "kto":
            both = ((asked, liked) for asked in ASKED for liked in (True, False))
            return [Rated(asked, "yes" if liked else "no", liked=liked) for asked, liked in both]
    return [Text(f"the answer to {number} is yes. " * 8) for number in range(12)]


class Run:
    """A trainer for one method on the tiny base."""

    def __init__(
        self, folder: Path, scratch: Path, method: Any, rows: list[Row] | None = None, **changes: Any
    ) -> None:
        from training.fitting.encoding import encode
        from training.fitting.fit import build_trainer
        from training.fitting.model import add_lora, load_base
        from training.fitting.recipes import RECIPES

        settings = {"rank": 4, "alpha": 8, "learning_rate": 5e-3, "batch_size": 4, "max_tokens": 64}
        if method in {"dpo", "kto"}:
            settings["epochs"] = 4
        self.config: TrainConfig = replace(RECIPES[method](**settings), **changes)
        self.base = load_base(str(folder))
        self.template = Template(self.base.tokenizer, self.base.stop_ids)
        self.rows, _ = encode(self.template, rows or rows_for(method), self.config, max_position=512)
        self.model = add_lora(self.base.model, self.config)
        self.trainer = build_trainer(
            self.model,
            self.rows,
            self.rows[:4],
            self.config,
            template=self.template,
            scratch=scratch,
            on_step=lambda *_: None,
            checkpoints=False,
        )

    def trainable(self) -> dict[str, Any]:
        """Return the weights that training may change."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def margin(self) -> float:
        """Return how much likelier `yes` is than `no`, in nats, over the prompts."""
        import torch

        self.model.eval()
        total = 0.0
        for asked in ASKED:
            prompt = self.template.prompt_ids(list(asked))
            for answer, sign in (("yes", 1), ("no", -1)):
                ids = self.template.ended(answer)
                with torch.no_grad():
                    logits = (
                        self.model(input_ids=torch.tensor([prompt + ids], device=self.model.device))
                        .logits[0]
                        .float()
                    )
                seen = logits.log_softmax(-1)[len(prompt) - 1 : -1]
                total += sign * float(seen.gather(1, torch.tensor(ids, device=seen.device)[:, None]).sum())
        return total / len(ASKED)


@pytest.mark.parametrize("method", METHODS)
def test_weights_and_moments_are_float32_and_nearly_all_move(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """TRL casts LoRA on quantized bases to bfloat16, in which small steps are lost; here nothing is lost."""
    import torch

    from training.fitting.fit import fit

    run = Run(tiny_base, tmp_path, method)
    before = {name: weight.detach().clone() for name, weight in run.trainable().items()}
    assert len(before) == 2 * 2 * 7
    assert {weight.dtype for weight in before.values()} == {torch.float32}
    done = fit(run.trainer)
    after = run.trainable()
    assert set(after) == set(before)
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    state = run.trainer.optimizer.state
    moments = [value for entry in state.values() for key, value in entry.items() if key.startswith("exp_avg")]
    assert len(moments) == 2 * len(before)
    assert {moment.dtype for moment in moments} == {torch.float32}
    moved = sum(int((after[name] != before[name]).sum()) for name in before)
    assert moved / sum(weight.numel() for weight in before.values()) > 0.95
    assert done.validation_before is not None
    assert done.validation_after is not None
    assert done.validation_after < done.validation_before


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_raise_the_margin_of_what_is_liked(tiny_base: Path, tmp_path: Path, method: str) -> None:
    """After a short run the liked answer is likelier beside the other one than before, by a nat or more."""
    from training.fitting.fit import fit

    run = Run(tiny_base, tmp_path, method)
    before = run.margin()
    fit(run.trainer)
    assert run.margin() > before + 1
    assert list(run.model.peft_config) == ["default"]


def test_the_reference_of_preferences_is_the_base_or_the_version_gone_on_from(
    tiny_base: Path, tmp_path: Path
) -> None:
    """A new adapter is measured against the base with no copy kept; a continued one against what it was."""
    import torch

    from training.fitting.fit import fit
    from training.fitting.model import save_adapter

    first = Run(tiny_base, tmp_path / "a", "dpo")
    assert "ref" not in first.model.peft_config
    assert first.trainer.evaluate()["eval_rewards/margins"] == pytest.approx(0, abs=1e-4)
    fit(first.trainer)
    assert first.trainer.evaluate()["eval_rewards/margins"] > 0.1
    folder = tmp_path / "parent"
    folder.mkdir()
    save_adapter(first.model, folder, base_name="tiny", dtype="float32")
    second = Run(tiny_base, tmp_path / "b", "dpo", parent=folder)
    assert second.trainer.evaluate()["eval_rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert {weight.dtype for weight in second.trainable().values()} == {torch.float32}
    assert not any(".ref." in name for name in second.trainable())
    fit(second.trainer)
    assert list(second.model.peft_config) == ["default"]


def test_labels_of_trls_trainers_are_our_answers(tiny_base: Path, tmp_path: Path) -> None:
    """The template is applied once and every answer ends its turn, chosen and rejected alike."""
    run = Run(tiny_base, tmp_path, "dpo")
    batch = next(iter(run.trainer.get_train_dataloader()))
    decode = run.base.tokenizer.decode
    seen = set()
    for ids, answers, mask in zip(
        batch["input_ids"], batch["completion_mask"], batch["attention_mask"], strict=True
    ):
        seen.add(decode(ids[answers == 1].tolist()))
        whole = decode(ids[mask == 1].tolist())
        assert whole.count("<|im_start|>system") == 1
        assert whole.count("<|im_start|>assistant") == 1
    assert seen == {"yes<|im_end|>", "no<|im_end|>"}


def test_labels_of_ratings_are_our_answers_with_what_was_said_of_them(
    tiny_base: Path, tmp_path: Path
) -> None:
    """What is liked and what is not stay apart, every answer ends its turn, and the measuring answer as well.

    That one is another row's, after this row's own prompt.
    """
    run = Run(tiny_base, tmp_path, "kto")
    decode = run.base.tokenizer.decode
    seen: set[tuple[Any, ...]] = set()
    measured: set[tuple[Any, ...]] = set()
    for batch in run.trainer.get_train_dataloader():
        for number, liked in enumerate(batch["label"]):
            prompts = []
            for kind, answers in (("", seen), ("KL_", measured)):
                ids, answer, mask = (
                    batch[f"{kind}{name}"][number]
                    for name in ("input_ids", "completion_mask", "attention_mask")
                )
                answers.add((decode(ids[answer == 1].tolist()), *(() if kind else (bool(liked),))))
                prompts.append(decode(ids[(mask == 1) & (answer == 0)].tolist()))
            assert prompts[0] == prompts[1]
            assert prompts[0].count("<|im_start|>system") == 1
            assert prompts[0].endswith("<|im_start|>assistant\n")
    assert seen == {("yes<|im_end|>", True), ("no<|im_end|>", False)}
    assert measured == {("yes<|im_end|>",), ("no<|im_end|>",)}


@pytest.mark.parametrize("packing", [True, False])
def test_labels_of_texts_are_all_tokens_but_the_first(tiny_base: Path, tmp_path: Path, packing: bool) -> None:
    """Nothing foretells a text's first token; the last is the one that ends texts; no template is there."""
    from training.fitting.loss import IGNORED

    letters = "abcdefgh"
    texts: list[Row] = [Text(letter * (3 + number)) for number, letter in enumerate(letters)]
    run = Run(tiny_base, tmp_path, "domain", texts, packing=packing)
    decode, seen, whole = run.base.tokenizer.decode, "", ""
    for batch in run.trainer.get_train_dataloader():
        assert ("attention_mask" in batch) is not packing
        mask = batch.get("attention_mask", batch["input_ids"] >= 0)
        seen += decode(batch["labels"][batch["labels"] != IGNORED].tolist())
        whole += decode(batch["input_ids"][mask == 1].tolist())
    assert sorted(seen.split("<|im_end|>")[:-1]) == [row.key[1:] for row in texts]
    assert sorted(whole.split("<|im_end|>")[:-1]) == [row.key for row in texts]
    assert "<|im_start|>" not in whole


def test_ratings_measure_with_another_answer_of_their_pass(tiny_base: Path, tmp_path: Path) -> None:
    """Within each pass the answers are rotated by one, and nobody is left alone in a pass."""
    assert tiny_base
    assert tmp_path
    from training.fitting.encoding import EncodedRating
    from training.fitting.preferences import ratings

    rows = [EncodedRating([1], [number], liked=bool(number % 2)) for number in range(9)]
    found = ratings(rows, 4)
    assert [ids[0] for ids in found["KL_completion_ids"]] == [3, 0, 1, 2, 7, 4, 5, 6]
    assert len(found) == 8


def test_ratings_of_one_kind_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    """There is nothing to learn from liking alone; the error says what there is to use instead."""
    liked: list[Row] = [Rated(asked, "yes", liked=True) for asked in ASKED]
    with pytest.raises(DataError, match=r"12 rated answers are liked and 0 are not.*--method sft"):
        Run(tiny_base, tmp_path, "kto", liked)


def test_rows_are_drawn_by_their_weights(tiny_base: Path, tmp_path: Path) -> None:
    """Two tasks in one adapter: a row of weight 3 comes three times as often as one of weight 1."""
    from training.fitting.building import mixed
    from training.fitting.template import Encoded

    assert tiny_base
    assert tmp_path
    rows = [Encoded([1], [2], 1.0)] * 6 + [Encoded([3], [4], 3.0)] * 2
    found = mixed(rows, TrainConfig())
    assert len(found) == 8
    assert sum(row.prompt == [3] for row in found) == 4
    assert mixed(rows[:6], TrainConfig()) == rows[:6]


def test_going_on_starts_where_the_version_before_ended(tiny_base: Path, tmp_path: Path) -> None:
    """The first loss of a continued run is the last one of its parent; another rank is refused."""
    from training.fitting.fit import fit
    from training.fitting.model import save_adapter

    first = Run(tiny_base, tmp_path / "a", "sft")
    done = fit(first.trainer)
    folder = tmp_path / "parent"
    folder.mkdir()
    save_adapter(first.model, folder, base_name="tiny", dtype="float32")
    second = Run(tiny_base, tmp_path / "b", "sft", parent=folder)
    before = fit(second.trainer).validation_before
    assert before == pytest.approx(done.validation_after, rel=1e-3)
    with pytest.raises(ValueError, match="give --rank 4 --alpha 8 --no-rslora"):
        Run(tiny_base, tmp_path / "c", "sft", parent=folder, rank=8)
    with pytest.raises(ValueError, match="without rsLoRA"):
        Run(tiny_base, tmp_path / "c", "sft", parent=folder, rslora=True)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_going_on_drops_what_the_settings_say_and_never_in_the_reference(
    tiny_base: Path, tmp_path: Path, dropout: float
) -> None:
    """Dropout is of a training: the one that the version was trained with says nothing, and is not kept."""
    import torch

    from training.fitting.model import add_lora, load_base, save_adapter

    config = TrainConfig(rank=4, alpha=8, rslora=True, dropout=0.5)
    folder = tmp_path / "parent"
    folder.mkdir()
    first = add_lora(load_base(str(tiny_base)).model, config)
    save_adapter(first, folder, base_name="tiny", dtype="float32")
    second = Run(tiny_base, tmp_path / "b", "dpo", parent=folder, rslora=True, dropout=dropout)
    assert second.model.peft_config["default"].lora_dropout == dropout
    assert second.model.peft_config["default"].use_rslora
    layers = [module for module in second.trainer.model.modules() if hasattr(module, "lora_dropout")]
    assert len(layers) == 2 * 7
    for layer in layers:
        assert getattr(layer.lora_dropout["default"], "p", 0.0) == dropout
        assert isinstance(layer.lora_dropout["ref"], torch.nn.Identity)
        assert layer.scaling["default"] == 8 / 4**0.5
