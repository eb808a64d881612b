"""What can be served is told from what can't, without loading anything."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.inspect import CONFIG, WEIGHTS, AdapterFacts, UnservableAdapter, inspect
from adapters.shapes import BaseShapes
from tests.adapters.folders import BASE_NAME, MODULE, make_adapter, safetensors, tensors

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
    """One target module as a string, and a rank pattern within the limit that the tensors keep, are fine."""
    folder = make_adapter(
        tmp_path, rank=16, r=4, target_modules="all-linear", rank_pattern={"q_proj": 16}, lora_alpha=3
    )
    facts = inspect(folder, max_rank=MAX_RANK)
    assert (facts.rank, facts.alpha, facts.target_modules) == (16, 3.0, ("all-linear",))


def test_what_vllm_leaves_out_is_no_obstacle(tmp_path: Path) -> None:
    """A copy of the embeddings that PEFT saved along, and tensors of an embedding's own LoRA, are taken."""
    embedding = {
        **tensors(4),
        "base_model.model.model.embed_tokens.base_layer.weight": ("BF16", [9, 8]),
        "base_model.model.model.embed_tokens.lora_embedding_A": ("BF16", [4, 9]),
        "base_model.model.model.embed_tokens.lora_embedding_B": ("BF16", [8, 4]),
    }
    (make_adapter(tmp_path) / WEIGHTS).write_bytes(safetensors(embedding))
    shapes = BaseShapes({MODULE: (8, 8), "model.embed_tokens": (9, 8)}, {})
    assert inspect(tmp_path, max_rank=MAX_RANK, base=shapes).rank == 4
    other = BaseShapes({MODULE: (8, 8), "model.embed_tokens": (10, 8)}, {})
    with pytest.raises(UnservableAdapter, match="takes 10 features and gives 8"):
        inspect(tmp_path, max_rank=MAX_RANK, base=other)


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


def of(named: dict[str, tuple[str, list[int]]], **changes: object) -> Callable[[Path], object]:
    """Return what writes an adapter of these tensors."""

    def write(folder: Path) -> None:
        make_adapter(folder, **changes)  # type: ignore[arg-type]
        (folder / WEIGHTS).write_bytes(safetensors(named))

    return write


def pickled(folder: Path) -> None:
    """Write an adapter whose weights are a pickle."""
    (make_adapter(folder) / WEIGHTS).rename(folder / "adapter_model.bin")


def infinite(dtype: str, number: bytes) -> Callable[[Path], object]:
    """Return what writes an adapter whose last number is this one."""

    def write(folder: Path) -> None:
        make_adapter(folder)
        width = len(number)
        named = {name: (dtype, [4, 4]) for name in tensors(4)}
        header, data = {}, b""
        for name in named:
            header[name] = {
                "dtype": dtype,
                "shape": [4, 4],
                "data_offsets": [len(data), len(data) + 16 * width],
            }
            data += bytes(16 * width)
        text = json.dumps(header).encode()
        data = data[:-width] + number
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data)

    return write


GOOD = safetensors(tensors(4))
A, B = tensors(4)
NAME = "model.q_proj.lora_A.weight"
ENTRY = {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}
TWICE = f'{{"{NAME}": 1, "{NAME}": 2}}'.encode()
DEEP = b"[" * 100_000

REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    # the folder
    "no folder": (lambda _: None, "is not a folder"),
    "a file": (lambda folder: folder.write_text("x"), "is not a folder"),
    "an empty folder": (lambda folder: folder.mkdir(), f"has no {CONFIG}"),
    "no weights": (lambda folder: (make_adapter(folder) / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
    "a pickle": (pickled, "is a pickle, which is never opened"),
    # the config
    "config no JSON": (config_text("{"), "is not valid JSON"),
    "config no text": (config_text(b"\xff\xfe"), "is not valid JSON"),
    "config too deep": (config_text(DEEP), "nested too deeply"),
    "config too large": (config_text(b" " * (1024 * 1024 + 1)), "is over 1048576 bytes"),
    "config a list": (config_text("[]"), "is not a JSON object"),
    "prompt tuning": (config(peft_type="PROMPT_TUNING"), "put the prompt into the request"),
    "prefix tuning": (config(peft_type="PREFIX_TUNING"), "put the prefix into the prompt"),
    "p-tuning": (config(peft_type="P_TUNING"), "p-tuning is not served"),
    "IA3": (config(peft_type="IA3"), "merge it into the base model"),
    "AdaLoRA": (config(peft_type="ADALORA"), "with rank_pattern set"),
    "LoHa": (config(peft_type="LOHA"), "train a LoRA adapter instead"),
    "no type": (config(peft_type=None), "peft_type is None"),
    "DoRA": (config(use_dora=True), "train with use_dora=false"),
    "a bias in LoRA": (config(lora_bias=True), "train with lora_bias=false"),
    "activated LoRA": (config(alora_invocation_tokens=[1]), "(aLoRA)"),
    "layer replication": (config(layer_replication=[[0, 4]]), "changes the base model"),
    "block-diagonal": (config(use_bdlora={"a": 1}), "block-diagonal"),
    "QA-LoRA": (config(use_qalora=True), "use_qalora=false"),
    "trained tokens": (config(trainable_token_indices=[7]), "trained tokens"),
    "PiSSA": (config(init_lora_weights="pissa_niter_16"), "path_initial_model_for_weight_conversion"),
    "whole modules": (config(modules_to_save=["lm_head"]), "modules_to_save=['lm_head']"),
    "biases": (config(bias="all"), "bias='all' can't be served"),
    "rank 0": (config(r=0), "r=0 is not a positive"),
    "rank as text": (config(r="8"), "r='8' is not a positive"),
    "rank true": (config(r=True), "r=True is not a positive"),
    "rank too high": (config(rank=17), "rank 17 is above the fleet's maximum of 16"),
    "rank pattern too high": (config(rank_pattern={"q_proj": 64}), "rank 64 is above"),
    "rank pattern of words": (config(rank_pattern={"q_proj": "x"}), "rank_pattern is not an object"),
    "rank pattern a list": (config(rank_pattern=[4]), "rank_pattern is not an object"),
    "alpha pattern of words": (config(alpha_pattern={"q_proj": "x"}), "alpha_pattern is not an object"),
    "no alpha": (config(lora_alpha=None), "lora_alpha=None is not a positive number"),
    "alpha not finite": (config(lora_alpha=float("nan")), "lora_alpha=nan is not a positive number"),
    "no target modules": (config(target_modules=None), "target_modules=None is not a list"),
    "target modules of numbers": (config(target_modules=[1]), "target_modules=[1] is not a list"),
    # the file of weights
    "weights empty": (weights(b""), "truncated or no safetensors file (0 bytes)"),
    "weights of 7 bytes": (weights(b"1234567"), "(7 bytes)"),
    "weights no safetensors": (weights(b"\x80\x04 a pickle in disguise"), "truncated or no safetensors file"),
    "weights cut in the header": (weights(GOOD[:40]), "truncated or no safetensors file"),
    "weights cut in the data": (weights(GOOD[:-1]), "is truncated: its header promises 128 bytes"),
    "weights with a tail": (weights(GOOD + b"x"), "1 bytes that belong to no tensor"),
    "header no JSON": (weights((4).to_bytes(8, "little") + b"{{{{"), "broken header"),
    "header too deep": (weights(len(DEEP).to_bytes(8, "little") + DEEP), "nested too deeply"),
    "header a list": (weights(header([])), "broken header"),
    "a tensor twice": (
        weights(len(TWICE).to_bytes(8, "little") + TWICE),
        "a key occurs twice",
    ),
    "no tensors": (weights(header({})), "holds no LoRA tensors"),
    "an entry without a type": (weights(header({NAME: {"shape": [1]}})), "is wrong"),
    "an entry of a strange type": (weights(header({NAME: {**ENTRY, "dtype": "Q4"}}, b"1234")), "is wrong"),
    "an entry of whole numbers": (weights(header({NAME: {**ENTRY, "dtype": "I16"}}, b"1234")), "is wrong"),
    "an entry that is no object": (weights(header({NAME: 7})), "is wrong"),
    "a shape below zero": (weights(header({NAME: {**ENTRY, "shape": [-1, -2]}}, b"1234")), "is wrong"),
    "a shape of parts": (weights(header({NAME: {**ENTRY, "shape": [0.5, 4]}}, b"1234")), "is wrong"),
    "offsets backwards": (
        weights(header({NAME: {**ENTRY, "data_offsets": [4, 0]}}, b"1234")),
        "does not take the bytes that its shape needs",
    ),
    "a shape too large": (
        weights(header({NAME: {**ENTRY, "shape": [9, 9]}}, b"1234")),
        "does not take the bytes that its shape needs",
    ),
    "tensors that overlap": (
        weights(header({A: ENTRY, B: {**ENTRY, "data_offsets": [2, 6]}}, bytes(6))),
        "does not begin where the one before ends",
    ),
    "a gap between tensors": (
        weights(header({A: ENTRY, B: {**ENTRY, "data_offsets": [6, 10]}}, bytes(10))),
        "does not begin where the one before ends",
    ),
    # the tensors
    "NaN in bfloat16": (infinite("BF16", b"\xc0\x7f"), "holds NaN or infinity"),
    "infinity in bfloat16": (infinite("BF16", b"\x80\xff"), "holds NaN or infinity"),
    "NaN in float16": (infinite("F16", b"\x01\x7c"), "holds NaN or infinity"),
    "infinity in float32": (infinite("F32", b"\x00\x00\x80\x7f"), "the training diverged"),
    "NaN in float64": (infinite("F64", b"\x01\x00\x00\x00\x00\x00\xf0\xff"), "holds NaN or infinity"),
    "NaN in float8": (infinite("F8_E4M3", b"\xff"), "holds NaN or infinity"),
    "infinity in float8": (infinite("F8_E5M2", b"\x7c"), "holds NaN or infinity"),
    "other tensors": (of({**tensors(4), "model.weight": ("BF16", [1, 2])}), "is no LoRA matrix"),
    "a magnitude": (
        of({**tensors(4), f"base_model.model.{MODULE}.lora_magnitude_vector": ("BF16", [8])}),
        "belongs to a DoRA adapter",
    ),
    "a bias": (of({**tensors(4), f"base_model.model.{MODULE}.lora_B.bias": ("BF16", [8])}), "is a bias"),
    "a prompt": (of({"prompt_embeddings": ("BF16", [8, 8])}), "belongs to a prompt"),
    "B alone": (of({B: ("BF16", [8, 4])}), "has no lora_A"),
    "A alone": (of({A: ("BF16", [4, 8])}), "has no lora_B"),
    "A twice": (
        of({**tensors(4), f"{MODULE}.lora_A.weight": ("BF16", [4, 8])}),
        "has two tensors lora_A",
    ),
    "another rank": (of(tensors(8)), "have rank 8 and 8, and adapter_config.json says 4"),
    "two ranks": (of({A: ("BF16", [4, 8]), B: ("BF16", [8, 2])}), "have rank 4 and 2"),
    "not the pattern's rank": (
        of(tensors(4), rank_pattern={"self_attn.q_proj": 2}),
        "have rank 4 and 4, and adapter_config.json says 2",
    ),
    "a convolution": (
        of({A: ("BF16", [4, 8, 1, 1]), B: ("BF16", [8, 4, 1, 1])}),
        "linear layers and embeddings",
    ),
    "nothing in them": (of({A: ("BF16", [4, 0]), B: ("BF16", [8, 4])}), "linear layers and embeddings"),
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
    """A header length beyond the file, or beyond any need, is refused before so much is read."""
    folder = make_adapter(tmp_path)
    (folder / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(UnservableAdapter, match="truncated"):
        inspect(folder, max_rank=MAX_RANK)
    with (folder / WEIGHTS).open("wb") as file:
        file.write((2**30).to_bytes(8, "little"))
        file.truncate(2**31)  # takes no room on the disk
    with pytest.raises(UnservableAdapter, match="has a header of 1073741824 bytes"):
        inspect(folder, max_rank=MAX_RANK)


def test_patterns_that_are_expressions_are_not_run(tmp_path: Path) -> None:
    """A rank pattern that is a regular expression allows any of its ranks; it is never matched here."""
    folder = make_adapter(tmp_path, rank=8, r=4, rank_pattern={r"(a+)+$": 8})
    assert inspect(folder, max_rank=MAX_RANK).rank == 8


def test_the_numbers_can_be_left_out(tmp_path: Path) -> None:
    """Without values only config and header are looked at."""
    infinite("BF16", b"\xc0\x7f")(tmp_path)
    assert inspect(tmp_path, max_rank=MAX_RANK, values=False).dtype == "bfloat16"


FITS: dict[str, tuple[dict[str, tuple[int, int] | None], dict[str, tuple[int, int]], str | None]] = {
    "the layer's own sizes": ({MODULE: (8, 8)}, {}, None),
    "a prefix of the checkpoint's own": ({f"language_model.{MODULE}": (8, 8)}, {}, None),
    "a packed layer": ({MODULE: None}, {}, None),
    "a packed layer, sized by the config": (
        {MODULE: None},
        {"q_proj": (9, 8)},
        "takes 8 features and gives 9",
    ),
    "the config alone": ({}, {"q_proj": (8, 9)}, "takes 9 features and gives 8"),
    "nothing known": ({}, {}, None),
    "other sizes": ({MODULE: (8, 16)}, {}, "takes 16 features and gives 8"),
    "other sizes behind a prefix": ({f"language_model.{MODULE}": (4, 8)}, {}, "trained on another base"),
    "no such layer": ({"model.layers.0.mlp.up_proj": (8, 8)}, {}, "has no linear layer 'model.layers.0.self"),
    "fewer layers": ({"model.layers.1.self_attn.q_proj": (8, 8)}, {}, "has no linear layer"),
}


@pytest.mark.parametrize("case", FITS)
def test_what_does_not_fit_the_base(tmp_path: Path, case: str) -> None:
    """An adapter is refused when the base has no such layer or another size, and not where nobody knows."""
    layers, by_kind, words = FITS[case]
    folder = make_adapter(tmp_path)
    base = BaseShapes(layers, by_kind)
    if words is None:
        assert inspect(folder, max_rank=MAX_RANK, base=base).rank == 4
        return
    with pytest.raises(UnservableAdapter) as caught:
        inspect(folder, max_rank=MAX_RANK, base=base)
    assert words in str(caught.value)
