"""Who changes something, as the audit log has it."""

from typing import Self


class Who(str):
    """The id of a key or of a part of the gateway, as a text; beside it the key's label and the address.

    It is a text so that whoever hands an actor on needs to know nothing of logs; `gateway.store.events` reads
    the rest. `address` is where the request came from; None for what no request asked for.
    """

    __slots__ = ("address", "name")

    address: str | None
    name: str | None

    def __new__(cls, key_id: str, *, name: str | None = None, address: str | None = None) -> Self:
        """Make one."""
        made = super().__new__(cls, key_id)
        made.name = name
        made.address = address
        return made
