"""Manifests of older versions stay readable when something is added to them."""

from pathlib import Path

import pytest

from adapters import base
from adapters.manifest import Manifest, Reference

LIBRARY = Path(base.__file__).parent / "library"


@pytest.mark.parametrize("folder", sorted(LIBRARY.glob("*/manifest.json")), ids=lambda path: path.parent.name)
def test_the_examples_manifests_are_read(folder: Path) -> None:
    """They were written before certificates named base, template and tokenizer."""
    found = Manifest.model_validate_json(folder.read_text(encoding="utf-8"))
    assert found.reference is not None
    assert found.reference.probes


def test_a_reference_without_a_certificate_says_so_by_nothing() -> None:
    """What is not known is None, never made up."""
    found = Reference(quantization="bitsandbytes-nf4", probes=())
    assert (found.base_digest, found.template_digest, found.tokenizer_digest) == (None, None, None)
    assert found.quantization_config is None
