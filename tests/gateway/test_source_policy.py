"""What the settings let the admin API read."""

from pathlib import Path

import pytest

from gateway.configs import source_policy
from gateway.settings import Settings

CASES = {
    "loopback": ({}, None),
    "loopback, confined": ({"registry": {"source_roots": ["/srv/a"]}}, (Path("/srv/a"),)),
    "every address": ({"server": {"host": "0.0.0.0"}}, ()),  # noqa: S104 - the case in question
    "every address, confined": (
        {"server": {"host": "0.0.0.0"}, "registry": {"source_roots": ["/srv/a"]}},  # noqa: S104
        (Path("/srv/a"),),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_local_sources(case: str) -> None:
    """Any path while only this machine can ask; otherwise the folders that were named, or none."""
    given, roots = CASES[case]
    assert source_policy(Settings.model_validate(given)).roots == roots


def test_the_other_settings_arrive() -> None:
    """Kinds, private addresses, size and time are what the settings say; nothing private by default."""
    policy = source_policy(
        Settings.model_validate(
            {"registry": {"remote_sources": ["s3"], "max_source_bytes": 5000, "fetch_timeout_s": 7}}
        )
    )
    assert (policy.remote, policy.private_addresses) == (("s3",), False)
    assert (policy.max_bytes, policy.timeout_s) == (5000, 7)
