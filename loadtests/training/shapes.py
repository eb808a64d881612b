"""A base model of a known shape with random weights on NF4, made where it runs.

Speed and memory do not ask what a model says. Nothing is written: the weights are drawn on the device and
packed layer by layer, so a shape of 8 billion parameters needs 16 GB of its memory for a moment, 6 GB
afterwards, and no disk.
"""

from typing import Any, Literal

Shape = Literal["8b", "tiny"]

SHAPES: dict[Shape, dict[str, int]] = {
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 49152,
    },
}
"""Llama 3's of 8 billion parameters, and one for trying the benchmark where there is no GPU.

Both have room for the token ids of the default base model, whose tokenizer and template rows are made with.
"""

POSITIONS = 8192
SEED = 1


def random_base(shape: Shape) -> Any:
    """Return a `Base` of this shape with the default base model's tokenizer, on the GPU when there is one.

    Every process that asks gets the same weights on the same kind of device.

    Raises:
        OSError: the default base model is not on this machine.
    """
    import torch  # noqa: PLC0415 - seconds
    from transformers import (  # noqa: PLC0415
        AutoModelForCausalLM,
        AutoTokenizer,
        GenerationConfig,
        LlamaConfig,
    )

    from adapters.base import DEFAULT, folder_of  # noqa: PLC0415
    from training.fitting.model import QUANTIZATION, Base, cure  # noqa: PLC0415

    folder = str(folder_of(DEFAULT))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = GenerationConfig.from_pretrained(folder).eos_token_id
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(SEED)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    _pack(model)
    cure(model)
    model.requires_grad_(requires_grad=False)
    ends = end if isinstance(end, list) else [end]
    return Base(model, tokenizer, frozenset(ends), POSITIONS, QUANTIZATION)


def _pack(model: Any) -> None:
    """Put the layers' linear maps on NF4, and tell the libraries what they hear of a loaded 4-bit model."""
    import bitsandbytes  # noqa: PLC0415 - imports torch
    import torch  # noqa: PLC0415
    from transformers import BitsAndBytesConfig  # noqa: PLC0415
    from transformers.quantizers.auto import AutoHfQuantizer  # noqa: PLC0415

    for parent in list(model.model.layers.modules()):
        for name, plain in list(parent.named_children()):
            if not isinstance(plain, torch.nn.Linear):
                continue
            packed = bitsandbytes.nn.Linear4bit(
                plain.in_features,
                plain.out_features,
                bias=False,
                compute_dtype=torch.bfloat16,
                compress_statistics=False,
                quant_type="nf4",
                device="meta",
            )
            weight = bitsandbytes.nn.Params4bit(
                plain.weight.data,
                requires_grad=False,
                compress_statistics=False,
                quant_type="nf4",
                module=packed,
            )
            packed.weight = weight.to(plain.weight.device)
            setattr(parent, name, packed)
    quantizer = AutoHfQuantizer.from_config(
        BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        ),
        pre_quantized=False,
    )
    model.hf_quantizer, model.is_quantized, model.is_loaded_in_4bit = quantizer, True, True
    model.quantization_method = quantizer.quantization_config.quant_method
    model.config.quantization_config = quantizer.quantization_config
