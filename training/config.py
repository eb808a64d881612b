"""The settings of one training run, checked where they are made."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

SaveDtype = Literal["bfloat16", "float16", "float32"]
DTYPES: tuple[SaveDtype, ...] = get_args(SaveDtype)
Method = Literal["sft", "kto", "dpo", "domain"]
METHODS: tuple[Method, ...] = get_args(Method)
Quantization = Literal["nf4", "none"]
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
Schedule = Literal["cosine", "linear", "constant_with_warmup"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
Choice = bool | Literal["auto"]
Adapter = Literal["lora", "dora", "pissa", "adalora", "ia3", "prompt-tuning", "prefix-tuning", "p-tuning"]
ADAPTERS: tuple[Adapter, ...] = get_args(Adapter)
ALL_LINEAR = "all-linear"
MAX_RANK = 16
"""The default of `engine.max_lora_rank`: an adapter above it is refused by the fleet."""

MAX_ANSWER_TOKENS = 512
"""The longest answer that evaluation waits for, unless a job sets another."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How one adapter is trained. Lengths are tokens, shares are between 0 and 1.

    The defaults follow "LoRA Without Regret" (Thinking Machines, 2025): every linear layer, a learning
    rate about ten times that of full fine-tuning, small batches. `training.fitting.recipes` has one set of
    settings for each method, and docs/training.md says where each comes from.

    - `batch_size` is the rows in one optimizer step, over all processes; `accumulation` the number of
      passes that they are spread over when they do not fit into memory at once.
    - `packing` puts rows end to end, without padding and without seeing each other; for texts it also
      fills every row up to `max_tokens`.
    - `gradient_checkpointing` and `unpack_base` may be "auto": the first only when the estimate of memory
      asks for it, the second (4-bit weights are unpacked once instead of in every pass) when there is room.
    - `eval_steps` are the steps between validations; 0 is about ten in a run where `patience` is set and
      none where it is not. `patience` validations without a better loss end the run; 0 never does.
    - `beta` is how strongly `dpo` and `kto` hold on to the reference.
    - `adapter` is "lora"; the other names are known so that `training.fitting.serveable` can say why vLLM
      does not serve them and what to use instead.
    - `full` trains every weight of the base model and gives a base model, not an adapter.
    - `parent` is the folder of an adapter to go on from; by default every version starts from the base.

    Raises:
        ValueError: a value is out of range; the message names the option.
    """

    epochs: float = 3.0
    learning_rate: float = 5e-4
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    batch_size: int = 8
    warmup_share: float = 0.05
    max_tokens: int = 1024
    seed: int = 7
    dtype: SaveDtype = "bfloat16"
    method: Method = "sft"
    quantization: Quantization = "nf4"
    rslora: bool = False
    target_modules: str | tuple[str, ...] = ALL_LINEAR
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    accumulation: int = 1
    packing: bool = True
    gradient_checkpointing: Choice = "auto"
    unpack_base: Choice = "auto"
    eval_steps: int = 0
    patience: int = 0
    beta: float = 0.1
    adapter: Adapter = "lora"
    full: bool = False
    parent: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be trained or served."""
        _require(0 < self.epochs <= 1000, "--epochs", self.epochs, "above 0 and at most 1000")
        _require(0 < self.learning_rate < 1, "--learning-rate", self.learning_rate, "between 0 and 1")
        _require(1 <= self.rank <= 512, "--rank", self.rank, "between 1 and 512")
        _require(self.alpha > 0, "--alpha", self.alpha, "above 0")
        _require(0 <= self.dropout < 1, "--dropout", self.dropout, "at least 0 and below 1")
        _require(1 <= self.batch_size <= 4096, "--batch-size", self.batch_size, "between 1 and 4096")
        _require(0 <= self.warmup_share < 1, "--warmup-share", self.warmup_share, "at least 0 and below 1")
        _require(self.max_tokens >= 8, "--max-tokens", self.max_tokens, "at least 8")
        _require(0 <= self.seed < 2**32, "--seed", self.seed, "between 0 and 4294967295")
        _require_one_of("--dtype", self.dtype, DTYPES)
        _require_one_of("--method", self.method, METHODS)
        _require_one_of("--quantization", self.quantization, QUANTIZATIONS)
        _require_one_of("--schedule", self.schedule, SCHEDULES)
        _require_one_of("--adapter", self.adapter, ADAPTERS)
        _require(0 <= self.weight_decay < 1, "--weight-decay", self.weight_decay, "at least 0 and below 1")
        _require(self.max_grad_norm > 0, "--max-grad-norm", self.max_grad_norm, "above 0")
        _require(
            self.accumulation >= 1 and self.batch_size % self.accumulation == 0,
            "--accumulation", self.accumulation, f"a divisor of the batch size {self.batch_size}",
        )  # fmt: skip
        for option, choice in (
            ("--gradient-checkpointing", self.gradient_checkpointing),
            ("--unpack-base", self.unpack_base),
        ):
            _require_one_of(option, choice, (True, False, "auto"))
        _require(self.eval_steps >= 0, "--eval-steps", self.eval_steps, "at least 0")
        _require(self.patience >= 0, "--patience", self.patience, "at least 0")
        _require(self.beta > 0, "--beta", self.beta, "above 0")
        _require(bool(self.target_modules), "--target-modules", self.target_modules, "at least one name")
        self._require_fitting_together()

    def _require_fitting_together(self) -> None:
        """Refuse settings that exclude each other."""
        rows = self.batch_size // self.accumulation
        if self.method == "kto":
            # Its reference point comes from answers exchanged within a pass (Ethayarajh and others, 2024).
            _require(rows >= 2, "--batch-size", self.batch_size, "two rows or more in a pass for kto")
        if not self.full:
            return
        if self.quantization != "none":
            raise ValueError("--full trains every weight, and 4-bit ones can't be; add --quantization none")
        if self.parent is not None:
            raise ValueError("--full gives a base model and can't go on from the adapter of --from")
        if self.method in {"dpo", "kto"}:
            raise ValueError(
                f"--full with --method {self.method} would need a second copy of the model as its reference; "
                "train an adapter, or use sft"
            )

    def document(self) -> dict[str, Any]:
        """Return the settings as JSON values, with what is fixed named too."""
        targets = self.target_modules
        return {
            **asdict(self),
            "target_modules": targets if isinstance(targets, str) else list(targets),
            "parent": None if self.parent is None else self.parent.name,
            "optimizer": "adamw",
            "base_quantization": "none" if self.quantization == "none" else "bitsandbytes nf4",
            "adapter_dtype_in_training": None if self.full else "float32",
            "loss_on": {"sft": "completion", "domain": "every token"}.get(self.method, "answers"),
        }


def _require(holds: bool, option: str, value: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{option} is {value}, and must be {wanted}")


def _require_one_of(option: str, value: object, allowed: tuple[object, ...]) -> None:
    _require(value in allowed, option, value, f"one of {', '.join(map(str, allowed))}")
