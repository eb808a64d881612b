"""The manifest: what is known of one adapter version, kept beside its blob and in the store."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseIdentity(_Document):
    """The base model that an adapter fits: its name, and the digest of its weights and tokenizer."""

    name: str
    digest: str | None = None


class Score(_Document):
    """One figure on held-out rows with its 95 % interval (bootstrap over rows).

    `system` is what was scored: `adapter`, `base` (free-running), `base-constrained` (labels only), …
    """

    system: str
    metric: str
    value: float
    low: float
    high: float
    rows: int


class Difference(_Document):
    """The paired difference `adapter` minus `against` on the same rows, with its 95 % interval."""

    against: str
    metric: str
    value: float
    low: float
    high: float
    rows: int


class Evaluation(_Document):
    """What held-out evaluation found."""

    rows: int
    scores: tuple[Score, ...] = ()
    differences: tuple[Difference, ...] = ()
    note: str | None = None


class EmbeddingSample(_Document):
    """Embeddings of training prompts, for reports of what a version was trained on. No text is kept.

    `vectors` is base64 of `rows` times `dimensions` signed bytes; each vector is to be scaled to length 1.
    """

    model: str
    rows: int
    dimensions: int
    seed: int
    vectors: str


class Lineage(_Document):
    """Where the weights came from, enough to make them again.

    `data_fingerprint` is of the rows as the check left them, `read_fingerprint` of the source's rows as they
    were read (None where it was not kept). Of a version that the loop has made: its run, the drift report
    that started it, and the fingerprint of the rows that were curated for it.
    """

    recipe: str
    data_source: str
    data_terms: str
    data_fingerprint: str
    rows: dict[str, int] = Field(description="rows by split: train, validation, test")
    config: dict[str, Any]
    command: str
    code_version: str
    packages: dict[str, str] = Field(default_factory=dict)
    parent: str | None = None
    seconds: float | None = None
    embedding_sample: EmbeddingSample | None = None
    loop_run: str | None = None
    drift_id: int | None = None
    curated_fingerprint: str | None = None
    read_fingerprint: str | None = None


class Probe(_Document):
    """One probe prompt, and the log-probabilities of the most likely first tokens by token id.

    `base` and `predecessor` are what the base model and the version before said to it, in the same run.
    """

    prompt: str
    top_logprobs: dict[str, float]
    base: dict[str, float] | None = None
    predecessor: dict[str, float] | None = None


class Separation(_Document):
    """How far the version is from others on its probes, in units of the noise. Below 5 it is too close."""

    base: float
    predecessor: float | None = None


class Reference(_Document):
    """What attestation compares with: recorded by PEFT on the same quantized base at publishing.

    `noise` is in nats: how far the same weights are from themselves when they are computed in another
    precision, which is what another implementation differs by. `predecessor` is the digest of the version
    that the probes also had to tell this one from.

    What else decided the answers: the base model, the chat template and the tokenizer, by digest, and how the
    base was quantized. None in references that were made before these were kept.
    """

    quantization: str
    probes: tuple[Probe, ...]
    noise: float | None = None
    separation: Separation | None = None
    predecessor: str | None = None
    base_digest: str | None = None
    template_digest: str | None = None
    tokenizer_digest: str | None = None
    quantization_config: dict[str, Any] | None = None


class Manifest(_Document):
    """Everything that is known of a version. Sizes are bytes; digests are `sha256:` and 64 hex digits."""

    name: str
    version: int | None = Field(default=None, description="None until the registry numbers it")
    digest: str
    base: BaseIdentity
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    dtype: str
    size_bytes: int
    source: str
    created_at: float
    lineage: Lineage | None = None
    evaluation: Evaluation | None = None
    reference: Reference | None = None
