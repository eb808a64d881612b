"""`turnout probe`: the reference of an adapter that was trained elsewhere."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.base import identify
from adapters.manifest import Manifest
from training.data.splits import Shares
from training.job import Job, Origin, make
from training.progress import Progress
from training.publishing.reference import app

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]


@pytest.fixture
def trained(tiny_base: Path, tmp_path: Path) -> Path:
    """An adapter's folder, as training leaves it."""
    from training.config import TrainConfig
    from training.data.rows import Example

    rows = [
        Example(
            ({"role": "user", "content": f"{'ab'[number % 2]} {number}"},), ("apple", "bread")[number % 2]
        )
        for number in range(60)
    ]
    job = Job(
        name="fruit",
        examples=rows,
        model=str(tiny_base),
        base=identify(str(tiny_base), "tiny"),
        origin=Origin("test", "made", "ours", "test"),
        config=TrainConfig(rank=4, epochs=1, learning_rate=0.002),
        shares=Shares(test=0.2, max_train=16),
    )
    make(job, tmp_path / "fruit", Progress(quiet=True))
    return tmp_path / "fruit"


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command; return exit code, output and messages."""
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_an_imported_adapter_gets_a_reference(trained: Path, tiny_base: Path, tmp_path: Path) -> None:
    """What PEFT computes for bare files is what training recorded of them; the rest of a manifest stays."""
    recorded = Manifest.model_validate_json((trained / "manifest.json").read_text(encoding="utf-8"))
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare)
    (bare / "manifest.json").unlink()
    base = ["--base", str(tiny_base), "--base-name", "tiny"]
    code, shown, said = run(str(bare), *base)
    assert code == 0, said
    assert "apart from the base model" in shown
    made = Manifest.model_validate_json((bare / "manifest.json").read_text(encoding="utf-8"))
    certificate = made.reference
    assert certificate is not None
    assert certificate.base_digest == identify(str(tiny_base), "tiny").digest
    assert (certificate.template_digest or "").startswith("sha256:")
    assert (certificate.tokenizer_digest or "").startswith("sha256:")
    assert (certificate.quantization_config or {})["bnb_4bit_quant_type"] == "nf4"
    assert (made.digest, made.base, made.rank) == (recorded.digest, recorded.base, recorded.rank)
    assert made.reference == recorded.reference
    assert run(str(trained), *base, "--predecessor", str(bare), "--json")[0] == 0
    again = Manifest.model_validate_json((trained / "manifest.json").read_text(encoding="utf-8"))
    assert again.lineage == recorded.lineage
    assert again.reference is not None
    assert again.reference.predecessor == recorded.digest
    assert again.reference.separation is not None
    assert again.reference.separation.predecessor == 0.0


def test_a_folder_that_is_no_adapter_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    """The message says why, and nothing is written."""
    (tmp_path / "empty").mkdir()
    code, _, said = run(str(tmp_path / "empty"), "--base", str(tiny_base), "--base-name", "tiny")
    assert code in (1, 2)
    assert "turnout probe: " in said
    assert not list((tmp_path / "empty").iterdir())


def test_the_noise_is_that_of_several_runs(trained: Path, tiny_base: Path) -> None:
    """Each run begins a little elsewhere, the first one where the model does; the noise is their mean."""
    from statistics import fmean

    import torch
    from peft import PeftModel

    from adapters.answers import MIN_NOISE, distance
    from training.fitting.model import as_served, load_base
    from training.fitting.template import Template
    from training.publishing import probes

    base = load_base(str(tiny_base))
    template = Template(base.tokenizer, base.stop_ids)
    model = PeftModel.from_pretrained(base.model, str(trained))
    prompts = probes.candidates(template, probes.NEUTRAL)
    reference = probes.record(model, template, prompts)
    asked = [each.prompt for each in reference.probes]
    exact = [each.top_logprobs for each in reference.probes]
    as_served(model)
    ids = torch.tensor([[3, 4, 5]], device=model.device)
    plain = model.get_input_embeddings()(ids)
    inputs = []
    for seed in (0, 1, 1, 2):
        with probes._nudged(model, seed):
            inputs.append(model.get_input_embeddings()(ids))
    assert torch.equal(inputs[0], plain)
    assert torch.equal(inputs[1], inputs[2])
    assert not torch.equal(inputs[1], inputs[3])
    assert ((inputs[1] - plain).abs() <= plain.abs() * torch.finfo(plain.dtype).eps).all()
    assert torch.equal(model.get_input_embeddings()(ids), plain)
    runs = []
    for seed in range(probes.RUNS):
        with probes._nudged(model, seed):
            runs.append(distance(exact, probes._tops(model, template, asked, probes.nullcontext())))
    assert len(set(runs)) > 1
    assert reference.noise is not None
    assert reference.noise >= max(MIN_NOISE, fmean(runs) - 1e-4)
