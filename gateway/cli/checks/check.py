"""One finding of `turnout doctor`."""

from dataclasses import dataclass

HTTP_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """Whether something is well, what was found, and what to do otherwise.

    What is not `grave` works, but is worth a look: it does not make the doctor's exit code 1.
    """

    name: str
    ok: bool
    found: str
    todo: str = ""
    grave: bool = True

    @property
    def sign(self) -> str:
        """The word in front of its line."""
        if self.ok:
            return "ok     "
        return "PROBLEM" if self.grave else "note   "
