"""No secret lies in the repository: every file is searched with the patterns of detect-secrets."""

import re
import subprocess
from pathlib import Path

import pytest
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.slack import SlackDetector

ROOT = Path(__file__).resolve().parent.parent
# Those with patterns of their own: the ones that go by entropy or by names find digests and tests.
DETECTORS: tuple[RegexBasedDetector, ...] = (
    AWSKeyDetector(),
    BasicAuthDetector(),
    GitHubTokenDetector(),
    GitLabTokenDetector(),
    JwtTokenDetector(),
    NpmDetector(),
    OpenAIDetector(),
    PrivateKeyDetector(),
    PypiTokenDetector(),
    SlackDetector(),
)
MADE_UP = {
    "adapters/sources/https.py": "the shape of an address with a password, in a comment",
    "tests/adapters/sources/test_fetching.py": "addresses with passwords, which must not come back",
    "tests/adapters/sources/test_names.py": "the same",
    "tests/gateway/cli/test_doctor.py": "an address with a password, which must not be printed",
    "docs/postgresql.md": "the shape of a store's address",
    "tests/gateway/test_backups.py": "the shape of a store's address",
    "tests/gateway/test_logs.py": "what must not stand in a log",
    "tests/gateway/test_recording.py": "what redaction must find in a prompt",
    "tests/test_project.py": "a pattern that finds addresses",
    "tests/training/data/test_personal.py": "what masking must find in a row",
    "tests/training/evaluation/test_cli.py": "an address with a password, which must not stand in a report",
    "tests/training/evaluation/test_endpoint.py": "the same",
    "tests/training/test_cli.py": "an address with a password, which must not be written down",
    "tests/training/runs/test_files.py": "addresses with passwords, which must not be written down",
    "tests/training/runs/test_order.py": "the same",
    "tests/training/runs/test_sources.py": "the same",
}
"""Files with secrets that were made up for the purpose, and the purpose."""

# A key of our own: `tk-`, its public id, and the secret (gateway/auth.py).
_OUR_KEY = re.compile(r"\btk-[0-9a-z]+-[0-9A-Za-z]{30,}\b")


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _found_in(text: str) -> set[str]:
    """Return the kinds of secrets in a text. Whole texts at once: line by line it takes a minute."""
    return {detector.secret_type for detector in DETECTORS if any(detector.analyze_string(text))}


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8", errors="ignore")


def test_no_file_holds_a_secret() -> None:
    """Only the files that are listed here hold anything like a secret, and each of them still does."""
    found = {name: kinds for name in _tracked() if (kinds := _found_in(_text(name)))}
    assert {name: kinds for name, kinds in found.items() if name not in MADE_UP} == {}
    assert set(MADE_UP) <= set(found), "a file that is excused here has nothing to excuse any more"


def test_the_scan_finds_what_it_looks_for() -> None:
    """A text with a private key and a token is found: the scan is not blind."""
    held = 'KEY = "-----BEGIN ' + 'RSA PRIVATE KEY-----"\nTOKEN = "ghp_' + "a1B2" * 9 + '"\n'
    assert _found_in(held) == {"GitHub Token", "Private Key"}


def test_no_key_of_our_own_is_kept() -> None:
    """No file holds what looks like an API key of Turnout that was in use."""
    keys = {
        name: found[0]
        for name in _tracked()
        if name not in MADE_UP and (found := _OUR_KEY.findall(_text(name)))
    }
    assert keys == {}
