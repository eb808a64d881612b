"""Memory that does not suffice: how it is noticed, and how work goes on in smaller pieces."""

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psutil
import torch

from adapters.machine import free_memory
from training.fitting.memory import base_advice, shape_of
from training.fitting.world import local_world

Found = TypeVar("Found")

ALLOWED = "TURNOUT_MEMORY_GIB"
"""The environment variable with the GiB that a process may take in all, whatever seems to be free."""

OTHERWISE = f"if that is wrong, {ALLOWED} says what may be taken"
"""What is said of a refusal that rests on an estimate."""


class DoesNotFit(ValueError):
    """The work takes more memory than there is; the message proposes what to do."""


def free_bytes() -> int:
    """Return the bytes that may be taken: of the GPU when there is one, of this machine otherwise.

    What torch holds of a GPU for later tensors, and no tensor has now, is free. Processes that share a
    machine's memory share what is left of it. Where TURNOUT_MEMORY_GIB is set, it counts in place of what was
    measured: what this process has taken already goes off it.

    Raises:
        ValueError: TURNOUT_MEMORY_GIB is no number above 0.
    """
    if allowed := os.environ.get(ALLOWED):
        return max(0, _in_bytes(allowed) - _taken())
    if torch.cuda.is_available():
        held = int(torch.cuda.memory_reserved()) - int(torch.cuda.memory_allocated())
        return int(torch.cuda.mem_get_info()[0]) + held
    return free_memory() // local_world()


def _in_bytes(gibibytes: str) -> int:
    try:
        found = float(gibibytes)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ValueError(f"{ALLOWED} is {gibibytes!r}; it must be a number of GiB above 0")
    return int(found * 2**30)


def _taken() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.memory_allocated())
    return int(psutil.Process().memory_info().rss)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a GPU or not."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)


@contextmanager
def base_fits(config: Any, *, packed: bool, full: bool, width: int) -> Iterator[None]:
    """Load a base model within the block, and only when its weights fit.

    `config` is the model's own, `width` the bytes of a number that it computes with. Linux ends a process
    that takes more than there is without a word, so it is asked before. Of a model whose config does not say
    its shape as decoders' do, nothing is known before.

    Raises:
        DoesNotFit: the weights alone take more than is free.
    """
    free = free_bytes()
    try:
        shape = shape_of(config.to_dict(), width=width)
    except (KeyError, TypeError):
        shape = None
    advice = None if shape is None else base_advice(shape, packed=packed, full=full, free_bytes=free)
    if advice is not None:
        raise DoesNotFit(f"the memory does not suffice for the base model: {advice}; {OTHERWISE}")
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DoesNotFit(
            "the memory does not suffice to load the base model: free memory"
            f"{'' if packed or full else ', add --quantization nf4'} or take a smaller one "
            f"({free / 1e9:.1f} GB were free)"
        ) from error


def in_parts(
    ask: Callable[[Sequence[int]], Sequence[Found]], places: Sequence[int], *, longest: int
) -> list[Found]:
    """Ask for the rows at `places` at once; where the memory does not suffice, for the halves one by one.

    The answers are in the order of the places. `longest` is the most tokens of a row.

    Raises:
        DoesNotFit: it does not suffice for one row.
    """
    try:
        return list(ask(places))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(places) == 1:
            raise DoesNotFit(
                f"the memory does not suffice to judge one row of up to {longest} tokens: free memory, leave "
                f"long rows out, or take a smaller base model ({free_bytes() / 1e9:.1f} GB are free)"
            ) from error
    # Out of the handler: while an error is held, so are the tensors of the frames that it came through.
    _let_go()
    half = len(places) // 2
    return [
        *in_parts(ask, places[:half], longest=longest),
        *in_parts(ask, places[half:], longest=longest),
    ]


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
