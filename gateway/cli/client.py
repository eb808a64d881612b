"""The CLI's way to the gateway: JSON over HTTP, and failures as sentences that say what to do."""

import json
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from gateway.cli.group import CliError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 300.0
PAGE = 200
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LOST = (
    "the connection to {url} was lost ({what}); the work goes on there, and doing it again is safe: known "
    "content is not added twice"
)


class Client:
    """Calls one gateway with one key. Every method raises CliError when the call fails."""

    def __init__(self, url: str, api_key: str | None) -> None:
        import httpx  # noqa: PLC0415 - 0.2 s that `--help` need not pay

        self.url = url.rstrip("/")
        self._has_key = bool(api_key)
        headers = {"Authorization": f"Bearer {_checked(api_key)}"} if api_key else {}
        try:
            # A proxy of the environment can't reach this machine's own loopback.
            self._http = httpx.Client(
                base_url=_checked_url(self.url),
                headers=headers,
                timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                trust_env=urlsplit(self.url).hostname not in _LOOPBACK,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise CliError(f"{self.url!r} is not an address like http://127.0.0.1:8080") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """Return the document at `path`."""
        return self.call("GET", path, params=params)[1]

    def find(self, path: str) -> Any:
        """Return the document at `path`, or None when there is none."""
        status, document = self.raw("GET", path)
        if status >= 400 and status != 404:
            raise CliError(self._refusal(status, document))
        return None if status == 404 else document

    def text(self, path: str) -> str:
        """Return what is at `path`, as text."""
        answer = self._answer("GET", path)
        if answer.is_success:
            return str(answer.text)
        try:
            document = answer.json()
        except ValueError:
            document = None
        raise CliError(self._refusal(answer.status_code, document))

    def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Make one call and return its status and document. Parameters that are None are left out."""
        status, document = self.raw(method, path, params=params, body=body, headers=headers)
        if status >= 400:
            raise CliError(self._refusal(status, document))
        return status, document

    def raw(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Make one call and return whatever the gateway said; the document is None when it is not JSON."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        answer = self._answer(method, path, params=given, json=body, headers=headers)
        try:
            return answer.status_code, answer.json() if answer.content else None
        except ValueError as error:
            if answer.is_success:
                raise CliError(f"{self.url} answers, but not as a Turnout gateway does") from error
            return answer.status_code, None

    def _answer(self, method: str, path: str, **what: Any) -> Any:
        import httpx  # noqa: PLC0415 - as above

        try:
            return self._http.request(method, path, **what)
        except httpx.ConnectError as error:
            raise CliError(self._nobody()) from error
        except httpx.TimeoutException as error:
            raise CliError(f"{self.url} did not answer in time; try again, or see its log") from error
        except httpx.HTTPError as error:
            raise CliError(f"the call to {self.url} failed ({type(error).__name__}); try again") from error

    def follow(self, path: str, *, body: Any, heard: Callable[[dict[str, Any]], None]) -> tuple[int, Any]:
        """POST what takes long and return its status and document; `heard` gets each line of progress.

        Interrupting it stops the watching, not the work.
        """
        import httpx  # noqa: PLC0415 - as above

        headers = {"accept": "application/x-ndjson, application/json"}
        try:
            with self._http.stream("POST", path, json=body, headers=headers) as answer:
                if answer.status_code >= 400 or "ndjson" not in answer.headers.get("content-type", ""):
                    answer.read()
                    document = answer.json() if answer.content else None
                    if answer.status_code >= 400:
                        raise CliError(self._refusal(answer.status_code, document))
                    return answer.status_code, document
                for line in answer.iter_lines():
                    told = json.loads(line)
                    if "status" not in told:
                        heard(told)
                    elif told["status"] >= 400:
                        raise CliError(self._refusal(told["status"], told))
                    else:
                        return int(told["status"]), told["adapter"]
        except httpx.ConnectError as error:
            raise CliError(self._nobody()) from error
        except httpx.HTTPError as error:
            raise CliError(_LOST.format(url=self.url, what=type(error).__name__)) from error
        except ValueError as error:
            raise CliError(f"{self.url} answers, but not as a Turnout gateway does") from error
        raise CliError(_LOST.format(url=self.url, what="it ended early"))

    def pages_after(
        self, path: str, *, at_most: int | None = None, **params: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list that is paged by its last row, all of them or the first `at_most`."""
        after: str | None = None
        left = at_most
        while left is None or left > 0:
            page = self.get(path, limit=min(PAGE, left or PAGE), after=after, **params)
            yield from page["data"]
            left = None if left is None else left - len(page["data"])
            after = page["next_after"]
            if after is None:
                return

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield every row of a list that is paged by offset."""
        offset: int | None = 0
        while offset is not None:
            page = self.get(path, limit=PAGE, offset=offset, **params)
            yield from page["data"]
            offset = page["next_offset"]

    def _nobody(self) -> str:
        return (
            f"nothing answers at {self.url}: is `turnout serve` running there? (--url or TURNOUT_URL "
            "names another address)"
        )

    def _refusal(self, status: int, document: Any) -> str:
        if status == 401 and self._has_key:
            return "the API key in TURNOUT_API_KEY (or --api-key) is not valid for this gateway"
        if status == 401:
            return "this gateway needs a key: set TURNOUT_API_KEY to one with the role admin"
        if status == 403:
            return (
                "the key in TURNOUT_API_KEY lacks the role admin; use another, or make one with "
                "`turnout keys create --role admin`"
            )
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            return str(error["message"])
        return f"{self.url} answered HTTP {status}; is it a Turnout gateway?"


def segment(text: object) -> str:
    """Return `text` as one segment of a path.

    Raises:
        CliError: it would be more than one, or lead elsewhere.
    """
    plain = str(text)
    if "/" in plain or plain in {"", ".", ".."}:
        raise CliError(f"{plain!r} is not a name")
    return quote(plain, safe="@")


def _checked(api_key: str) -> str:
    """Refuse what no header can carry, here, where no library repeats the key in its message."""
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise CliError("the API key holds a character that no key has; set TURNOUT_API_KEY again")
    return api_key


def _checked_url(url: str) -> str:
    if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
        raise ValueError(url)
    return url
