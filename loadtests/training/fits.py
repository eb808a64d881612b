"""One training run, measured: ours, or TRL's on the same rows; for `make bench-training`.

    python -m loadtests.training.fits --system turnout --lengths mixed --seed 7 --rows 48

prints one JSON object. Each run is a process of its own, so that its peak memory is its own. The clock stands
still while validation losses are computed, which is done by the same code for every system.

- `turnout`: our recipe `sft`.
- `trl_default`: TRL's SFTTrainer with our learning rate, schedule, clipping, batches, LoRA settings, float32
  LoRA weights with products in our precision, and no gradient checkpointing: what is left is how the passes
  are made.
- `trl_plain`: TRL's SFTTrainer as it comes, for as many steps. Where ours computes in float32, because the
  CPU has no bfloat16 products, so does this, LoRA weights included: TRL's bfloat16 would measure how slowly
  they are emulated.
- `turnout_lean`: ours with 4-bit weights unpacked in every pass and with gradient checkpoints, as on a GPU
  with little memory.

With `--shape 8b` the base model has random weights of that shape (`loadtests.training.shapes`) and the rows
are longer: for a GPU.
"""

import argparse
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from loadtests.common.machine import peak_mb

System = Literal["turnout", "trl_default", "trl_plain", "turnout_lean"]
SYSTEMS: tuple[System, ...] = ("turnout", "trl_default", "trl_plain")
LEAN: System = "turnout_lean"
PARTS = 3
"""Validations in a run, the first before it and the last after it not counted."""
BATCH = 8
"""Rows in a pass of a validation."""


