"""What can be said of the locked packages offline: for advisories, `make audit` asks PyPI."""

import importlib.metadata
import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
LOCKS = tuple(sorted(REQUIREMENTS.glob("*.txt")))
PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)==={0,1}(?P<version>[A-Za-z0-9.!+]+)")
FITS = re.compile(r"MIT|BSD|Apache|PSF|Python Software|ISC|MPL|Mozilla|Unlicense|CC0", re.IGNORECASE)
EXCEPTIONS = {
    # Imported unchanged, as packages of their own, which the LGPL allows of any program.
    "psycopg": "LGPL-3.0-only",
    "psycopg-binary": "LGPL-3.0-only",
    "pycountry": "LGPL-2.1-only",
    # Intel's runtime of OpenMP, free to pass on, below PyTorch's CPU build; in no lock of the gateway.
    "intel-cmplr-lib-ur": "Other/Proprietary License",
    "intel-openmp": "Other/Proprietary License",
    # These say it in a file only: MIT, Apache-2.0, Apache-2.0, BSD-2-Clause, MIT, MIT, BSD-3-Clause.
    "huey": "",
    "oss-harmony": "",
    "vllm-bnb-plugin": "",
    "prometheus-fastapi-instrumentator": "OSI Approved",
    "promql-parser": "",
    "setuptools": "",
    "skops": "OSI Approved",
}


def pins(lock: Path) -> dict[str, str]:
    """The packages of a lock with their versions."""
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    found = [PIN.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    return {match["name"]: match["version"] for match in found if match is not None}


def licence(name: str) -> str | None:
    """What an installed package says of its licence; None when it is not installed."""
    try:
        known = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    classified = [
        line.rsplit(" :: ", 1)[1] for line in known.get_all("Classifier", []) if "License ::" in line
    ]
    said = known.get("License-Expression") or "; ".join(classified) or known.get("License") or ""
    return said.strip().split("\n", 1)[0]


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.name for lock in LOCKS])
def test_a_lock_pins_every_package(lock: Path) -> None:
    """Each line is one version of one package: no range, no address, no option of pip."""
    assert len(pins(lock)) > 20


def test_the_tests_run_with_what_is_locked() -> None:
    """The gateway's packages are installed here in the very versions that its lock names."""
    locked = pins(REQUIREMENTS / "gateway.txt")
    locked.pop("setuptools", None)  # a virtual environment may bring its own
    assert {name: importlib.metadata.version(name) for name in locked} == locked


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.name for lock in LOCKS])
def test_licences_fit(lock: Path) -> None:
    """Each installed package may be used by a program under the Apache License; exceptions are listed."""
    said = {name: licence(name) for name in pins(lock)}
    odd = {name: it for name, it in said.items() if it is not None and not FITS.search(it)}
    assert odd == {name: it for name, it in EXCEPTIONS.items() if name in odd}
    if lock.name == "gateway.txt":
        assert set(odd) <= {"psycopg", "psycopg-binary", "setuptools"}
