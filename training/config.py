"""The settings of one training run, checked where they are made."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

SaveDtype = Literal["bfloat16", "float16", "float32"]
DTYPES: tuple[SaveDtype, ...] = ("bfloat16", "float16", "float32")
MAX_RANK = 16
"""The default of `engine.max_lora_rank`: an adapter above it is refused by the fleet."""

MAX_ANSWER_TOKENS = 512
"""The longest answer that evaluation waits for, unless a job sets another."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How one adapter is trained. Lengths are tokens, shares are between 0 and 1.

    The defaults follow "LoRA Without Regret" (Thinking Machines, 2025): every linear layer, a learning
    rate about ten times that of full fine-tuning, small batches.

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
        _require(self.dtype in DTYPES, "--dtype", self.dtype, f"one of {', '.join(DTYPES)}")

    def document(self) -> dict[str, Any]:
        """Return the settings as JSON values, with what is fixed named too."""
        return {
            **asdict(self),
            "target_modules": "all-linear",
            "optimizer": "adamw",
            "schedule": "cosine",
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "base_quantization": "bitsandbytes nf4, bfloat16 compute",
            "adapter_dtype_in_training": "float32",
            "loss_on": "completion",
        }


def _require(holds: bool, option: str, value: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{option} is {value}, and must be {wanted}")
