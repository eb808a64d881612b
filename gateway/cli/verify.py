"""`turnout adapters verify`: prove a version now on every replica that has it, and print the figures."""

import time
from typing import Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.group import CliError
from gateway.cli.options import DEFAULT_TIMEOUT_S, DEFAULT_URL, ApiKey, Json, Timeout, Url, Why
from gateway.cli.output import note, print_fields, print_json, print_table, when

POLL_S = 0.2
Proofs = dict[str, dict[str, Any] | None]


def verify(
    version: Annotated[str, typer.Argument(metavar="NAME@N", help="The version.")],
    *,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew", help="Forget the answers that the fleet has recorded of it, and record new ones."
        ),
    ] = False,
    why: Why = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Prove a version now, on every replica that has it. Exit code 1 unless every proof passes."""
    from gateway.cli.adapters import path_of  # noqa: PLC0415 - that module mounts this command

    path = path_of(version)
    with Client(url, api_key) as api:
        _, wish = api.call("POST", f"{path}/verify", body={"anew": anew, "why": why})
        proofs = _await_proofs(api, path, wish, timeout_s=timeout)
        found = api.get(path)
    passed = all(proof is not None and proof["state"] == "attested" for proof in proofs.values())
    if json:
        print_json(_document(found, proofs, passed=passed))
    else:
        _print(found, proofs)
    if not passed:
        raise typer.Exit(1)


def _await_proofs(api: Client, path: str, wish: dict[str, Any], *, timeout_s: float) -> Proofs:
    """Poll until every replica has answered the wish or the time is up; None where one has not."""
    proofs: Proofs = dict.fromkeys(wish["replicas"])
    deadline = time.monotonic() + timeout_s
    while True:
        here = {row["replica"]: row for row in api.get(path)["registrations"] if row["current"]}
        for replica in [replica for replica, proof in proofs.items() if proof is None]:
            row = here.get(replica)
            if row is not None and (row["figures"] or {}).get("asked", 0) >= wish["asked"]:
                proofs[replica] = row
                note(f"  {replica}: {row['state']}")
        if all(proof is not None for proof in proofs.values()) or time.monotonic() >= deadline:
            return proofs
        time.sleep(POLL_S)


def _document(found: dict[str, Any], proofs: Proofs, *, passed: bool) -> dict[str, Any]:
    reference = found["manifest"].get("reference") or {}
    return {
        "adapter": found["adapter"],
        "digest": found["digest"],
        "passed": passed,
        "recorded_separation": reference.get("separation"),
        "recorded_noise": reference.get("noise"),
        "proofs": [
            {
                "replica": replica,
                "verdict": _verdict(proof),
                "strength": _strength(proof),
                **{key: proof[key] if proof else None for key in ("incarnation", "reason", "at", "figures")},
            }
            for replica, proof in proofs.items()
        ],
    }


def _print(found: dict[str, Any], proofs: Proofs) -> None:
    reference = found["manifest"].get("reference") or {}
    apart = reference.get("separation") or {}
    before = "" if apart.get("predecessor") is None else f", predecessor {apart['predecessor']:g}"
    print_fields(
        [
            ("version", found["adapter"]),
            ("digest", found["digest"]),
            ("separation", f"base {apart['base']:g}{before} times the noise" if apart else "not recorded"),
        ]
    )
    print_table(
        [
            "REPLICA",
            "VERDICT",
            "PROOF",
            "REFERENCE",
            "TO IT",
            "PREDECESSOR",
            "BASE",
            "NOISE",
            "SECONDS",
            "AT",
        ],
        [_cells(replica, proof) for replica, proof in proofs.items()],
    )
    for replica, proof in proofs.items():
        if proof is None:
            raise CliError(f"{replica} has not answered; `turnout status` says what is wrong")
        typer.echo(f"{replica}: incarnation {proof['incarnation']}")
        if reason := proof["reason"] or proof["figures"].get("weak"):
            typer.echo(f"{replica}: {reason}")


def _cells(replica: str, proof: dict[str, Any] | None) -> list[object]:
    figures = (proof or {}).get("figures") or {}
    shown = ("distance_to_reference", "distance_to_predecessor", "distance_to_base", "noise")
    return [
        replica,
        _verdict(proof),
        _strength(proof),
        figures.get("reference"),
        *(None if figures.get(name) is None else f"{figures[name]:.3f}" for name in shown),
        None if figures.get("seconds") is None else f"{figures['seconds']:.2f}",
        when(proof["at"] if proof else None),
    ]


def _verdict(proof: dict[str, Any] | None) -> str:
    return "no answer" if proof is None else "proved" if proof["state"] == "attested" else "failed"


def _strength(proof: dict[str, Any] | None) -> str | None:
    if proof is None or proof["state"] != "attested":
        return None
    return "weak" if proof["figures"].get("weak") else "strong"
