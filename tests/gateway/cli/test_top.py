"""`turnout top`: what is made of two readings of the metrics, and what is shown while the gateway is away."""

import http.server
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from gateway.cli.client import Client
from gateway.cli.group import CliError
from gateway.cli.main import build_app
from gateway.cli.top import alerts
from gateway.cli.top.frame import build, unreachable
from gateway.cli.top.reader import Reader
from gateway.cli.top.scrape import Between, NotMetrics, Scrape, parse, quantile
from gateway.cli.top.screen import draw
from tests.monitoring.ops import exported

RULES = Path(__file__).resolve().parents[3] / "monitoring" / "prometheus" / "rules"
TOP = Path(__file__).resolve().parents[3] / "gateway" / "cli" / "top"
WALL = 1_000_000.0


def metrics(
    *, requests: float = 10, failed: float = 0, fast: float = 8, slow: float = 2, extra: str = ""
) -> str:
    """Return what a gateway with one version and one replica says."""
    pair = 'route="support",adapter="support@3"'
    return f"""# TYPE turnout_table_generation gauge
turnout_table_generation 7
# TYPE turnout_workers gauge
turnout_workers 2
# TYPE turnout_queued_requests gauge
turnout_queued_requests 1
# TYPE turnout_requests_total counter
turnout_requests_total{{{pair},endpoint="chat",status="200"}} {requests}
turnout_requests_total{{{pair},endpoint="chat",status="503"}} {failed}
# TYPE turnout_completion_tokens_total counter
turnout_completion_tokens_total{{{pair}}} {requests * 20}
# TYPE turnout_ttft_seconds histogram
turnout_ttft_seconds_bucket{{{pair},le="0.1"}} {fast}
turnout_ttft_seconds_bucket{{{pair},le="0.5"}} {fast + slow}
turnout_ttft_seconds_bucket{{{pair},le="+Inf"}} {fast + slow}
turnout_ttft_seconds_sum{{{pair}}} 1
turnout_ttft_seconds_count{{{pair}}} {fast + slow}
# TYPE turnout_in_flight gauge
turnout_in_flight{{adapter="support@3"}} 4
# TYPE turnout_adapter_replicas gauge
turnout_adapter_replicas{{adapter="support@3"}} 1
turnout_adapter_replicas{{adapter="[red]@1"}} 1
# TYPE turnout_replica_up gauge
turnout_replica_up{{replica="r0"}} 1
# TYPE turnout_proofs gauge
turnout_proofs{{replica="r0",proof="strong"}} 3
# TYPE turnout_controller_lease_expiry_timestamp_seconds gauge
turnout_controller_lease_expiry_timestamp_seconds {WALL + 5}
{extra}"""


def between(before: str, now: str, *, seconds: float = 2.0) -> Between:
    """Return two readings, so many seconds apart."""
    return Between(parse(before, at=100.0), parse(now, at=100.0 + seconds))


def test_rates_and_latencies_of_an_interval() -> None:
    """Rates are growth over the time between, quantiles those of what came meanwhile."""
    frame = build(
        between(metrics(), metrics(requests=30, failed=2, fast=18, slow=12)),
        None, [], wall=WALL, alerts_by="metrics",
    )  # fmt: skip
    fleet = frame["fleet"]
    assert (fleet["requests_per_s"], fleet["failed_per_s"], fleet["tokens_per_s"]) == (11, 1, 200)
    assert fleet["ttft_p50_s"] == pytest.approx(0.1)
    assert fleet["ttft_p95_s"] == pytest.approx(0.1 + 0.4 * 0.9)
    assert fleet["inter_token_p95_s"] is None  # nothing was streamed
    (busy, idle) = frame["adapters"]
    assert (busy["adapter"], busy["requests_per_s"], busy["in_flight"]) == ("support@3", 11, 4)
    assert (idle["adapter"], idle["requests_per_s"], idle["replicas"]) == ("[red]@1", 0, 1)
    (replica,) = frame["replicas"]
    assert (replica["up"], replica["circuit"], replica["proofs"]["strong"]) == (True, "closed", 3)
    assert frame["gateway_restarted"] is False


def test_a_gateway_that_started_again() -> None:
    """Counters that have fallen began at zero: no rate is negative, and the frame says so."""
    frame = build(
        between(metrics(requests=1000, fast=500), metrics(requests=4, fast=3, slow=1)),
        None, [], wall=WALL, alerts_by="metrics",
    )  # fmt: skip
    assert frame["gateway_restarted"] is True
    assert frame["fleet"]["requests_per_s"] == 2
    assert 0 < frame["fleet"]["ttft_p50_s"] <= 0.1


