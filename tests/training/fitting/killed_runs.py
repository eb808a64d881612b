"""Runs that are really killed, for `test_resume`: each in a process of its own, forked after the imports.

`python -m tests.training.fitting.killed_runs BASE FOLDER RUNS`, where RUNS is a JSON list of objects with the
fields of `Planned`. A run that ends leaves NAME.safetensors and NAME.json in FOLDER; the exit codes are
printed as a JSON list.
"""

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from training.config import Schedule
from training.data.rows import Example, Preference, Rated, Row, Text
from training.fitting import checkpoints
from training.fitting.encoding import encode
from training.fitting.fit import build_trainer, fit
from training.fitting.model import add_lora, load_base, save_adapter
from training.fitting.recipes import RECIPES
from training.fitting.template import Template


@dataclass(frozen=True)
class Planned:
    """One run: which method, where its checkpoints lie, and when it dies.

    "step", "writing" and "putting" are at the step `die_at`; "trained" is after the last one. With `goes_on`
    it begins with a version's weights. With `worsens` the step is added to each validation's loss: whether a
    model as small as this gets better or worse is up to the machine's arithmetic.
    """

    name: str
    method: str
    scratch: str
    resume: bool = False
    die_at: int = 0
    die_when: str = "step"
    packing: bool = True
    epochs: float = 2.0
    patience: int = 9
    learning_rate: float = 5e-3
    schedule: Schedule = "cosine"
    goes_on: bool = False
    worsens: bool = False


def rows_for(method: str) -> list[Row]:
    """Return rows whose lengths differ."""
    asked = [({"role": "user", "content": f"{'ab'[number % 2] * (1 + number % 5)}"},) for number in range(24)]
    if method == "dpo":
        return [Preference(messages, "yes", "no") for messages in asked]
    if method == "kto":
        both = enumerate(asked)
        return [Rated(messages, ("yes", "no")[n % 3 == 0], liked=n % 3 > 0) for n, messages in both]
    if method == "domain":  # of more than half a row each, so that there are as many rows as texts
        return [Text(f"{number:02} " + "ab"[number % 2] * (40 + number % 5)) for number in range(24)]
    return [Example(messages, "ab"[number % 2] * (1 + number % 3)) for number, messages in enumerate(asked)]


def die() -> None:
    """End this process as nothing can be caught."""
    os.kill(os.getpid(), signal.SIGKILL)


def version(base: str, folder: Path) -> Path:
    """Return a version to go on from, made when it is first asked for."""
    made = folder / "version"
    if not made.exists():
        made.mkdir()
        model = add_lora(load_base(base).model, RECIPES["sft"](rank=4))
        torch.manual_seed(2)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn_like(weight), alpha=0.05)
        save_adapter(model, made, base_name="tiny", dtype="bfloat16")
    return made


def worsen(trainer: Any) -> None:
    """Add the step to each validation's loss."""
    plain = trainer._nats

    def worse(*given: Any) -> tuple[Any, int]:
        nats, tokens = plain(*given)
        return nats + tokens * trainer.state.global_step, tokens

    trainer._nats = worse


def run(base: str, folder: Path, planned: Planned) -> None:
    """Train; die where it is planned."""
    torch.set_num_threads(1)
    config = RECIPES[planned.method](
        rank=4,
        epochs=planned.epochs,
        batch_size=4,
        accumulation=2,
        learning_rate=planned.learning_rate,
        schedule=planned.schedule,
        dropout=0.1,
        eval_steps=3,
        patience=planned.patience,
        packing=planned.packing,
        max_tokens=72,
        parent=version(base, folder) if planned.goes_on else None,
    )
    loaded = load_base(base)
    template = Template(loaded.tokenizer, loaded.stop_ids)
    rows, _ = encode(template, rows_for(planned.method), config, max_position=512)
    model = add_lora(loaded.model, config)

    def on_step(step: int, _steps: int, _loss: float | None) -> None:
        if planned.die_when == "step" and step == planned.die_at:
            die()

    trainer = build_trainer(
        model,
        rows[4:],
        rows[:4],
        config,
        template=template,
        scratch=folder / planned.scratch,
        on_step=on_step,
    )
    plain: dict[str, Any] = {
        "writing": trainer._save_rng_state,
        "putting": checkpoints._put,
        "trained": trainer.train,
    }

    def dying(*given: Any) -> None:
        if trainer.state.global_step == planned.die_at:
            die()
        plain[planned.die_when](*given)

    if planned.die_when == "writing":  # the weights and the optimizer are written, the rest is not
        trainer._save_rng_state = dying
    elif planned.die_when == "putting":
        checkpoints._put = dying
    elif planned.die_when == "trained":

        def train(**given: Any) -> None:
            plain["trained"](**given)
            die()

        trainer.train = train
    if planned.worsens:
        worsen(trainer)
    done = fit(trainer, resume=planned.resume)
    weights = {
        name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad
    }
    save_file(weights, folder / f"{planned.name}.safetensors")
    told = {name: value for name, value in asdict(done).items() if name not in {"seconds", "loss"}}
    (folder / f"{planned.name}.json").write_text(json.dumps(told), encoding="utf-8")


def main() -> None:
    """Run all that is planned, one after the other."""
    base, folder, runs = sys.argv[1:]
    codes = []
    for fields in json.loads(runs):
        child = os.fork()
        if child == 0:
            run(base, Path(folder), Planned(**fields))
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(codes))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
