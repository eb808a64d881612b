"""SIGHUP: the settings are read again, and what can change without a restart changes.

The supervisor reads them first and passes the signal on only when they are valid; each process then reads
them itself and takes what is its own. Settings that are wrong leave everything as it was. What the command
line or the environment sets stays: a process can't change its own.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from gateway.settings import Settings, SettingsError

RELOADABLE = frozenset(
    {
        "log.format",
        "log.level",
        "server.trusted_proxies",
        "limits.max_in_flight_per_replica",
        "limits.max_queue",
        "recording.capture",
        "retention.requests_h",
        "retention.feedback_h",
        "retention.drift_h",
        "shadow.retention_h",
    }
)
"""The settings that a running gateway or controller takes. Certificates are files, and are looked at too."""

_log = logging.getLogger("turnout.settings")
Take = Callable[[Settings], None]


def flat(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return every setting by its dotted name; those that are reloadable as a whole are one."""
    found: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value, path = getattr(settings, name), f"{prefix}{name}"
        if isinstance(value, BaseModel) and path not in RELOADABLE:
            found |= flat(value, f"{path}.")
        else:
            found[path] = value.get_secret_value() if isinstance(value, SecretStr) else value
    return found


class Reread:
    """What one process makes of SIGHUP."""

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        *,
        takes: Mapping[str, Take] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """`takes` are the settings that this process can change, and how; None is a process that has none.

        `tell` says what has to be said to people; by default the log.
        """
        self._known = flat(settings)
        self._read = read
        self._takes = takes or {}
        self._passes_on = takes is None
        self._tell = tell or (lambda text: _log.warning("%s", text))

    def again(self) -> bool:
        """Read the settings, and take what can be taken; False when they are wrong and nothing changed."""
        try:
            settings = self._read()
        except SettingsError as error:
            self._tell(f"the settings are not taken, those of before stay: {error}")
            return False
        found = flat(settings)
        changed = {name for name, value in found.items() if value != self._known[name]}
        taken = sorted(changed & (RELOADABLE if self._passes_on else self._takes.keys()))
        for take in dict.fromkeys(self._takes[name] for name in taken if name in self._takes):
            take(settings)
        self._known.update({name: found[name] for name in taken})
        if self._passes_on:
            self._say(taken, sorted(changed - RELOADABLE))
        elif taken:
            self._tell(f"settings taken: {', '.join(taken)}")
        return True

    def _say(self, taken: list[str], waiting: list[str]) -> None:
        what = f"settings read again: {', '.join(taken) or 'nothing to take'}"
        if waiting:
            what += f"; these need a restart: {', '.join(waiting)}"
        self._tell(what)
