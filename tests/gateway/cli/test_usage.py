"""`turnout usage`."""

import csv
import io
from typing import Any

import pytest

from gateway.cli.group import CliError
from gateway.cli.usage import moment
from gateway.core.requests import RequestRow
from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run, documents

AT = 1_763_640_000.0


def record(admin: AdminService, number: int, *, at: float = AT, **fields: Any) -> None:
    """Record one request."""
    row: dict[str, Any] = {"key_id": "k1", "tenant": "=cmd", "route": "support", "adapter": "support@1"}
    row |= {"status": 200, "endpoint": "chat", "prompt_tokens": 1000, "completion_tokens": 7}
    admin.requests.write([RequestRow(id=f"req-{int(at):08x}{number:024x}", at=at, **{**row, **fields})])


def test_usage_as_table_json_and_csv(run: Run, admin: AdminService) -> None:
    """The same rows for people, for programs and for spreadsheets, in which no text is a formula."""
    record(admin, 0)
    record(admin, 1, at=AT + 3600, status=429)
    day = "--since 2025-11-20 --until 2025-11-21"
    table = run(f"usage {day}").stdout.splitlines()
    assert table[0].split() == [
        *("KEY", "ROUTE", "VERSION", "REQUESTS", "ERRORS", "PROMPT", "TOKENS", "COMPLETION", "TOKENS")
    ]
    assert table[1].split() == ["k1", "support", "support@1", "2", "1", "2,000", "14"]
    hours = documents(run(f"usage {day} --bucket hour --json"))["data"]
    assert [(row["at"], row["requests"]) for row in hours] == [(AT, 1), (AT + 3600, 1)]
    result = run(f"usage {day} --bucket day --by tenant --csv")
    assert list(csv.DictReader(io.StringIO(result.stdout))) == [
        {
            "at": "2025-11-20T00:00:00+00:00", "tenant": "'=cmd", "requests": "2", "errors": "1",
            "prompt_tokens": "2000", "completion_tokens": "14",
        }
    ]  # fmt: skip
    assert run(f"usage {day} --csv --json").exit_code == 2
    assert run("usage --by colour").exit_code == 1


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("24h", 1e9 - 86_400),
        ("2d", 1e9 - 2 * 86_400),
        ("999999w", 0.0),
        ("1763640000.5", 1_763_640_000.5),
        ("2025-11-20", 1_763_596_800.0),
        ("2025-11-20T12:00:00+00:00", 1_763_640_000.0),
    ],
)
def test_times(text: str, at: float) -> None:
    """A duration back from now, a date or time (UTC unless it says another zone), or seconds."""
    assert moment(text, now=1e9) == at


def test_what_is_no_time() -> None:
    """It is refused with examples."""
    with pytest.raises(CliError, match="24h"):
        moment("yesterday", now=1e9)
