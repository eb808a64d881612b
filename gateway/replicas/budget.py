"""A retry budget: a bucket that requests fill and retries empty. Retries can't multiply an overload."""

from collections.abc import Callable

RETRIES_PER_REQUEST = 0.1
MOST = 20.0


class RetryBudget:
    """Allows one retry for every ten requests, and `most` in a row after a quiet time.

    `requests` returns how many requests there have been. It is read only when a retry is wanted, so the
    budget costs a request nothing.
    """

    def __init__(
        self, requests: Callable[[], int], *, share: float = RETRIES_PER_REQUEST, most: float = MOST
    ) -> None:
        self._requests = requests
        self._share = share
        self._most = most
        self._left = most
        self._seen = requests()

    def take(self) -> bool:
        """Take one retry out of the budget; False when it is empty."""
        seen = self._requests()
        self._left = min(self._most, self._left + self._share * (seen - self._seen))
        self._seen = seen
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