@dataclass
class Measured:
    """What one run gave. `curve` has (training seconds, validation loss) pairs.

    `peak_gpu_mb` is what torch had allocated on the GPU at most, while training; 0 without one.
    """

    system: str
    lengths: str
    seed: int
    tokens: int
    seconds: float = 0.0
    peak_rss_mb: float = 0.0
    peak_gpu_mb: float = 0.0
    validation_loss: float = math.nan
    curve: list[tuple[float, float]] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Non-padding tokens trained on, by the seconds of training alone."""
        return self.tokens / self.seconds


def seconds_to(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """Return the training seconds after which the validation loss was first at the target, or None.

    Between two validations the loss is taken to fall in a straight line.
    """
    before: tuple[float, float] | None = None
    for seconds, loss in curve:
        if loss <= target:
            if before is None or before[1] <= loss:
                return seconds
            share = (before[1] - target) / (before[1] - loss)
            return before[0] + share * (seconds - before[0])
        before = (seconds, loss)
    return None


def measure(system: System, lengths: str, *, seed: int, rows: int, shape: str | None = None) -> Measured:
    """Run one system in a process of its own and return what it gave."""
    command = [
        *(sys.executable, "-m", "loadtests.training.fits", "--system", system, "--lengths", lengths),
        *("--seed", str(seed), "--rows", str(rows)),
        *(("--shape", shape) if shape else ()),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Measured(**{**found, "curve": [tuple(pair) for pair in found["curve"]]})


class Clock:
    """Measures training alone: it stands still while a validation runs.

    `settle` waits until what was asked of the device is done.
    """

    def __init__(
        self,
        validate: Callable[[], float],
        every: int,
        measured: Measured,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._validate = validate
        self._every = every
        self._measured = measured
        self._settle = settle
        self._started = 0.0

    def begin(self) -> None:
        """Validate, then let the clock run."""
        self._measured.curve.append((0.0, self._validate()))
        self._settle()
        self._started = time.perf_counter()

    def step(self, step: int, steps: int) -> None:
        """Count a step; every so often, and after the last, validate while the clock stands still."""
        if step % self._every and step != steps:
            return
        self._settle()
        self._measured.seconds += time.perf_counter() - self._started
        loss = self._validate()
        self._measured.curve.append((self._measured.seconds, loss))
        self._measured.validation_loss = loss
        self._settle()
        self._started = time.perf_counter()


@dataclass(frozen=True)
class Bed:
    """What a system is run on. `every` are the steps between validations."""

    base: Any
    train: Sequence[Any]
    held_out: Sequence[Any]
    config: Any
    measured: Measured
    every: int
    scratch: Path


def _run(system: System, lengths: Any, *, seed: int, count: int, quantization: Any, shape: Any) -> Measured:
    import torch  # noqa: PLC0415 - seconds

    from loadtests.training.rows import LARGE, SMALL, prepared, rows  # noqa: PLC0415
    from training.fitting.recipes import sft  # noqa: PLC0415

    lean: dict[str, Any] = {"gradient_checkpointing": True, "unpack_base": False} if system == LEAN else {}
    config = sft(epochs=1.0, seed=seed, patience=0, quantization=quantization, **lean)
    base = _base(shape, quantization)
    sizes = LARGE if shape == "8b" else SMALL
    train, held_out = rows(prepared(base.tokenizer, base.stop_ids), lengths, count, sizes)
    measured = Measured(system, lengths, seed, sum(map(len, train)))
    steps = math.ceil(len(train) / config.batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        bed = Bed(base, train, held_out, config, measured, max(1, steps // PARTS), Path(scratch))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        if system in {"turnout", LEAN}:
            _ours(bed)
        else:
            _trls(bed, ours=system == "trl_default")
    measured.peak_rss_mb = peak_mb()
    if torch.cuda.is_available():
        measured.peak_gpu_mb = torch.cuda.max_memory_allocated() / 2**20
    return measured


def _base(shape: Any, quantization: Any) -> Any:
    from adapters.base import DEFAULT, folder_of  # noqa: PLC0415
    from loadtests.training.shapes import random_base  # noqa: PLC0415
    from training.fitting.model import load_base  # noqa: PLC0415 - imports torch

    if shape is not None:
        return random_base(shape)
    return load_base(str(folder_of(DEFAULT)), quantization=quantization)


def _clock(bed: Bed, model: Any) -> Clock:
    import torch  # noqa: PLC0415

    settle = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    return Clock(lambda: validation_loss(model, bed.held_out), bed.every, bed.measured, settle)


def validation_loss(model: Any, held_out: Sequence[Any]) -> float:
    """Return the mean nats per answer token by the model's own forward pass, in batches of like length.

    Rows are padded on the right, and no token sees a later one, so padding needs no mask. Attention is
    transformers' own for every system; 4-bit weights are unpacked once, where the system keeps them packed.
    """
    import torch  # noqa: PLC0415

    from training.fitting.unpacking import unpacked_while_judged  # noqa: PLC0415

    config, was_training = model.config.get_text_config(), model.training
    attention = config._attn_implementation  # noqa: SLF001 - transformers has no public name
    config._attn_implementation = "sdpa"  # noqa: SLF001
    model.eval()
    ordered = sorted(held_out, key=len)
    total, count = 0.0, 0
    try:
        with torch.no_grad(), unpacked_while_judged(model):
            for start in range(0, len(ordered), BATCH):
                nats, tokens = _answers_nats(model, ordered[start : start + BATCH])
                total, count = total + nats, count + tokens
    finally:
        config._attn_implementation = attention  # noqa: SLF001
        model.train(was_training)
    return total / count


def _answers_nats(model: Any, rows: Sequence[Any]) -> tuple[float, int]:
    import torch  # noqa: PLC0415

    longest = max(map(len, rows))
    padded = [row.prompt + row.completion + [0] * (longest - len(row)) for row in rows]
    spans = [range(len(row.prompt) - 1, len(row) - 1) for row in rows]
    kept = sorted({position for span in spans for position in span})
    ids = torch.tensor(padded, device=model.device)
    positions = torch.tensor(kept, device=model.device)
    logits = model(input_ids=ids, logits_to_keep=positions, use_cache=False).logits
    total = 0.0
    for row, span, one in zip(rows, spans, logits, strict=True):
        said = one[[kept.index(position) for position in span]].float()
        answer = torch.tensor(row.completion, device=model.device)
        total += float(torch.nn.functional.cross_entropy(said, answer, reduction="sum"))
    return total, sum(map(len, spans))


def _ours(bed: Bed) -> None:
    from loadtests.training.rows import prepared  # noqa: PLC0415
    from training.fitting.fit import build_trainer  # noqa: PLC0415
    from training.fitting.model import add_lora  # noqa: PLC0415
    from training.fitting.plan import at_speed  # noqa: PLC0415

    model = add_lora(bed.base.model, bed.config)
    clock = _clock(bed, model)
    trainer = build_trainer(
        model,
        bed.train,
        [],
        bed.config,
        template=prepared(bed.base.tokenizer, bed.base.stop_ids),
        scratch=bed.scratch,
        on_step=lambda step, steps, _: clock.step(step, steps),
        checkpoints=False,
    )
    clock.begin()  # before the weights are unpacked: that is part of what it costs
    with at_speed(model, trainer.plan):
        trainer.train()


def _trls(bed: Bed, *, ours: bool) -> None:
    from datasets import Dataset  # noqa: PLC0415
    from peft import LoraConfig  # noqa: PLC0415
    from transformers import PrinterCallback, TrainerCallback  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    from training.fitting.model import to_float32  # noqa: PLC0415

    config, cpu = bed.config, bed.base.model.device.type == "cpu"
    shared = {
        "output_dir": str(bed.scratch),
        "per_device_train_batch_size": config.batch_size,
        "num_train_epochs": 1,
        "seed": config.seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": cpu,
        "dataloader_pin_memory": not cpu,
        "bf16": bed.base.compute_dtype == "bfloat16",
    }
    if ours:
        steps = math.ceil(len(bed.train) / config.batch_size)
        shared |= {
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": config.schedule,
            "warmup_steps": math.ceil(steps * config.warmup_share),
            "max_grad_norm": config.max_grad_norm,
            "gradient_checkpointing": False,
            "logging_steps": 1,
        }
    rows = Dataset.from_dict(
        {
            "input_ids": [row.prompt + row.completion for row in bed.train],
            "labels": [[-100] * len(row.prompt) + row.completion for row in bed.train],
        }
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
    )

    class Told(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            clock.step(state.global_step, state.max_steps)

    trainer = SFTTrainer(
        model=bed.base.model,
        args=SFTConfig(**shared),
        train_dataset=rows,
        processing_class=bed.base.tokenizer,
        peft_config=lora,
        callbacks=[Told()],
    )
    trainer.remove_callback(PrinterCallback)
    if ours or bed.base.compute_dtype == "float32":
        to_float32(trainer.model)
    clock = _clock(bed, trainer.model)
    clock.begin()
    trainer.train()


def main() -> int:
    """Run one system and print what it gave."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", choices=(*SYSTEMS, LEAN), required=True)
    parser.add_argument("--lengths", choices=("mixed", "equal"), default="mixed")
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--shape", choices=("8b", "tiny"), help="a base of this shape with random weights")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rows", type=int, default=48)
    given = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    found = _run(
        given.system,
        given.lengths,
        seed=given.seed,
        count=given.rows,
        quantization=given.quantization,
        shape=given.shape,
    )
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
