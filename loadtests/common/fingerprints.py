"""What each made adapter answers, known before Turnout has seen it: so that answers prove their version."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from loadtests.common.made_adapters import make
from loadtests.common.processes import StartFailed

PROMPT = "The weather today is"
BASE_NAME = "SmolLM2-135M-Instruct"
MOST_TRIES = 8
DISTINCT = 40
"""Answers that are looked for on the real engine. Versions that are so many apart have the same weights under
other digests: a storm has three versions in use at a time, and labels are checked beside texts."""

TOKENS = 2
"""Of an answer, that are recorded on the real engine: few adapters' tokens are certain for longer."""

MIN_GAP = 1.5
"""Nats between a token and the next likeliest. With less, a token may depend on what else is in the engine's
batch, whose sums are rounded in another order (`batch_noise.py`), and so may all that follow it."""


@dataclass(frozen=True)
class Fingerprints:
    """Adapters in folders, and what each answers to `prompt`: how its text begins, its first token's id.

    Of versions that are near each other no text begins as another's does.
    """

    root: Path
    prompt: str
    texts: Mapping[int, str]
    tokens: Mapping[int, str]

    def folder(self, version: int) -> Path:
        """Return the folder of the adapter that will be this version."""
        return self.root / str(version)

    def check(self, label: str, text: str, token: str | None) -> str | None:
        """Return what is wrong with the answer of a version, or None."""
        version = int(label.rpartition("@")[2])
        expected = self.texts[version]
        if not text.startswith(expected):
            return f"{label} answers {text!r} {self._whose(text)} and not {expected!r}"
        if token is not None and token != self.tokens[version]:
            return f"{label} begins with {token} and not with {self.tokens[version]}"
        return None

    def _whose(self, text: str) -> str:
        """Say whose answer this is: another version proves a fault, nobody may be noise."""
        for version, known in self.texts.items():
            if text.startswith(known):
                return f"as version {version} does"
        return "as no version does"


def of_fake(root: Path, count: int) -> Fingerprints:
    """Make adapters for the fake engine, which answers with its adapter's name and a token by its weights."""
    from tests.fake_engine_weights import first_logprobs, read_weights  # noqa: PLC0415 - only for this engine

    texts, tokens = {}, {}
    for version in range(1, count + 1):
        folder = make(root / str(version), version, base_name=BASE_NAME)
        texts[version] = f"storm@{version}:"
        tokens[version] = next(iter(first_logprobs(read_weights(folder), PROMPT, 1)))
    return Fingerprints(root, PROMPT, texts, tokens)


def of_real(root: Path, count: int, url: str, *, console: Console) -> Fingerprints:
    """Make adapters and ask the engine for each one's answer, alone, before anything else uses it.

    What counts of an answer is how far it does not hesitate. Two that begin alike prove nothing, and neither
    does one that hesitates at once; such a one is not used.

    Raises:
        StartFailed: the engine refuses one, or too many are of no use.
    """
    wanted = min(count, DISTINCT)
    known: dict[int, str] = {}
    seed = 0
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as engine:
        base = _ask(engine, BASE_NAME)["text"]
        while len(known) < wanted:
            seed += 1
            if seed > wanted * MOST_TRIES + 10:
                raise StartFailed(f"of {seed} made adapters only {len(known)} are of use")
            text = certain_part(_answer_of(engine, root / f"tried-{seed}", seed))
            if text and not any(_alike(text, other) for other in (base, *known.values())):
                known[seed] = text
    console.print(f"  {len(known)} of {seed} made adapters have an answer of their own")
    seeds, texts = list(known), {}
    for version in range(1, count + 1):
        seed = seeds[version % wanted]
        make(root / str(version), seed, base_name=BASE_NAME, note=str(version))
        texts[version] = known[seed]
    return Fingerprints(root, PROMPT, texts, {})


def certain_part(choice: Mapping[str, Any]) -> str:
    """Return the text of the leading tokens of an answer that no rounding can change; it may be empty."""
    certain = ""
    found = choice["logprobs"]
    for token, top in zip(found["tokens"], found["top_logprobs"], strict=True):
        first, second = sorted(top.values(), reverse=True)[:2]
        if first - second < MIN_GAP:
            break
        certain += token
    # Tokens that are parts of characters are written otherwise in the text.
    return certain if choice["text"].startswith(certain) else ""


def _alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _answer_of(engine: httpx.Client, folder: Path, seed: int) -> dict[str, Any]:
    make(folder, seed, base_name=BASE_NAME)
    name = folder.name
    loaded = engine.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(folder)})
    if loaded.status_code != 200:
        raise StartFailed(f"the engine refuses a made adapter: {loaded.text[:300]}")
    try:
        return _ask(engine, name)
    finally:
        engine.post("/v1/unload_lora_adapter", json={"lora_name": name})


def _ask(engine: httpx.Client, model: str) -> dict[str, Any]:
    """Return the answer with the two likeliest of each token."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "logprobs": 2}
    answer = engine.post("/v1/completions", json=body)
    if answer.status_code != 200:
        raise StartFailed(f"the engine does not answer for a made adapter: {answer.text[:300]}")
    return dict(answer.json()["choices"][0])
