"""How one run goes, decided once: from its rows, its settings and the memory that is free."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from adapters.machine import free_memory
from training.config import TrainConfig
from training.fitting.attention import can_be_apart, documents_apart
from training.fitting.encoding import EncodedPair, EncodedRating, EncodedRow
from training.fitting.fast_lora import fast_lora
from training.fitting.memory import Load, Shape, chosen, load_of, proposal, shape_of
from training.fitting.template import Encoded


class DoesNotFit(ValueError):
    """The run takes more memory than there is; the message proposes options with which it fits."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided. `apart` is whether rows are put end to end, each seeing itself alone."""

    config: TrainConfig
    shape: Shape
    load: Load
    checkpointing: bool
    unpack: bool
    apart: bool


def plan_of(model: Any, rows: Sequence[EncodedRow], config: TrainConfig) -> Plan:
    """Decide for a model that is loaded already, and for rows that are encoded."""
    shape = shape_of(model.config.to_dict(), width=model.get_input_embeddings().weight.element_size())
    load = load_of([len(row) for row in rows], [answers_of(row) for row in rows], config)
    # The estimate counts the weights, which are not free any more.
    resident = sum(each.numel() * each.element_size() for each in model.parameters())
    checkpointing, unpack = chosen(shape, config, load, free_bytes=free_bytes() + resident)
    apart = config.packing and config.method in {"sft", "domain"} and can_be_apart(model, config.max_tokens)
    return Plan(config, shape, load, checkpointing, unpack, apart)


def answers_of(row: EncodedRow) -> int:
    """Return how many tokens of a row have a loss."""
    match row:
        case EncodedPair():
            return max(len(row.chosen), len(row.rejected))
        case Encoded() | EncodedRating():
            return len(row.completion)
    return len(row)


def free_bytes() -> int:
    """Return the bytes that a run may take: of the GPU when there is one, of this machine otherwise."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return free_memory()


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
    free = free_bytes()
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        ran = replace(plan.config, gradient_checkpointing=plan.checkpointing, unpack_base=plan.unpack)
        advice = proposal(plan.shape, ran, plan.load, free_bytes=free)
        raise DoesNotFit(f"the memory does not suffice for this run: {advice}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a GPU or not."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)
