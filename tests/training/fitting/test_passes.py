"""The faster passes give what the plain ones give: loss, gradients, documents that see themselves alone."""

from pathlib import Path
from typing import Any

import pytest

from training.config import TrainConfig
from training.fitting.encoding import EncodedText
from training.fitting.template import Encoded

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]

ROWS = [
    Encoded([3, 4, 5, 6, 7], [8, 1]),
    Encoded([9], [10, 11, 1]),
    Encoded([12, 13, 14, 15, 16, 17, 18, 19, 20], [21, 22, 1]),
]


def adapted(folder: Path, config: TrainConfig, *, exact: bool = False) -> Any:
    """Return the tiny base with an adapter that says something; `exact` computes in float32."""
    import torch

    from training.fitting.model import add_lora, in_float32, load_base

    model = add_lora(load_base(str(folder), quantization=config.quantization).model, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    return in_float32(model) if exact else model


def on(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch where the model is."""
    return {name: value.to(model.device) if hasattr(value, "to") else value for name, value in batch.items()}


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the summed nats of a batch under our own loss, and the adapter's gradients."""
    from training.fitting.loss import IGNORED, hidden_states_for_logits, nats

    given = on(model, batch)
    labels = given.pop("labels")[:, 1:]
    chosen = labels != IGNORED
    with hidden_states_for_logits(model) as head:
        hidden = model(**given, use_cache=False).logits
    total = nats(hidden[:, :-1][chosen], head, labels[chosen])
    model.zero_grad()
    total.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}
    return float(total.detach()), found


def plain_loss_and_gradients(model: Any, rows: list[Encoded]) -> tuple[float, dict[str, Any]]:
    """Return the same from the library's own loss, row by row."""
    import torch

    model.zero_grad()
    total = torch.tensor(0.0, device=model.device)
    for row in rows:
        ids = torch.tensor([row.prompt + row.completion], device=model.device)
        labels = torch.tensor([[-100] * len(row.prompt) + row.completion], device=model.device)
        total = total + model(input_ids=ids, labels=labels, use_cache=False).loss * len(row.completion)
    total.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}
    return float(total.detach()), found


