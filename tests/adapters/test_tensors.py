"""Safetensors files are read without a library, and what is accepted is what the library accepts."""

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.tensors import (
    BLOCK_BYTES,
    FLOATS,
    BrokenTensors,
    Tensor,
    _all_finite,
    first_not_finite,
    read_layout,
)

ONE_FILE = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=150,
)
HALF = {"F16": "<e", "F32": "<f", "F64": "<d"}


def write(path: Path, header: object, data: bytes) -> Path:
    """Write a file of the format's form and return it."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_a_layout(tmp_path: Path) -> None:
    """The header's entries come back with where they lie; its notes do not."""
    entry = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}
    path = write(tmp_path / "x", {"__metadata__": {"format": "pt"}, "a": entry}, bytes(8))
    layout = read_layout(path)
    assert dict(layout.tensors) == {"a": Tensor("F32", (2, 1), 0, 8)}
    assert layout.data_start == path.stat().st_size - 8
    assert first_not_finite(path, layout) is None


@ONE_FILE
@given(content=st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    """Whatever the bytes, the answer is a layout that covers them exactly, or that they are broken."""
    path = tmp_path / "x"
    path.write_bytes(content)
    try:
        layout = read_layout(path)
    except BrokenTensors:
        return
    covered = sum(tensor.stop - tensor.start for tensor in layout.tensors.values())
    assert layout.data_start + covered == len(content)


entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*FLOATS, "I8", "Q4", ""]),
        "shape": st.lists(st.integers(-1, 5), max_size=3),
        "data_offsets": st.lists(st.integers(-2, 60), min_size=1, max_size=3),
    }
)


@ONE_FILE
@given(
    header=st.dictionaries(st.text(max_size=5), entries | st.integers(), max_size=3), size=st.integers(0, 64)
)
def test_any_header(tmp_path: Path, header: dict[str, object], size: int) -> None:
    """Whatever a header claims, an accepted one has tensors back to back that take what their shapes need."""
    path = write(tmp_path / "x", header, bytes(size))
    try:
        layout = read_layout(path)
    except BrokenTensors:
        return
    end = 0
    for tensor in sorted(layout.tensors.values(), key=lambda found: (found.start, found.stop)):
        assert tensor.start == end
        assert tensor.stop - tensor.start == math.prod(tensor.shape) * FLOATS[tensor.dtype].width
        end = tensor.stop
    assert end == size
    assert first_not_finite(path, layout) is None


@ONE_FILE
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5), noise=st.data())
def test_what_is_accepted_the_library_accepts_too(
    tmp_path: Path, cuts: list[int], noise: st.DataObject
) -> None:
    """A file with one byte changed is accepted only if safetensors reads it as well."""
    safetensors = pytest.importorskip("safetensors")
    header, at = {}, 0
    for number, count in enumerate(cuts):
        header[f"t{number}"] = {"dtype": "BF16", "shape": [count], "data_offsets": [at, at + 2 * count]}
        at += 2 * count
    path = write(tmp_path / "x", header, bytes(at))
    content = bytearray(path.read_bytes())
    content[noise.draw(st.integers(0, len(content) - 1))] = noise.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        layout = read_layout(path)
    except BrokenTensors:
        return
    found = {name for name, _ in safetensors.deserialize(bytes(content))}
    assert found == set(layout.tensors)


@given(kind=st.sampled_from(sorted(HALF)), numbers=st.lists(st.floats(), min_size=1, max_size=20))
def test_finite_is_what_python_calls_finite(kind: str, numbers: list[float]) -> None:
    """All numbers of a block at once give the same answer as one after the other."""
    packed = []
    for number in numbers:
        try:
            packed.append(struct.pack(HALF[kind], number))
        except OverflowError:
            packed.append(struct.pack(HALF[kind], math.inf))
    expected = all(math.isfinite(struct.unpack(HALF[kind], one)[0]) for one in packed)
    assert _all_finite(b"".join(packed), FLOATS[kind]) == expected


@given(lanes=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=20))
def test_finite_in_bfloat16(lanes: list[int]) -> None:
    """A bfloat16 is the upper half of a float32."""
    expected = all(math.isfinite(struct.unpack("<f", struct.pack("<I", lane << 16))[0]) for lane in lanes)
    assert _all_finite(struct.pack(f"<{len(lanes)}H", *lanes), FLOATS["BF16"]) == expected


@pytest.mark.parametrize("at", [0, BLOCK_BYTES - 2, BLOCK_BYTES, 3 * BLOCK_BYTES])
def test_the_tensor_is_named(tmp_path: Path, at: int) -> None:
    """One number among many is found wherever it lies, and the tensor that holds it is named."""
    half = 2 * BLOCK_BYTES
    header = {
        "a": {"dtype": "BF16", "shape": [half // 2], "data_offsets": [0, half]},
        "b": {"dtype": "BF16", "shape": [half // 2], "data_offsets": [half, 2 * half]},
    }
    data = bytearray(b"\x00\x7f" * half)  # large, and finite
    path = write(tmp_path / "x", header, bytes(data))
    assert first_not_finite(path, read_layout(path)) is None
    data[at : at + 2] = b"\x80\x7f"
    path = write(tmp_path / "x", header, bytes(data))
    assert first_not_finite(path, read_layout(path)) == ("a" if at < half else "b")


def test_a_file_that_shrinks_meanwhile(tmp_path: Path) -> None:
    """A file cut between the look at its header and the look at its numbers is broken, not finite."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path = write(tmp_path / "x", {"a": entry}, bytes(8))
    layout = read_layout(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BrokenTensors, match="became shorter"):
        first_not_finite(path, layout)
