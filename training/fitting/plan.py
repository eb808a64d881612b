"""How one run goes, decided once: from its rows, its settings and the memory that is free."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from training.config import TrainConfig
from training.fitting.attention import can_be_apart, documents_apart
from training.fitting.encoding import EncodedPair, EncodedRating, EncodedRow
from training.fitting.fast_lora import fast_lora
from training.fitting.memory import Load, Shape, chosen, estimate, load_of, proposal, shape_of
from training.fitting.room import OTHERWISE, DoesNotFit, free_bytes, is_out_of_memory
from training.fitting.template import Encoded


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided. `apart` is whether rows are put end to end, each seeing itself alone.

    `resident` are the bytes of the model's weights, which were there before.
    """

    config: TrainConfig
    shape: Shape
    load: Load
    checkpointing: bool
    unpack: bool
    apart: bool
    resident: int


def plan_of(model: Any, rows: Sequence[EncodedRow], config: TrainConfig) -> Plan:
    """Decide for a model that is loaded already, and for rows that are encoded.

    Raises:
        DoesNotFit: the run takes more than there is, even so. Linux would end it without a word.
    """
    shape = shape_of(model.config.to_dict(), width=model.get_input_embeddings().weight.element_size())
    load = load_of([len(row) for row in rows], [answers_of(row) for row in rows], config)
    # The estimate counts the weights, which are not free any more.
    resident = sum(each.numel() * each.element_size() for each in model.parameters())
    free = free_bytes() + resident
    checkpointing, unpack = chosen(shape, config, load, free_bytes=free)
    if estimate(shape, config, load, checkpointing=checkpointing, unpack=unpack).total > free:
        ran = replace(config, gradient_checkpointing=checkpointing, unpack_base=unpack)
        advice = proposal(shape, ran, load, free_bytes=free)
        raise DoesNotFit(f"{_too_much(advice)}; {OTHERWISE}")
    apart = config.packing and config.method in {"sft", "domain"} and can_be_apart(model, config.max_tokens)
    return Plan(config, shape, load, checkpointing, unpack, apart, resident)


def answers_of(row: EncodedRow) -> int:
    """Return how many tokens of a row have a loss."""
    match row:
        case EncodedPair():
            return max(len(row.chosen), len(row.rejected))
        case Encoded() | EncodedRating():
            return len(row.completion)
    return len(row)


@contextmanager
def at_speed(model: Any, plan: Plan) -> Iterator[None]:
    """Run the model's passes in the ways that are faster and give the same; undone at the block's end."""
    with ExitStack() as stack:
        if not plan.config.full:
            stack.enter_context(fast_lora(model, unpack=plan.unpack))
        if plan.apart:
            stack.enter_context(documents_apart(model))
        yield


@contextmanager
def memory_watched(plan: Plan) -> Iterator[None]:
    """Turn the end of the memory into a proposal.

    Raises:
        DoesNotFit: the memory does not suffice; options with which it does are proposed.
    """
    free = free_bytes() + plan.resident
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        ran = replace(plan.config, gradient_checkpointing=plan.checkpointing, unpack_base=plan.unpack)
        advice = proposal(plan.shape, ran, plan.load, free_bytes=free)
        raise DoesNotFit(_too_much(advice)) from error


def _too_much(advice: str) -> str:
    return f"the memory does not suffice for this run: {advice}"
