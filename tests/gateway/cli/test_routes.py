"""`turnout routes`."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import waiting
from gateway.store.fleet import WorkerRow
from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run, documents

pytestmark = pytest.mark.slow

SHARES = [
    ("support@1", {"support@1": 1.0}),
    ("support@1 support@2", {"support@1": 0.5, "support@2": 0.5}),
    ("support@1=0.9 support@2=0.1", {"support@1": 0.9, "support@2": 0.1}),
    ("support@1 support@2=0.1", {"support@1": 0.9, "support@2": 0.1}),
    ("support@1=0 support@2=1", {"support@1": 0.0, "support@2": 1.0}),
    ("base support@1=.25 support@2=.25", {"base": 0.5, "support@1": 0.25, "support@2": 0.25}),
]


@pytest.mark.parametrize(("words", "expected"), SHARES)
def test_routes_set(run: Run, two: AdminService, words: str, expected: dict[str, float]) -> None:
    """Shares are as typed; arms without one divide what is left."""
    route = documents(run(f"routes set tour {words} --json"))
    assert {arm["adapter"]: arm["share"] for arm in route["spec"]["arms"]} == expected
    assert two.control.routes.get("tour") is not None


BAD_ARMS = [
    ("support@1=2", "not a number between 0 and 1"),
    ("support@1=x", "not a number between 0 and 1"),
    ("support@1=nan", "not a number between 0 and 1"),
    ("support@1=0.5 support@2=0.4", "leave 0.1"),
    ("support@1=0.9 support@2=0.9", "add up to 1.8"),
    ("support@1=1 support@2", "they must make 1"),
    ("support@1 support@1", "twice"),
]


@pytest.mark.parametrize(("words", "said"), BAD_ARMS)
def test_routes_set_refuses_wrong_shares(run: Run, two: AdminService, words: str, said: str) -> None:
    """Arms that make no whole are bad usage (2), and nothing is sent."""
    result = run(f"routes set tour {words}")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert two.control.routes.get("tour") is None


@pytest.mark.usefixtures("two")
def test_routes_set_a_shadow(run: Run) -> None:
    """A shadow is named with its share, stays while it is not named, and ends with `none`."""
    for words, shadow in (
        ("support@1 --shadow support@2=0.1", {"adapter": "support@2", "share": 0.1}),
        ("support@1 --sticky key", {"adapter": "support@2", "share": 0.1}),
        ("support@1 --shadow none", None),
    ):
        assert documents(run(f"routes set support {words} --json"))["spec"]["shadow"] == shadow
    for wrong in ("support@2", "support@2=2", "=1", ""):
        assert run(f"routes set support support@1 --shadow={wrong}").exit_code == 2


def test_routes_set_keeps_the_rest_of_the_spec(run: Run, two: AdminService) -> None:
    """Stickiness and capture stay until they are named; a canary ends."""
    run("routes set support support@1 --sticky key --capture sampled --capture-share 0.25")
    route = documents(run("routes set support support@2 --json"))
    assert (route["spec"]["sticky"], route["spec"]["capture"]["share"]) == ("key", 0.25)
    assert (
        documents(run("routes set support support@2 --capture off --json"))["spec"]["capture"]["mode"]
        == "off"
    )
    assert run("routes set support support@2").stdout.startswith("support: unchanged, generation")
    assert two.control.events.rows("support")[0].actor != ""


def test_routes_list_show_and_history(run: Run, two: AdminService) -> None:
    """What traffic meets and what is wanted; who changed it and why."""
    two.activate("support")
    run("routes set support support@1=0.9 support@2=0.1 --why canary")
    line = run("routes list").stdout.splitlines()[1]
    assert re.split(r" {2,}", line)[:4] == [
        "support", "preparing", "support@1 1", "support@1 0.9, support@2 0.1",
    ]  # fmt: skip
    shown = run("routes show support").stdout
    assert "wanted arms    support@1 0.9, support@2 0.1" in shown
    assert documents(run("routes list --json"))["data"][0] == documents(run("routes show support --json"))
    past = run("routes history support").stdout.splitlines()
    assert past[1].endswith("canary")
    assert documents(run("routes history support --limit 1 --json"))["data"][0]["why"] == "canary"


def test_routes_list_goes_through_all_pages(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many routes there are, all are listed."""
    monkeypatch.setattr("gateway.cli.client.PAGE", 2)
    for name in "abcde":
        run(f"routes set {name} base")
    assert [route["name"] for route in documents(run("routes list --json"))["data"]] == list("abcde")


def test_routes_promote_rollback_and_delete(run: Run, two: AdminService) -> None:
    """All traffic to one version, back again, and away."""
    assert "arms support@2 1" in run("routes promote support support@2").stdout
    assert "arms support@1 1" in run("routes rollback support --why worse").stdout
    missing = run("routes promote support")
    assert (missing.exit_code, "name the version to promote" in missing.stderr) == (1, True)
    generation = two.control.events.rows("support")[-1].generation
    assert run(f"routes rollback support --to-generation {generation}").exit_code == 0
    assert run("routes delete support --why over").stdout == "support deleted\n"
    gone = run("routes show support")
    assert (gone.exit_code, gone.stderr) == (1, "turnout: there is no route 'support'\n")


