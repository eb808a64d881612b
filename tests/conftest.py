"""What holds for every test."""

import os
import signal
import ssl
from collections.abc import Iterator
from typing import Any

import httpx._transports.default as transports
import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure: no test is about time, and pytest's own limit ends what hangs. The cases are
# the same in every run, so that it fails for what was changed: --hypothesis-profile=explore looks for others.
settings.register_profile(
    "turnout", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("turnout")


def pytest_configure() -> None:
    """Undo what nohup and a shell's `&` do to signals: what is ignored here would be in every child too.

    A handler is not inherited by programs that are started, so that theirs are the usual ones.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _certificates_are_read_once() -> Iterator[None]:
    """Read the certificate authorities once: httpx does it for each client, at 20 ms of CPU, TLS or not."""
    made = transports.create_ssl_context
    known: dict[tuple[bool, str | None, str | None], ssl.SSLContext] = {}

    def once(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is not True or cert is not None:
            return made(verify=verify, cert=cert, trust_env=trust_env)
        key = (trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        if key not in known:
            known[key] = made(trust_env=trust_env)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transports, "create_ssl_context", once)
        yield