@pytest.mark.parametrize(
    ("buckets", "q", "value"),
    [
        ({}, 0.5, None),
        ({float("inf"): 5}, 0.5, None),
        ({1.0: 0, float("inf"): 0}, 0.5, None),
        ({1.0: 10, 2.0: 20, float("inf"): 20}, 0.75, 1.5),
        ({1.0: 10, float("inf"): 20}, 0.9, 1.0),  # beyond the last bound nothing is known
        ({1.0: 10, 2.0: 10, float("inf"): 10}, 1.0, 1.0),
    ],
)
def test_quantiles(buckets: dict[float, float], q: float, value: float | None) -> None:
    """Interpolated inside a bucket, as Prometheus does it."""
    assert quantile(q, buckets) == value


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ("turnout_table_age_seconds 21", "TurnoutTableOverdue"),
        ('turnout_replica_up{replica="r1"} 0', "TurnoutReplicaDown"),
        ('turnout_replica_quarantined{replica="r0"} 1', "TurnoutReplicaQuarantined"),
        ('turnout_proofs{replica="r0",proof="failed"} 1', "TurnoutAttestationFailed"),
        ('turnout_routes{state="failed"} 2', "TurnoutRouteFailed"),
        (f'turnout_replica_seen_timestamp_seconds{{replica="r0"}} {WALL - 61}', "TurnoutControllerStuck"),
        ('turnout_drift_detected{route="a"} 1', "TurnoutDriftFound"),
        (f'turnout_drift_checked_timestamp_seconds{{route="a"}} {WALL - 200_000}', "TurnoutDriftNotChecked"),
        ('turnout_canary_state{route="a",candidate="a@2",state="held"} 1', "TurnoutCanaryHeld"),
        ('turnout_experiment_mismatch{route="a"} 1', "TurnoutAssignmentMismatch"),
        ('turnout_budget_used_ratio{scope="route",name="a",period="day"} 0.95', "TurnoutBudgetNearlyUsed"),
        (
            (
                f'turnout_oldest_row_timestamp_seconds{{rows="pairs"}} {WALL - 90_100}\n'
                'turnout_retention_seconds{rows="pairs"} 3600'
            ),
            "TurnoutRetentionLate",
        ),
        (
            f'turnout_loop_deadline_timestamp_seconds{{route="a",state="training"}} {WALL - 901}',
            "TurnoutLoopStuck",
        ),
        ('turnout_loop_failures_in_a_row{route="a"} 2', "TurnoutLoopFailing"),
        ('turnout_loop_gate_failures_in_a_row{route="a"} 3', "TurnoutLoopGateFails"),
        ('turnout_loop_golden_uses_left{route="a"} 0', "TurnoutGoldenRotationDue"),
        (
            f'turnout_loop_state_timestamp_seconds{{route="a",state="waiting_review"}} {WALL - 90_000}',
            "TurnoutLoopWaitsForApproval",
        ),
        ("# TYPE turnout_records_dropped_total counter\nturnout_records_dropped_total 3",
         "TurnoutRecordsDropped"),
        (
            '# TYPE turnout_wrong_model_total counter\nturnout_wrong_model_total{adapter="a@1"} 1',
            "TurnoutWrongModel",
        ),
    ],
)  # fmt: skip
def test_alerts_of_a_reading(extra: str, name: str) -> None:
    """Each condition fires where it holds, and the reading without it is silent."""
    quiet = between(metrics(), metrics())
    assert alerts.now(quiet.now, quiet, wall=WALL) == []
    loud = between(metrics(), metrics(extra=f"{extra}\n"))
    assert [alert.name for alert in alerts.now(loud.now, loud, wall=WALL)] == [name]


def test_alerts_without_engine_and_controller() -> None:
    """No replica and no controller: pages come first."""
    text = metrics().replace('up{replica="r0"} 1', 'up{replica="r0"} 0')
    found = alerts.now(parse(text, at=0.0), None, wall=WALL + 36)
    assert [(alert.name, alert.severity) for alert in found] == [
        ("TurnoutControllerGone", "page"),
        ("TurnoutNoReplica", "page"),
        ("TurnoutReplicaDown", "ticket"),
    ]


