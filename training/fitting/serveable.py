"""What the fleet can't serve is refused before training starts, with the reason and what to use instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.peft_config import LoraConfig, UnservableAdapter, judge
from training.config import ALL_LINEAR, MAX_RANK, TrainConfig


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """What a fleet's engines serve. `targets` are the modules' last names; None: every linear layer."""

    max_rank: int = MAX_RANK
    quantization: str = "nf4"
    targets: frozenset[str] | None = None


_INSTEAD = {
    "dora": (
        "vLLM does not serve DoRA adapters (nor will it on quantized layers: vLLM pull request 47395); use "
        "--adapter lora, with --rslora at high ranks"
    ),
    "pissa": (
        "PiSSA changes the base model's weights at its start, which 4-bit weights can't follow, and an "
        "engine would serve it on the unchanged base; use --adapter lora"
    ),
    "adalora": (
        "vLLM does not serve AdaLoRA; use --adapter lora, and let `turnout train --search` find the rank"
    ),
    "ia3": "vLLM does not serve (IA)³; use --adapter lora at rank 1, which is as small",
    "prompt-tuning": (
        "vLLM does not serve prompt tuning; put the prompt into the request, or use --adapter lora"
    ),
    "prefix-tuning": (
        "vLLM does not serve prefix tuning; put the prefix into the prompt, or use --adapter lora"
    ),
    "p-tuning": "vLLM does not serve p-tuning; put the prompt into the request, or use --adapter lora",
}
_TABLES = frozenset({"lm_head", "embed_tokens", "wte", "embed_in", "embed_out"})


def refuse(subject: TrainConfig | Mapping[str, Any], fleet: FleetLimits) -> None:
    """Raise for what the fleet could not serve once it is trained.

    `subject` is the settings of a run, or the fields of PEFT's `adapter_config.json`. Full fine-tuning gives
    a base model, to which these limits do not apply.

    Raises:
        UnservableAdapter: a ValueError that names the reason and what to use instead.
    """
    if not isinstance(subject, TrainConfig):
        _refuse_document(judge(subject), subject, fleet)
        return
    refuse_kind(subject.adapter)
    if subject.full:
        return
    _refuse_rank(subject.rank, "--rank", fleet)
    if subject.target_modules != ALL_LINEAR:
        targets = subject.target_modules
        _refuse_targets((targets,) if isinstance(targets, str) else targets, fleet)


def refuse_kind(adapter: str) -> None:
    """Raise for a kind of adapter that is not trained here, since no engine would serve it.

    Raises:
        UnservableAdapter: a ValueError that names the reason and what to use instead.
    """
    if adapter in _INSTEAD:
        raise UnservableAdapter(f"--adapter {adapter}: {_INSTEAD[adapter]}")


def _refuse_document(config: LoraConfig, document: Mapping[str, Any], fleet: FleetLimits) -> None:
    init = document.get("init_lora_weights", True)
    if isinstance(init, str) and init.startswith("pissa") and fleet.quantization != "none":
        raise UnservableAdapter(f"init_lora_weights={init!r}: {_INSTEAD['pissa']}")
    _refuse_rank(config.highest_rank, "the rank", fleet)
    if config.target_modules != (ALL_LINEAR,):
        _refuse_targets(config.target_modules, fleet)


def _refuse_rank(rank: int, what: str, fleet: FleetLimits) -> None:
    if rank > fleet.max_rank:
        raise UnservableAdapter(
            f"{what} {rank} is above the {fleet.max_rank} that the fleet serves; take a smaller one, or "
            "raise engine.max_lora_rank and --max-rank"
        )


def _refuse_targets(targets: tuple[str, ...], fleet: FleetLimits) -> None:
    for target in targets:
        last = target.rsplit(".", 1)[-1]
        if last in _TABLES:
            raise UnservableAdapter(
                f"the target {target!r} is a table of the vocabulary, which not every engine serves with "
                "LoRA and which the loss here passes by; leave it out, or use all-linear"
            )
        if fleet.targets is not None and last not in fleet.targets:
            raise UnservableAdapter(
                f"the target {target!r} is not served by the fleet; it serves LoRA on "
                f"{', '.join(sorted(fleet.targets))}"
            )
