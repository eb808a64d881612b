"""Read a safetensors file without any library: its header, and whether every number in it is finite.

The format (https://github.com/huggingface/safetensors#format): an 8-byte little-endian header length, a
JSON header, then the tensors back to back. Nothing here is ever executed or unpickled, and no more than a
block of the file is in memory.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Above this no header of an adapter is read; 420 tensors take 60 KB."""

BLOCK_BYTES = 64 * 1024
PAUSE_S = 50e-6
"""After each block another thread may run: a gateway's event loop shares the interpreter with this."""


class BrokenTensors(ValueError):
    """The file is no whole safetensors file; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Float:
    """A number format: bytes per number, and the bits that are all set in NaN and infinity alone."""

    width: int
    exponent: int

    @property
    def tops(self) -> tuple[bytes, ...]:
        """The values of the highest byte that such a number can have."""
        top = self.exponent >> 8 * (self.width - 1)
        return tuple(bytes([value]) for value in range(256) if value & top == top)


FLOATS: Mapping[str, Float] = MappingProxyType(
    {
        "F64": Float(8, 0x7FF0_0000_0000_0000),
        "F32": Float(4, 0x7F80_0000),
        "F16": Float(2, 0x7C00),
        "BF16": Float(2, 0x7F80),
        "F8_E5M2": Float(1, 0x7C),
        "F8_E4M3": Float(1, 0x7F),  # has no infinity, and one NaN of either sign
    }
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the header. `start` and `stop` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What a header says. `data_start` is where the tensors begin in the file."""

    tensors: Mapping[str, Tensor]
    data_start: int


def read_layout(path: Path, *, dtypes: Mapping[str, int] | None = None) -> Layout:
    """Read and check the header of a safetensors file.

    `dtypes` are the types that may occur, with their bytes per number; the floating ones by default.

    Raises:
        BrokenTensors: the file is truncated, not of the format, or its tensors overlap or leave gaps.
        OSError: it can't be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise BrokenTensors(f"is truncated or no safetensors file ({size} bytes)")
        if length > MAX_HEADER_BYTES:
            raise BrokenTensors(f"has a header of {length} bytes; no adapter needs over {MAX_HEADER_BYTES}")
        header = _parse(file.read(length))
    header.pop("__metadata__", None)
    widths = dtypes or {name: kind.width for name, kind in FLOATS.items()}
    tensors = {name: _entry(name, entry, widths) for name, entry in header.items()}
    _require_whole(tensors, size - 8 - length)
    return Layout(MappingProxyType(tensors), 8 + length)


def first_not_finite(path: Path, layout: Layout) -> str | None:
    """Return the name of a tensor that holds a NaN or an infinity, or None. All types must be in `FLOATS`.

    Raises:
        BrokenTensors: the file has become shorter meanwhile.
        OSError: it can't be read.
    """
    ordered = sorted(layout.tensors.items(), key=lambda item: (item[1].start, item[1].stop))
    with path.open("rb") as file:
        file.seek(layout.data_start)
        # Tensors of one type lie back to back, so that many small ones are read as one.
        for dtype, group in groupby(ordered, key=lambda item: item[1].dtype):
            run = list(group)
            kind = FLOATS[dtype]
            if _finite(file, run[-1][1].stop - run[0][1].start, kind):
                continue
            for name, tensor in run:
                file.seek(layout.data_start + tensor.start)
                if not _finite(file, tensor.stop - tensor.start, kind):
                    return name
            raise BrokenTensors("changed while it was read")
    return None


def _parse(text: bytes) -> dict[str, Any]:
    try:
        # A key twice: the library refuses it, and other readers disagree about which one counts.
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BrokenTensors(f"has a broken header: {_short(error)}") from error
    if not isinstance(header, dict):
        raise BrokenTensors("has a broken header: it is no JSON object")
    return header


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    listed = list(pairs)
    found = dict(listed)
    if len(found) != len(listed):
        raise ValueError("a key occurs twice")
    return found


def _short(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


def _entry(name: str, entry: Any, widths: Mapping[str, int]) -> Tensor:
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        width = widths[dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenTensors(f"can't be read: the entry of tensor {name[:200]!r} is wrong") from error
    if any(type(number) is not int or number < 0 for number in (*shape, start, stop)):
        raise BrokenTensors(f"can't be read: the entry of tensor {name[:200]!r} is wrong")
    if stop - start != math.prod(shape) * width:
        raise BrokenTensors(f"is broken: tensor {name[:200]!r} does not take the bytes that its shape needs")
    return Tensor(dtype, shape, start, stop)


def _require_whole(tensors: Mapping[str, Tensor], data_bytes: int) -> None:
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end:
            raise BrokenTensors(f"is broken: tensor {name[:200]!r} does not begin where the one before ends")
        end = tensor.stop
    if end > data_bytes:
        raise BrokenTensors(
            f"is truncated: its header promises {end} bytes of tensors, and {data_bytes} are there"
        )
    if end < data_bytes:
        raise BrokenTensors(f"has {data_bytes - end} bytes that belong to no tensor")


def _finite(file: BinaryIO, length: int, kind: Float) -> bool:
    tops = kind.tops
    while length:
        block = file.read(min(length, BLOCK_BYTES))
        if not block or len(block) % kind.width:
            raise BrokenTensors("became shorter while it was read")
        length -= len(block)
        # Nearly every block is cleared by its highest bytes: a weight beyond 1e38 is rare.
        highest = block[kind.width - 1 :: kind.width]
        if any(top in highest for top in tops) and not _all_finite(block, kind):
            return False
        time.sleep(PAUSE_S)
    return True


def _all_finite(block: bytes, kind: Float) -> bool:
    """Look at every number of a block at once, as lanes of one large integer.

    A lane's exponent bits, flipped, are zero for NaN and infinity alone. Adding the largest number below the
    lane's top bit carries into that bit unless the lane was zero, and never into the next lane.
    """
    lanes = len(block) // kind.width
    bits = 8 * kind.width
    ones = int.from_bytes((1).to_bytes(kind.width, "little") * lanes, "little")
    exponents = ones * kind.exponent
    flipped = (int.from_bytes(block, "little") & exponents) ^ exponents
    tops = ones << (bits - 1)
    return (flipped + (tops - ones)) & tops == tops
