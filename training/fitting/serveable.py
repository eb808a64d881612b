"""What the fleet can't serve is refused before training starts, with the reason and what to use instead."""

from adapters.peft_config import UnservableAdapter
from training.config import ALL_LINEAR, TrainConfig

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


def refuse(config: TrainConfig, *, max_rank: int) -> None:
    """Raise for what a fleet that serves LoRA up to `max_rank` could not serve once it is trained.

    Full fine-tuning gives a base model, to which this does not apply. The target modules of a version that is
    gone on from are those that the fleet has taken already.

    Raises:
        UnservableAdapter: a ValueError that names the reason and what to use instead.
    """
    refuse_kind(config.adapter)
    if config.full:
        return
    if config.rank > max_rank:
        raise UnservableAdapter(
            f"--rank {config.rank} is above the {max_rank} that the fleet serves; take a smaller one, or "
            "raise engine.max_lora_rank and --max-rank"
        )
    if config.parent is None and config.target_modules != ALL_LINEAR:
        targets = config.target_modules
        _refuse_tables((targets,) if isinstance(targets, str) else targets)


def refuse_kind(adapter: str) -> None:
    """Raise for a kind of adapter that is not trained here, since no engine would serve it.

    Raises:
        UnservableAdapter: a ValueError that names the reason and what to use instead.
    """
    if adapter in _INSTEAD:
        raise UnservableAdapter(f"--adapter {adapter}: {_INSTEAD[adapter]}")


def _refuse_tables(targets: tuple[str, ...]) -> None:
    for target in targets:
        if target.rsplit(".", 1)[-1] in _TABLES:
            raise UnservableAdapter(
                f"the target {target!r} is a table of the vocabulary, which not every engine serves with "
                "LoRA and which the loss here passes by; leave it out, or use all-linear"
            )