def batches(rows: list[Encoded]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the rows padded, and end to end, by the real collators."""
    from training.fitting.collating import Collator, EndToEnd, items

    made = items(rows, TrainConfig(), packed=True)
    return Collator(1)(made), EndToEnd()(made)


@pytest.mark.parametrize("quantization", ["nf4", "none"])
@pytest.mark.parametrize("unpack", [False, True])
def test_packed_padded_and_plain_losses_are_the_same(
    tiny_base: Path, quantization: Any, unpack: bool
) -> None:
    """In float32 packed rows have the plain model's loss on single ones to 1e-4, and its gradients.

    bitsandbytes unpacks to float32 then, and ours to the bfloat16 that is served: gradients differ by that.
    """
    from training.fitting.attention import documents_apart
    from training.fitting.fast_lora import fast_lora

    model = adapted(tiny_base, TrainConfig(rank=4, quantization=quantization), exact=True)
    wanted, gradients = plain_loss_and_gradients(model, ROWS)
    padded, packed = batches(ROWS)
    assert loss_and_gradients(model, padded)[0] == pytest.approx(wanted, rel=1e-4)
    with fast_lora(model, unpack=unpack), documents_apart(model):
        found, ours = loss_and_gradients(model, packed)
    assert found == pytest.approx(wanted, rel=1e-4)
    limit = 1e-4 if quantization == "none" else 1e-2
    for name, gradient in gradients.items():
        assert float((ours[name] - gradient).norm() / gradient.norm()) < limit, name


def test_in_bfloat16_the_faster_pass_is_as_near_to_the_truth_as_the_plain_one(tiny_base: Path) -> None:
    """Computing LoRA in the base's precision costs no more of the loss than the base's own rounding."""
    from training.fitting.attention import documents_apart
    from training.fitting.fast_lora import fast_lora

    _, packed = batches(ROWS)
    model = adapted(tiny_base, TrainConfig(rank=4))
    plain, _ = plain_loss_and_gradients(model, ROWS)
    with fast_lora(model, unpack=True), documents_apart(model):
        fast, _ = loss_and_gradients(model, packed)
    truth, _ = plain_loss_and_gradients(adapted(tiny_base, TrainConfig(rank=4), exact=True), ROWS)
    assert abs(fast - truth) <= 2 * abs(plain - truth) + 0.02 * truth


def test_documents_do_not_see_each_other(tiny_base: Path) -> None:
    """With the real collator, another document before it changes nothing of what a document says."""
    import torch

    from training.fitting.attention import documents_apart
    from training.fitting.collating import EndToEnd, items

    model = adapted(tiny_base, TrainConfig(rank=4), exact=True).eval()
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([ROWS[2].prompt], device=model.device)).logits[0]
        for before in (ROWS[0], ROWS[1]):
            batch = EndToEnd()(items([before, Encoded(ROWS[2].prompt, [1])], TrainConfig(), packed=True))
            batch.pop("labels")
            with documents_apart(model):
                together = model(**on(model, batch), use_cache=False).logits[0][len(before) :][: len(alone)]
            assert float((together - alone).abs().max()) < 1e-4


def test_the_models_own_attention_keeps_them_apart_without_a_mask_and_not_with_one(tiny_base: Path) -> None:
    """What must never be passed beside packed rows: a mask, even one of ones, or a cache."""
    import torch

    from training.fitting.attention import LENGTHS
    from training.fitting.collating import EndToEnd, items

    model = adapted(tiny_base, TrainConfig(rank=4), exact=True).eval()
    batch = EndToEnd()(items([ROWS[0], Encoded(ROWS[2].prompt, [1])], TrainConfig(), packed=True))
    assert "attention_mask" not in batch
    del batch["labels"], batch[LENGTHS]
    batch = on(model, batch)
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([ROWS[2].prompt], device=model.device)).logits[0]
        mask = torch.ones_like(batch["input_ids"])
        apart, masked, cached = (
            model(**batch, **more).logits[0][len(ROWS[0]) :][: len(alone)]
            for more in (
                {"use_cache": False},
                {"use_cache": False, "attention_mask": mask},
                {"use_cache": True},
            )
        )
    assert float((apart - alone).abs().max()) < 1e-4
    assert float((masked - alone).abs().max()) > 1e-2
    assert float((cached - alone).abs().max()) > 1e-2


def test_nothing_stays_changed_after_the_faster_passes(tiny_base: Path) -> None:
    """Evaluation and probes afterwards run the library's own code on the packed weights."""
    from training.fitting.attention import documents_apart
    from training.fitting.fast_lora import fast_lora, lora_layers

    model = adapted(tiny_base, TrainConfig(rank=4))
    with fast_lora(model, unpack=True), documents_apart(model):
        assert len(lora_layers(model)) == 2 * 7
        assert all("forward" in vars(layer) for layer in lora_layers(model))
    assert not any("forward" in vars(layer) for layer in lora_layers(model))
    assert not any("_turnout_dense" in vars(layer.base_layer) for layer in lora_layers(model))
    assert model.config._attn_implementation == "sdpa"


def test_with_the_adapter_off_the_faster_pass_is_the_base(tiny_base: Path) -> None:
    """The reference of preferences is the base model, to the last bit.

    Where it computes in float32, up to the rounding of the 4-bit weights, which is the engine's.
    """
    import torch

    from training.fitting.fast_lora import fast_lora

    model = adapted(tiny_base, TrainConfig(rank=4)).eval()
    ids = torch.tensor([[5, 6, 7, 8]], device=model.device)
    with torch.no_grad(), model.disable_adapter():
        plain = model(input_ids=ids).logits
        with fast_lora(model, unpack=True):
            fast = model(input_ids=ids).logits
    rounds = plain.dtype is torch.bfloat16
    torch.testing.assert_close(fast, plain, rtol=0, atol=0 if rounds else 0.01)


def test_dropout_reaches_the_adapter_alone(tiny_base: Path) -> None:
    """With everything dropped, the base's answer is left; in evaluation nothing is dropped."""
    import torch

    from training.fitting.fast_lora import fast_lora

    model = adapted(tiny_base, TrainConfig(rank=4, dropout=0.999999), exact=True)
    ids = torch.tensor([[5, 6, 7, 8]], device=model.device)
    with torch.no_grad(), fast_lora(model, unpack=False):
        dropped = model.train()(input_ids=ids).logits
        kept = model.eval()(input_ids=ids).logits
        with model.disable_adapter():
            base = model(input_ids=ids).logits
    assert torch.allclose(dropped, base, atol=1e-5)
    assert not torch.allclose(kept, base, atol=1e-3)


def test_texts_fill_rows_and_have_loss_on_everything_but_first_tokens(tiny_base: Path) -> None:
    """Pieces share rows of `max_tokens`; a first token is foretold by nothing, not by another text's end."""
    from training.fitting.collating import EndToEnd, items
    from training.fitting.loss import IGNORED

    assert tiny_base
    rows = [EncodedText(list(range(2, 2 + length))) for length in (6, 3, 5, 8)]
    made = items(rows, TrainConfig(method="domain", max_tokens=8), packed=True)
    assert sorted(len(item["input_ids"]) for item in made) == [6, 8, 8]
    batch = EndToEnd()(made)
    labels, positions = batch["labels"][0], batch["position_ids"][0]
    assert (labels[positions == 0] == IGNORED).all()
    assert (labels[positions > 0] == batch["input_ids"][0][positions > 0]).all()
    apart = items(rows, TrainConfig(method="domain", max_tokens=8), packed=False)
    assert [item["lengths"] for item in apart] == [[6], [3], [5], [8]]


@pytest.mark.parametrize("tokens", [48, 160])
def test_the_estimate_of_activations_is_what_autograd_keeps(tiny_base: Path, tokens: int) -> None:
    """The sum over tensors is within a fifth of the bytes that are really kept, at two sizes."""
    import torch

    from training.fitting.attention import documents_apart
    from training.fitting.fast_lora import fast_lora
    from training.fitting.memory import Load, estimate, shape_of

    config = TrainConfig(rank=4)
    model = adapted(tiny_base, config)
    _, packed = batches([Encoded(list(range(2, 2 + tokens - 3)), [8, 9, 1])])
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    labels = packed.pop("labels")
    with (
        fast_lora(model, unpack=True),
        documents_apart(model),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        own |= {
            layer._turnout_dense.untyped_storage().data_ptr()
            for layer in model.modules()
            if "_turnout_dense" in vars(layer)
        }
        output = model.get_base_model().model(**on(model, packed), use_cache=False)
    assert output.last_hidden_state.requires_grad
    assert labels.shape[1] == tokens
    shape = shape_of(model.config.to_dict(), width=model.get_input_embeddings().weight.element_size())
    load = Load(tokens=tokens, answers=3)
    said = estimate(shape, config, load, checkpointing=False, unpack=True).activations
    assert said == pytest.approx(sum(kept.values()), rel=0.2)