def test_alerts_are_those_of_prometheus_rules() -> None:
    """Names, severities, runbooks and limits are those of the rules, whose metrics the conditions read."""
    rules = {
        rule["alert"]: rule
        for file in RULES.glob("*.yaml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    limits = {
        "TurnoutTableOverdue": f"> {alerts.TABLE_OVERDUE_S}",
        "TurnoutControllerGone": f"> {alerts.LEASE_GONE_S}",
        "TurnoutControllerStuck": f"> {alerts.SEEN_LONG_AGO_S}",
        "TurnoutDriftNotChecked": f"> {alerts.DRIFT_CHECK_S // 86_400} * 86400",
        "TurnoutBudgetNearlyUsed": f"> {alerts.BUDGET_USED}",
        "TurnoutRetentionLate": f"> {alerts.RETENTION_LATE_S}",
        "TurnoutLoopStuck": f"> {alerts.LOOP_OVERDUE_S}",
        "TurnoutLoopFailing": f">= {alerts.LOOP_FAILURES}",
        "TurnoutLoopGateFails": f">= {alerts.LOOP_GATE_FAILURES}",
        "TurnoutGoldenRotationDue": "<= 0",
        "TurnoutLoopWaitsForApproval": f"> {alerts.LOOP_WAITS_S}",
    }
    for rule in (*alerts.RULES, alerts.DOWN):
        theirs = rules[rule.name]
        assert theirs["labels"]["severity"] == rule.severity, rule.name
        assert theirs["annotations"]["runbook_url"] == rule.runbook, rule.name
        assert limits.get(rule.name, "") in theirs["expr"], rule.name


@pytest.mark.slow
def test_it_reads_what_is_exported(tmp_path: Path) -> None:
    """Every metric that is named here is one that the gateway exports."""
    known = exported.ours(tmp_path)
    families = {name.removesuffix(end) for name in known for end in ("", "_bucket", "_count", "_sum")}
    named = {
        name
        for file in TOP.glob("*.py")
        for name in re.findall(r'"(turnout_\w+)"', file.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert named <= families | set(known)


def test_a_gateway_that_is_gone_is_an_alert() -> None:
    """The last frame stays on the screen, with the page that its silence is, once and first."""
    drift = alerts.Alert("TurnoutDriftFound", "ticket", "drift", "docs/runbooks/drift-found.md")
    frame = build(between(metrics(), metrics()), None, [drift], wall=WALL, alerts_by="metrics")
    gone = unreachable(unreachable(frame))
    assert [alert["name"] for alert in gone["alerts"]] == ["TurnoutGatewayDown", "TurnoutDriftFound"]


def test_what_is_no_metrics() -> None:
    """A page of another program is refused."""
    with pytest.raises(NotMetrics):
        parse("<html>\nhello{</html>", at=0.0)


def test_a_screen_holds_what_matters() -> None:
    """However many versions there are, the screen is not overfull, and names are text, not markup."""
    many = "\n".join(f'turnout_in_flight{{adapter="m@{n}"}} 1' for n in range(200))
    state = 'turnout_canary_state{route="support",candidate="support@4",state="running"} 1\n'
    units = 'turnout_experiment_units{route="support",arm="support@3"} 90\n'
    both = between(metrics(), metrics(requests=50, extra=state + units + many + "\n"))
    down = alerts.Alert("TurnoutNoReplica", "page", "no replica", "docs/runbooks/replica-down.md")
    frame = build(both, None, [down], wall=WALL, alerts_by="metrics")
    console = Console(width=160, height=40, record=True, force_terminal=False, file=io.StringIO())
    console.print(draw(frame, title="turnout top", note="careful", height=40))
    lines = console.export_text().splitlines()
    text = "\n".join(lines)
    assert len(lines) <= 40
    for said in ("support@4 running", "support@3 90", "TurnoutNoReplica", "careful", "more, less busy"):
        assert said in text, said
    wide = draw(build(between(metrics(), metrics()), None, [], wall=WALL, alerts_by="metrics"),
                title="t", note=None, height=60)  # fmt: skip
    other = Console(width=160, record=True, file=io.StringIO())
    other.print(wide)
    shown = other.export_text()
    assert "[red]@1" in shown
    assert "No alerts." in shown


class Fake:
    """A gateway and a Prometheus that say what a test wants; a status of 0 hangs up."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, str]] = {}
        self.keys: list[str | None] = []
        self.url = ""


@contextmanager
def fake_gateway() -> Iterator[Fake]:
    """Run one."""
    fake = Fake()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.keys.append(self.headers.get("authorization"))
            status, body = fake.pages.get(self.path, (404, "{}"))
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


STATUS = {"replicas": [], "problems": [], "controller": {"alive": True}}


def test_readings_go_on_while_the_gateway_is_away() -> None:
    """A gateway that fails and comes back is read again; what the last reading lacks is said."""
    ticks = iter(range(100))
    with fake_gateway() as fake, Client(fake.url, "tk-a-b") as api:
        fake.pages = {"/metrics": (200, metrics()), "/admin/status": (200, json.dumps(STATUS))}
        reader = Reader(api, clock=lambda: float(next(ticks)), wall=lambda: WALL)
        assert reader.read() is None
        frame = reader.read()
        assert frame is not None
        assert (frame["controller"], reader.note) == ({"alive": True}, None)
        for page in ((0, ""), (500, ""), (200, "<html>{"), (200, "other_metric 1\n")):
            fake.pages["/metrics"] = page
            with pytest.raises(CliError):
                reader.read()
        fake.pages = {"/metrics": (200, metrics(requests=12)), "/admin/status": (403, "{}")}
        frame = reader.read()
        assert frame is not None
        assert frame["fleet"]["requests_per_s"] > 0
        assert frame["problems"] is None
        assert "only the metrics are shown" in (reader.note or "")


def test_alerts_from_prometheus() -> None:
    """Prometheus' alerts stand in for ours, and it never gets the gateway's key; ours are back without it."""
    rows = [
        {"state": "pending", "labels": {"alertname": "B", "severity": "page"}, "annotations": {}},
        {
            "state": "firing",
            "labels": {"alertname": "A", "severity": "ticket"},
            "annotations": {"summary": "it burns", "runbook_url": "docs/a.md"},
        },
    ]
    with fake_gateway() as fake, fake_gateway() as prometheus, Client(fake.url, "tk-a-b") as api:
        fake.pages = {"/metrics": (200, metrics()), "/admin/status": (200, json.dumps(STATUS))}
        prometheus.pages = {"/api/v1/alerts": (200, json.dumps({"data": {"alerts": rows}}))}
        reader = Reader(api, prometheus=prometheus.url, wall=lambda: WALL)
        reader.read()
        frame = reader.read()
        assert frame is not None
        assert frame["alerts_by"] == "prometheus"
        found = [(alert["name"], alert["what"], alert["firing"]) for alert in frame["alerts"]]
        assert found == [("A", "it burns", True), ("B", "B", False)]
        assert prometheus.keys == [None]
        for body in ("{}", "no json", '{"data": {"alerts": 3}}'):
            prometheus.pages["/api/v1/alerts"] = (200, body)
            frame = reader.read()
            assert frame is not None
            assert (frame["alerts_by"], frame["alerts"]) == ("metrics", [])
            assert "Prometheus" in (reader.note or "")


def top(url: str, line: str) -> Any:
    """Run `turnout top`."""
    return CliRunner().invoke(
        build_app(), ["top", "--url", url, *line.split()], env={"TURNOUT_API_KEY": "tk-a-b"}
    )


@pytest.mark.slow
def test_once() -> None:
    """One frame for people or programs; the exit code says whether an alert fires, or nothing answers."""
    lease = metrics().replace(f"{WALL + 5}", "9e12")
    with fake_gateway() as fake:
        fake.pages = {"/metrics": (200, lease), "/admin/status": (200, json.dumps(STATUS))}
        shown = top(fake.url, "--once --interval 0.1")
        assert shown.exit_code == 0, shown.output
        assert "support@3" in shown.stdout
        document = json.loads(top(fake.url, "--once --interval 0.1 --json").stdout)
        assert (document["generation"], document["alerts"], document["note"]) == (7, [], None)
        fake.pages["/metrics"] = (200, lease + 'turnout_routes{state="failed"} 1\n')
        assert top(fake.url, "--once --interval 0.1").exit_code == 1
        gone = fake.url
    result = top(gone, "--once --interval 0.1")
    assert (result.exit_code, "nothing answers at" in result.stderr) == (1, True)


def test_a_scrape_without_a_metric() -> None:
    """What is not there is nothing, not an error."""
    assert Scrape(0.0).only("turnout_workers") is None
    assert Scrape(0.0).values("turnout_in_flight", adapter="a@1") == []