def test_routes_wait(run: Run, two: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--wait` ends when the route is active, fails with its reason, or when somebody else changed it."""

    def meanwhile(act: Callable[[], object]) -> None:
        monkeypatch.setattr(waiting.time, "sleep", lambda _: act())

    meanwhile(lambda: two.activate("support"))
    active = documents(run("routes set support support@2 --wait --json"))
    assert active["status"]["state"] == "active"
    meanwhile(lambda: two.fail("support", "no replica has room"))
    failed = run("routes promote support support@1 --wait")
    assert (failed.exit_code, failed.stderr) == (
        1,
        "turnout: the route support failed: no replica has room\n",
    )
    meanwhile(lambda: two.call("POST", "/admin/routes/support/promote", json={"adapter": "base"}))
    assert "was changed meanwhile" in run("routes rollback support --wait").stderr
    late = run("routes rollback support --wait --timeout 0")
    assert (late.exit_code, "after 0 s the route support is preparing" in late.stderr) == (1, True)


def test_routes_wait_for_the_workers(run: Run, two: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--wait` ends when every live worker has applied the change; a silent one is not waited for."""
    fleet = two.control.fleet
    fleet.beat(WorkerRow("gone", 0, {}, time.time() - 3600))

    def beat(generation: int) -> None:
        fleet.beat(WorkerRow("w0", generation, {}, time.time()))

    beat(0)
    run("routes set support support@2")
    two.activate("support")
    late = run("routes set support support@2 --wait --timeout 0")
    assert (
        late.exit_code,
        "after 0 s the route support is active, but not yet at the worker w0" in late.stderr,
    ) == (1, True)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        beat(two.control.generation() if len(naps) == 3 else 0)

    monkeypatch.setattr(waiting.time, "sleep", nap)
    assert run("routes set support support@2 --wait").exit_code == 0
    assert len(naps) == 3


FILES = {
    "one.json": '{"name": "support", "spec": {"arms": [{"adapter": "support@2", "share": 1}]}}',
    "many.json": '{"routes": {"support": {"arms": [{"adapter": "support@2", "share": 1}]}}}',
    "list.json": '[{"name": "support", "spec": {"arms": [{"adapter": "support@2", "share": 1}]}}]',
    "one.toml": 'name = "support"\n[spec]\narms = [{adapter = "support@2", share = 1}]\n',
    "many.toml": '[[routes.support.arms]]\nadapter = "support@2"\nshare = 1.0\n',
}


@pytest.mark.parametrize("name", FILES)
def test_routes_apply(run: Run, two: AdminService, tmp_path: Path, name: str) -> None:
    """A file in each of its forms is applied once; again it changes nothing."""
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    two.activate("support")
    assert run(f"routes apply -f {name}").stdout.startswith("support: changed, generation")
    two.activate("support")
    assert run(f"routes apply -f {name} --wait").stdout.startswith("support: unchanged, generation")
    assert run("routes apply -f -", stdin=FILES[name]).stdout.startswith("support: unchanged")
    done = documents(run(f"routes apply -f {name} --json"))["data"]
    assert [(one["name"], one["changed"]) for one in done] == [("support", False)]


@pytest.mark.usefixtures("two")
def test_routes_apply_takes_what_list_prints(run: Run) -> None:
    """The JSON of `routes list` can be applied as it is."""
    printed = run("routes list --json").stdout
    assert run("routes apply -f -", stdin=printed).stdout.startswith("support: unchanged")


BAD_FILES = [
    ("{", "not valid JSON"),
    ("a = ", "not valid TOML"),
    ("{}", "expected `routes`"),
    ('{"routes": {}}', "names no route"),
    ('{"routes": [1]}', "expected `routes`"),
    ('{"routes": {"a": 1}}', "`name` and a `spec`"),
    ('{"name": "a", "spec": {"arms": []}}', "the route 'a': arms:"),
    ('{"name": "a", "spec": {"arms": [{"adapter": "a@1", "share": 0.5}]}}', "add up to 0.5"),
    (
        '[{"name": "a", "spec": {"arms": [{"adapter": "base", "share": 1}]}}, {"name": "b", "spec": {}}]',
        "'b'",
    ),
]


@pytest.mark.parametrize(("text", "said"), BAD_FILES)
def test_routes_apply_checks_the_whole_file_first(
    run: Run, admin: AdminService, text: str, said: str
) -> None:
    """A file with one fault changes nothing; the message says where it is, on one line."""
    result = run("routes apply -f -", stdin=text)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert admin.control.routes.rows() == []
    assert run("routes apply -f none.json").exit_code == 1
