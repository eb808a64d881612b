"""A fleet's databases with recorded traffic, and runs that curate it without the heavy libraries."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.core.loop import LoopPolicy
from gateway.core.requests import RequestRow
from gateway.core.routes import RouteSpec
from gateway.store import schema
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.feedback import FeedbackRow
from gateway.store.requests import Requests
from training.curation.curate import Order, curate
from training.data import check, personal

ROUTE = "support"
_LETTERS = str.maketrans("0123456789abcdef", "ghijklmnopqrstuv")


def prompt(number: int) -> str:
    """Return a prompt that is like no other one."""
    said = hashlib.sha256(str(number).encode()).hexdigest().translate(_LETTERS)
    return " ".join(said[at : at + 8] for at in range(0, 64, 8))


@dataclass
class Fleet:
    """Both stores, and the folder that stands for the state directory."""

    store: ControlStore
    requests: Requests
    folder: Path

    def ask(self, number: int, **changes: Any) -> str:
        """Record one request and return its id."""
        values: dict[str, Any] = {
            "id": f"req-{number:08x}", "at": 1000.0 + number, "endpoint": "chat/completions", "key_id": "app",
            "route": ROUTE, "adapter": "base", "status": 200, "finish_reason": "stop", "unit": f"u{number}",
            "prompt": prompt(number), "answer": f"answer {number}",
        }  # fmt: skip
        row = RequestRow(**{**values, **changes})
        self.requests.write([row])
        return row.id

    def rate(self, number: int, value: bool | str | float, **changes: Any) -> None:
        """Store one rating; a text is a demonstration."""
        metric = "demonstration" if isinstance(value, str) else "thumbs"
        values: dict[str, Any] = {
            "request_id": f"req-{number:08x}", "route": ROUTE, "adapter": "base", "arm": None,
            "metric": metric, "value": value, "comment": None, "key_id": "people",
            "at": 5000.0 + number, "unit": f"u{number}",
            "exposed_at": 1000.0 + number,
        }  # fmt: skip
        self.store.feedback.add(FeedbackRow(**{**values, **changes}))

    def shown(self, numbers: Sequence[int], **changes: Any) -> None:
        """Record requests, each with a demonstration."""
        for number in numbers:
            self.ask(number, **changes)
            self.rate(number, f"wanted {number}", unit=changes.get("unit", f"u{number}"))

    def curate(self, run: str = "loop-1", **policy: Any) -> dict[str, Any]:
        """Curate one run and return its result."""
        wanted = {"min_new_examples": 5, "replay_share": 0.0, **policy}
        return curate(self.order(run, LoopPolicy(**wanted)))

    def order(self, run: str, policy: LoopPolicy) -> Order:
        """Return the order of a run."""
        return Order(
            route=ROUTE,
            run=run,
            out=self.folder / "loop" / run,
            policy=policy,
            state_dir=self.folder,
            control_url=self.store.database.url,
            requests_url=self.requests.database.url,
        )


def rows(fleet: Fleet, name: str, run: str = "loop-1") -> list[dict[str, Any]]:
    """The rows of a file of a run."""
    text = (fleet.folder / "loop" / run / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def numbers(found: list[dict[str, Any]]) -> set[int]:
    """The numbers of the requests that rows are from."""
    return {int(row["request_id"].removeprefix("req-"), 16) for row in found}


def champion(fleet: Fleet, run: str) -> None:
    """Have a version that a run has made serve the route."""
    lineage = {
        "recipe": "turnout train", "data_source": "loop", "data_terms": "x", "data_fingerprint": "f",
        "rows": {}, "config": {}, "command": "turnout train", "code_version": "v", "loop_run": run,
    }  # fmt: skip
    manifest = {
        "name": "support", "digest": "d", "base": {"name": "b"}, "rank": 8, "alpha": 8.0,
        "target_modules": ["q"], "dtype": "bf16", "size_bytes": 1, "source": "s", "created_at": 1.0,
        "lineage": lineage,
    }  # fmt: skip
    fleet.store.versions.add("support", "d", manifest, actor="test")
    known = fleet.store.routes.get(ROUTE)
    assert known is not None
    arms = [{"adapter": "support@1", "share": 1.0}]
    fleet.store.routes.put(ROUTE, known.spec.model_validate({"arms": arms}), actor="test")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Two fresh databases with the route, where personal data is found by the gateway's own patterns."""
    monkeypatch.setattr(personal, "finder", lambda _model=None: personal.by_form)
    monkeypatch.setattr(check, "languages", _english)
    urls = {name: f"sqlite:///{tmp_path / name}.db" for name in ("control", "requests")}
    with (
        closing(Database(urls["control"], "control", durable=False)) as control,
        closing(Database(urls["requests"], "requests", durable=False)) as requests,
    ):
        for database, tables in ((control, schema.control), (requests, schema.requests)):
            with database.write() as connection:
                tables.create_all(connection)
        made = Fleet(ControlStore(control), Requests(requests), tmp_path)
        spec = RouteSpec.model_validate({"arms": [{"adapter": "base", "share": 1}]})
        made.store.routes.put(ROUTE, spec, actor="test")
        yield made


def _english(texts: Sequence[str]) -> tuple[str, ...]:
    return ("en",) * len(texts)
