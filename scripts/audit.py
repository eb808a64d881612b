"""Ask PyPI's advisories for known weaknesses of every locked package: `make audit`.

    .venv/bin/python scripts/audit.py [--json]

pip-audit does the asking, in an environment of its own under .cache/, since it brings two dozen packages that
nothing else needs. It needs the network, so `make test` does not run it. A package that could not be asked
about is reported and is not taken for a safe one.

Exit code 0 when every package was asked about and none has an advisory, 1 when one has, 3 when something
could not be asked about.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PIP_AUDIT = "pip-audit==2.10.1"
PLACE = ROOT / ".cache" / "audit" / PIP_AUDIT
ASKING_S = 900.0
FOUND, UNKNOWN = 1, 3


def main() -> int:
    """Audit every lock; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    options = parser.parse_args()
    try:
        program = _installed()
        packages = {lock.stem: _ask(program, lock) for lock in sorted((ROOT / "requirements").glob("*.txt"))}
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        print(f"the locks could not be audited: {error}", file=sys.stderr)
        return UNKNOWN
    weak, unknown = sort_out(packages)
    if options.json:
        print(json.dumps({"weak": weak, "not_asked_about": unknown}, indent=2))
    else:
        for name, advisories in weak.items():
            print(f"{name}: {', '.join(advisories)}")
        count = len({_called(one) for lock in packages.values() for one in lock})
        print(
            f"{count} packages: {len(weak)} with known weaknesses, {len(unknown)} could not be asked about"
            + (f", such as {', '.join(unknown[:3])}" if unknown else "")
        )
    return FOUND if weak else UNKNOWN if unknown else 0


def sort_out(packages: dict[str, list[dict[str, Any]]]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the advisories of each weak package, and the packages that nobody answered for.

    `packages` are pip-audit's `dependencies` by lock. A package is called `name version`.
    """
    weak: dict[str, list[str]] = {}
    unknown: set[str] = set()
    for found in packages.values():
        for one in found:
            name = _called(one)
            if "skip_reason" in one:
                unknown.add(name)
            elif one["vulns"]:
                weak[name] = sorted(vulnerability["id"] for vulnerability in one["vulns"])
    return dict(sorted(weak.items())), sorted(unknown)


def _called(one: dict[str, Any]) -> str:
    return f"{one['name']} {one.get('version', '')}".strip()  # one that was skipped comes without its version


def _installed() -> Path:
    """Return pip-audit's program, installed when it is not there yet."""
    program = PLACE / "bin" / "pip-audit"
    if not program.is_file():
        print(f"installing {PIP_AUDIT} …", file=sys.stderr)
        venv.create(PLACE, with_pip=True, clear=True)
        pip = [str(PLACE / "bin" / "python"), "-m", "pip", "install", "--quiet", PIP_AUDIT]
        subprocess.run(pip, check=True, timeout=ASKING_S)
    return program


def _ask(program: Path, lock: Path) -> list[dict[str, Any]]:
    print(f"asking about requirements/{lock.name} …", file=sys.stderr)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as copy:
        copy.write(lock.read_text(encoding="utf-8").replace("===", "=="))  # which pip-audit can't read
        copy.flush()
        command = [str(program), "--requirement", copy.name, "--no-deps", "--disable-pip"]
        asked = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            check=False,
            timeout=ASKING_S,
        )
    if not asked.stdout.strip():  # it also ends with 1 when it has found something
        raise ValueError(asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else "no answer")
    found: list[dict[str, Any]] = json.loads(asked.stdout)["dependencies"]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
