"""Reads what `turnout top` shows, over and over; a gateway that is away for a while ends nothing."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from gateway.cli.client import Client
from gateway.cli.group import CliError
from gateway.cli.top import alerts
from gateway.cli.top.frame import build
from gateway.cli.top.scrape import Between, NotMetrics, Scrape, parse

PROMETHEUS_TIMEOUT_S = 5.0


class Reader:
    """Reads one gateway, by its metrics and its admin API, and Prometheus when that is named."""

    def __init__(
        self,
        api: Client,
        *,
        prometheus: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._prometheus = prometheus.rstrip("/") if prometheus else None
        self._clock = clock
        self._wall = wall
        self._before: Scrape | None = None
        self.note: str | None = None
        """What is amiss with the last reading; None when it was whole."""

    def read(self) -> dict[str, Any] | None:
        """Return the next frame; None for the first reading, which has nothing to compare with.

        Raises:
            CliError: the gateway's metrics can't be read. The next call tries again.
        """
        self.note = None
        text = self._api.text("/metrics")
        try:
            scrape = parse(text, at=self._clock())
        except NotMetrics as error:
            raise CliError(
                f"{self._api.url}/metrics can't be read: {error}; is it a Turnout gateway?"
            ) from error
        if not scrape.samples.get("turnout_table_generation"):
            raise CliError(
                f"{self._api.url}/metrics has nothing of Turnout's; with server.admin_port, that port has it"
            )
        before, self._before = self._before, scrape
        if before is None:
            return None
        between = Between(before, scrape)
        wall = self._wall()
        found, by = self._alerts(scrape, between, wall)
        return build(between, self._status(), found, wall=wall, alerts_by=by)

    def _status(self) -> dict[str, Any] | None:
        try:
            status: dict[str, Any] = self._api.get("/admin/status")
        except CliError as error:
            self._say(f"only the metrics are shown: {error}")
            return None
        return status

    def _alerts(self, scrape: Scrape, between: Between, wall: float) -> tuple[list[alerts.Alert], str]:
        if self._prometheus is not None:
            try:
                return self._of_prometheus(self._prometheus), "prometheus"
            except CliError as error:
                self._say(str(error))
        return alerts.now(scrape, between, wall=wall), "metrics"

    def _of_prometheus(self, url: str) -> list[alerts.Alert]:
        import httpx  # noqa: PLC0415 - 0.2 s that `--help` need not pay

        loopback = urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}
        try:
            # Not by the gateway's client: its key is nobody else's business.
            answer = httpx.get(f"{url}/api/v1/alerts", timeout=PROMETHEUS_TIMEOUT_S, trust_env=not loopback)
            return alerts.of_prometheus(answer.raise_for_status().json())
        except httpx.HTTPStatusError as error:
            raise CliError(f"Prometheus at {url} answered HTTP {error.response.status_code}") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise CliError(f"Prometheus at {url} can't be asked ({type(error).__name__})") from error

    def _say(self, text: str) -> None:
        self.note = text if self.note is None else f"{self.note}; {text}"
