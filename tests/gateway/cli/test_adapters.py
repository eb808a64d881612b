"""`turnout adapters`."""

import io
import re
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import insert

from adapters import collect
from adapters.collect import RETENTION_S
from gateway.cli.progress import following
from gateway.store import clock
from gateway.store.schema import names
from tests.adapters.folders import make_adapter
from tests.adapters.sources.tars import PACK, adapter_entries, tar_of
from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run, documents

pytestmark = pytest.mark.slow


def test_adapters_add_and_list(run: Run, tmp_path: Path) -> None:
    """A relative folder is added; adding it again says so; the list shows what is where."""
    make_adapter(tmp_path / "mine")
    first = run("adapters add support mine --why first")
    assert (first.exit_code, first.stdout) == (0, "support@1 added (0.4 KiB)\n")
    assert run("adapters add support mine").stdout == "support@1 was there already (0.4 KiB)\n"
    make_adapter(tmp_path / "next", seed=1)
    second = run("adapters add support next")
    assert "turnout routes set support support@2" in second.stderr
    lines = run("adapters list").stdout.splitlines()
    assert re.split(r" {2,}", lines[0]) == [
        "VERSION",
        "STATE",
        "DIGEST",
        "ATTESTED ON",
        "LAST PROOF",
        "ROUTES",
        "REQUESTS 24H",
        "TOKENS 24H",
        "COLD LOADS",
        "EVICTIONS",
        "RANK",
        "SIZE",
        "ADDED",
    ]
    assert [line.split()[:2] for line in lines[1:]] == [["support@2", "stored"], ["support@1", "stored"]]
    rows = documents(run("adapters list support --json"))["data"]
    assert [row["adapter"] for row in rows] == ["support@2", "support@1"]
    assert documents(run("adapters add support mine --json"))["adapter"] == "support@1"


def test_adapters_add_a_tar(run: Run, tmp_path: Path) -> None:
    """A tar is added like a folder; what can't be had says why."""
    (tmp_path / "mine.tar.gz").write_bytes(PACK["tar.gz"](tar_of(adapter_entries(tmp_path / "made"))))
    added = run("adapters add support mine.tar.gz")
    assert (added.exit_code, added.stdout) == (0, "support@1 added (0.4 KiB)\n")
    refused = run("adapters add support http://example.com/a.tar")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("turnout: http:// can be changed on its way")
    assert "is not a folder" in run("adapters add support nothing").stderr


def test_adapters_list_in_parts(run: Run, admin: AdminService) -> None:
    """A long list stops at the limit and says so, and goes on with --all; usage and proofs stand in it."""
    for seed in range(3):
        admin.adapter(seed=seed)
    admin.controller()
    admin.register(admin.control.versions.rows()[0].ref, "attested")
    short = run("adapters list --limit 2")
    assert [line.split()[0] for line in short.stdout.splitlines()] == ["VERSION", "support@3", "support@2"]
    assert short.stderr == "There are more: --limit 4, or --all.\n"
    assert "r0" in short.stdout
    assert "1970-01-01 00:00:01Z" in short.stdout
    assert "more" not in run("adapters list --all").stderr
    assert len(run("adapters list --all").stdout.splitlines()) == 4
    document = documents(run("adapters list --limit 2 --json"))
    assert (len(document["data"]), document["more"]) == (2, True)
    assert document["data"][0]["state"] == "attested"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the stage and the bytes are drawn; elsewhere nothing is."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    line = {"stage": "fetching", "done_bytes": 512, "total_bytes": 1024}
    with following("adding support") as heard:
        heard(line)
    assert stream.getvalue() == ""
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with following("adding support") as heard:
        heard(line)
        time.sleep(0.15)  # Rich draws ten times a second
    assert "adding support: fetching" in stream.getvalue()


def test_adapters_show_and_retire(run: Run, two: AdminService) -> None:
    """One version with its facts; retiring it shows in its state."""
    two.controller()
    two.register(two.control.versions.rows()[0].ref, "failed", reason="unlike its reference")
    shown = run("adapters show support@2").stdout
    assert "rank, alpha  4, 8" in shown
    assert "on r0  failed: unlike its reference (1970-01-01 00:00:01Z)" in shown
    assert documents(run("adapters show support@2 --json"))["manifest"]["rank"] == 4
    assert run("adapters retire support@2 --why poor").stdout == "support@2 retired\n"
    assert "state        retired" in run("adapters show support@2").stdout
    refused = run("adapters retire support@1")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == (
        "turnout: support@1 is named by the route support; point it at another version first\n"
    )


def test_adapters_add_waits_for_attestation(run: Run, admin: AdminService, tmp_path: Path) -> None:
    """`--wait` ends when a replica has attested the version and its new route is active."""
    make_adapter(tmp_path / "mine")
    admin.controller()
    late = run("adapters add support mine --wait --timeout 0")
    assert (late.exit_code, "after 0 s support@1 is not registered yet" in late.stderr) == (1, True)
    ref = admin.control.versions.rows()[0].ref
    admin.register(ref, "registered")
    assert "support@1 is registered;" in run("adapters add support mine --wait --timeout 0").stderr
    admin.register(ref, "failed", reason="unlike its reference")
    failed = run("adapters add support mine --wait")
    assert (failed.exit_code, failed.stderr) == (1, "turnout: support@1 failed: unlike its reference\n")
    admin.register(ref)
    assert (
        "after 0 s the route support is preparing"
        in run("adapters add support mine --wait --timeout 0").stderr
    )
    admin.activate("support")
    assert run("adapters add support mine --wait").exit_code == 0


def test_adapters_add_waits_for_the_first_route_whatever_its_number(
    run: Run, admin: AdminService, tmp_path: Path
) -> None:
    """After a restore a first version can have a large number; `--wait` waits for its route too."""
    make_adapter(tmp_path / "mine")
    admin.controller()
    with admin.control.database.write() as connection:
        connection.execute(insert(names).values(name="support", last_version=1000))
    assert "support@1001 is not registered" in run("adapters add support mine --wait --timeout 0").stderr
    admin.register(admin.control.versions.rows()[0].ref)
    assert "the route support is preparing" in run("adapters add support mine --wait --timeout 0").stderr
    admin.activate("support")
    assert run("adapters add support mine --wait").exit_code == 0


def test_adapters_gc(run: Run, two: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run only says what would go; without it the files of an old retired version go, and no others."""
    versions = {row.digest.removeprefix("sha256:") for row in two.control.versions.rows()}
    for blob in (two.registry.root / "blobs").iterdir():  # of tests before this one
        if blob.name not in versions:
            shutil.rmtree(blob)
    run("adapters retire support@2")
    assert run("adapters gc").stderr == "0 of 2 blobs removed (0.0 KiB)\n"
    later = SimpleNamespace(time=lambda: time.time() + 2 * RETENTION_S)
    for module in (collect, clock):
        monkeypatch.setattr(module, "time", later)
    assert "1 of 2 blobs would be removed" in run("adapters gc --dry-run").stderr
    kept = {blob["kept_because"] for blob in documents(run("adapters gc --dry-run --json"))["data"]}
    assert kept == {None, "support@1 is active"}
    removed = run("adapters gc --why space")
    assert (removed.exit_code, removed.stdout.startswith("sha256:")) == (0, True)
    assert run("adapters gc").stderr == "0 of 1 blobs removed (0.0 KiB)\n"
    (event,) = [event for event in two.control.events.rows() if event.action == "blob.remove"]
    assert event.why == "space"
