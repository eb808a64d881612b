"""What can go wrong between the gateway and an engine.

UpstreamFault
├── ConnectFailed     no connection was made: nothing was sent, another replica may be tried
├── ConnectionLost    the connection broke after it was written to: the engine may have seen the request
├── TimedOut          the engine was too slow; `phase` says in what: `first byte`, `idle` or `total`
└── BadAnswer         what came is not HTTP, not the protocol that was asked for, or too large
"""


class UpstreamFault(Exception):
    """Base of the tree. Messages are for logs; none of them reaches a client."""


class ConnectFailed(UpstreamFault):
    """No connection could be made, or not in time."""


class ConnectionLost(UpstreamFault):
    """The connection ended early; `answered` tells whether any byte of an answer had come.

    `kept`: the connection had served a request before, so it may have been closed while it was idle.
    """

    def __init__(self, message: str, *, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered
        self.kept = False


class TimedOut(UpstreamFault):
    """The engine did not answer in time."""

    def __init__(self, phase: str) -> None:
        super().__init__(f"the engine exceeded the {phase} timeout")
        self.phase = phase


class BadAnswer(UpstreamFault):
    """The engine's bytes can't be used."""
