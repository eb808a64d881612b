"""What can be served is told from what can't, without loading anything."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.inspect import CONFIG, WEIGHTS, AdapterFacts, UnservableAdapter, inspect
from tests.adapters.folders import BASE_NAME, make_adapter, safetensors, tensors

MAX_RANK = 16


def test_a_good_adapter(tmp_path: Path) -> None:
    """The facts of a folder as PEFT writes it."""
    facts = inspect(make_adapter(tmp_path, rank=8), max_rank=MAX_RANK)
    assert facts == AdapterFacts(
        rank=8,
        alpha=16.0,
        target_modules=("q_proj", "v_proj"),
        dtype="bfloat16",
        size_bytes=(tmp_path / WEIGHTS).stat().st_size,
        base_name=f"/somewhere/{BASE_NAME}",
    )


def test_unusual_and_good(tmp_path: Path) -> None:
    """One target module as a string, a rank pattern within the limit, and no alpha are fine."""
    folder = make_adapter(tmp_path, target_modules="all-linear", rank_pattern={"q_proj": 16}, lora_alpha=3)
    facts = inspect(folder, max_rank=MAX_RANK)
    assert (facts.rank, facts.alpha, facts.target_modules) == (16, 3.0, ("all-linear",))


def config(**changes: object) -> Callable[[Path], object]:
    """Return what writes an adapter with these changes in its config."""
    return lambda folder: make_adapter(folder, **changes)  # type: ignore[arg-type]


def weights(content: bytes) -> Callable[[Path], object]:
    """Return what writes an adapter with this content in its weights."""
    return lambda folder: (make_adapter(folder) / WEIGHTS).write_bytes(content)


def config_text(text: str | bytes) -> Callable[[Path], object]:
    """Return what writes an adapter with this text as its config."""
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (make_adapter(folder) / CONFIG).write_bytes(content)


def header(document: object, data: bytes = b"") -> bytes:
    """Return a safetensors file with this header."""
    text = json.dumps(document).encode()
    return len(text).to_bytes(8, "little") + text + data


def pickled(folder: Path) -> None:
    """Write an adapter whose weights are a pickle."""
    (make_adapter(folder) / WEIGHTS).rename(folder / "adapter_model.bin")


GOOD = safetensors(tensors(4))
NAME = "model.q_proj.lora_A.weight"
ENTRY = {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}

REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda _: None, "is not a folder"),
    "a file": (lambda folder: folder.write_text("x"), "is not a folder"),
    "an empty folder": (lambda folder: folder.mkdir(), f"has no {CONFIG}"),
    "no weights": (lambda folder: (make_adapter(folder) / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
    "a pickle": (pickled, "is a pickle, which is never opened"),
    "config no JSON": (config_text("{"), "is not valid JSON"),
    "config no text": (config_text(b"\xff\xfe"), "is not valid JSON"),
    "config a list": (config_text("[]"), "is not a JSON object"),
    "prompt tuning": (config(peft_type="PROMPT_TUNING"), "peft_type is 'PROMPT_TUNING'"),
    "no type": (config(peft_type=None), "peft_type is None"),
    "DoRA": (config(use_dora=True), "a DoRA adapter"),
    "whole modules": (config(modules_to_save=["lm_head"]), "modules_to_save=['lm_head']"),
    "biases": (config(bias="all"), "bias='all' can't be served"),
    "rank 0": (config(r=0), "r=0 is not a positive"),
    "rank as text": (config(r="8"), "r='8' is not a positive"),
    "rank true": (config(r=True), "r=True is not a positive"),
    "rank too high": (config(rank=17), "rank 17 is above the fleet's maximum of 16"),
    "rank pattern too high": (config(rank_pattern={"q_proj": 64}), "rank 64 is above"),
    "weights empty": (weights(b""), "truncated or no safetensors file (0 bytes)"),
    "weights of 7 bytes": (weights(b"1234567"), "(7 bytes)"),
    "weights no safetensors": (weights(b"\x80\x04 a pickle in disguise"), "truncated or no safetensors file"),
    "weights cut in the header": (weights(GOOD[:40]), "truncated or no safetensors file"),
    "weights cut in the data": (weights(GOOD[:-1]), "lies outside the file"),
    "weights with a tail": (weights(GOOD + b"x"), "1 bytes that belong to no tensor"),
    "header no JSON": (weights((4).to_bytes(8, "little") + b"{{{{"), "broken header"),
    "header a list": (weights(header([])), "broken header"),
    "no tensors": (weights(header({})), "holds no LoRA tensors"),
    "other tensors": (weights(header({"model.weight": ENTRY}, b"1234")), "holds no LoRA tensors"),
    "an entry without a type": (weights(header({NAME: {"shape": [1]}})), "can't be read"),
    "an entry of a strange type": (
        weights(header({NAME: {**ENTRY, "dtype": "Q4"}}, b"1234")),
        "can't be read",
    ),
    "an entry that is no object": (weights(header({NAME: 7})), "can't be read"),
    "offsets backwards": (
        weights(header({NAME: {**ENTRY, "data_offsets": [4, 0]}}, b"1234")),
        "outside the file",
    ),
    "a shape too large": (weights(header({NAME: {**ENTRY, "shape": [9, 9]}}, b"1234")), "outside the file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_served(tmp_path: Path, case: str) -> None:
    """Each is refused with the reason."""
    write, words = REFUSED[case]
    folder = tmp_path / "adapter"
    write(folder)
    with pytest.raises(UnservableAdapter) as caught:
        inspect(folder, max_rank=MAX_RANK)
    assert words in str(caught.value)


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    """A header length beyond the file is refused before anything of that size is read."""
    folder = make_adapter(tmp_path)
    (folder / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(UnservableAdapter, match="truncated"):
        inspect(folder, max_rank=MAX_RANK)
