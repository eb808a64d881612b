"""`turnout routes feedback`, `signals` and `shadow`."""

import re

import pytest

from gateway.cli.route_answers import plain
from gateway.core.requests import RequestRow
from gateway.core.routes import RouteSpec
from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run, documents
from tests.gateway.test_admin_feedback import pair, rating


@pytest.fixture
def route(admin: AdminService) -> AdminService:
    """The admin API with the route `r`."""
    document = {"arms": [{"adapter": "base", "share": 1}], "shadow": {"adapter": "base", "share": 0.5}}
    admin.control.routes.put("r", RouteSpec.model_validate(document), actor="test")
    return admin


def test_feedback(run: Run, route: AdminService) -> None:
    """Ratings are a table, newest first; what does not count is marked; JSON has every field."""
    assert "No feedback on r yet" in run("routes feedback r").stderr
    route.control.feedback.add(rating(1, comment="two\nlines"), rating(2, internal=True))
    route.control.feedback.add(rating(3 * 86_400 + 1))
    lines = run("routes feedback r").stdout.splitlines()
    assert [re.split(r"\s{2,}", line)[4:] for line in lines] == [
        ["VALUE", "COUNTS", "COMMENT"],
        ["True", "late", "-"],
        ["True", "internal", "-"],
        ["True", "yes", "two lines"],
    ]
    assert documents(run("routes feedback r --metric none --json"))["data"] == []
    assert run("routes feedback none").exit_code == 1


def test_signals(run: Run, route: AdminService) -> None:
    """Signals are counted by arm."""
    assert "Nothing is known yet of r" in run("routes signals r").stderr
    row = RequestRow("q", 1.0, "completions", route="r", arm="a@1", adapter="a@1", status=499, streamed=True)
    route.requests.write([row])
    assert re.search(r"a@1\s+abandoned\s+1\s+1", run("routes signals r").stdout)
    assert documents(run("routes signals r --hours 1 --json"))["data"] == []


def test_shadow(run: Run, route: AdminService) -> None:
    """Both answers stand under the versions that gave them, below the sums; escapes do nothing."""
    assert "No pairs of answers yet" in run("routes shadow r").stderr
    route.requests.pairs.add(pair(1, answer="first\nsecond", shadow_answer="\x1b[2Jother"))
    route.requests.pairs.add(
        pair(2, prompt=None, shadow_answer=None, shadow_status=504, shadow_error="upstream_timeout")
    )
    shown = run("routes shadow r")
    assert "base answers a share of 0.5 once more" in shown.stderr
    assert re.search(r"a@1\s+base\s+2\s+1\s+0 of 1\s+10\s+20", shown.stdout)
    assert shown.stdout.split("\n\n")[1:] == [
        (
            "1970-01-01 00:00:02Z  req-2\n"
            "  prompt          (not kept)\n"
            "  a@1             x\n"
            "  base            (no answer: 504 upstream_timeout)"
        ),
        (
            "1970-01-01 00:00:01Z  req-1\n"
            "  prompt          p\n"
            "  a@1             first\n"
            "                  second\n"
            "  base            \ufffd[2Jother\n"
        ),
    ]
    assert len(documents(run("routes shadow r --limit 1 --json"))["data"]) == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "True"),
        (4.5, "4.5"),
        ("a\r\nb\t", "a b"),
        ("\x1b]0;x\x07", "\ufffd]0;x\ufffd"),
        ("é\u2028", "é"),
    ],
)
def test_values_on_one_line(value: object, shown: str) -> None:
    """A value is one line without control characters."""
    assert plain(value) == shown
