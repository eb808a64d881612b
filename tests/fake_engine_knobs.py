"""How a fake engine misbehaves."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.fake_engine_weights import BASE


@dataclass
class Knobs:
    """How the engine behaves. Tests set the fields while it runs.

    `drop_after_chunks` breaks the connection under a stream; `end_after_chunks` ends it cleanly, too early.
    `linger_s` passes between the event that ends a stream and the end of the body.
    `fail_times` failures of `fail_status` are answered before requests succeed again; None is for ever.
    `answer_as_base` reproduces the wrong answer nobody notices: base model's name and weights, status 200.
    `killer` is a text that kills the engine with the first request whose body holds it.
    `unapplied` names adapters that are registered and echoed but whose weights do nothing.
    `swapped` gives a name the weights of another folder. `base` is which base model it is. `noise` is the
    largest error, in nats, of each log-probability, anew with every request; `rounding` is one that depends
    on what shares the step and on the prefix cache, and is always the same in the same conditions.
    `split_batches` is how many batches from now on take two steps. `says` is what is answered in place of
    words, four characters a token. `all_metrics` adds what a real engine recorded to `/metrics`.
    `caches_prefixes` is only said in the metrics. `late_checks` is how many more answers of `/health` come
    `health_delay_s` late; all of them when negative.
    """

    start_delay_s: float = 0.0
    token_delay_s: float = 0.0
    tokens: int = 4
    drop_after_chunks: int | None = None
    end_after_chunks: int | None = None
    linger_s: float = 0.0
    close_before_headers: bool = False
    endless_headers: bool = False
    hang: bool = False
    error_after_chunks: int | None = None
    fail_status: int | None = None
    fail_times: int | None = None
    fail_message: str = "secret internals at /opt/engine/core.py"
    answer_as_base: bool = False
    unapplied: set[str] = field(default_factory=set)
    swapped: dict[str, Path] = field(default_factory=dict)
    base: bytes = BASE
    noise: float = 0.0
    rounding: float = 0.0
    split_batches: int = 0
    killer: str | None = None
    healthy: bool = True
    health_delay_s: float = 0.0
    late_checks: int = -1
    load_delay_s: float = 0.0
    pad_chunk_chars: int = 0
    all_metrics: bool = False
    says: str | None = None
    caches_prefixes: bool = True
