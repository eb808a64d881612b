"""Which paths each port has, when the administrators' paths have a port of their own."""

_ADMINISTRATORS = ("/admin", "/metrics", "/openapi.json", "/docs")
_ON_BOTH = ("/healthz", "/readyz")


class Ports:
    """`admin` is the administrators' port; without one, every path is on every port."""

    __slots__ = ("admin",)

    def __init__(self) -> None:
        self.admin: int | None = None

    def is_admin(self, server: tuple[str, int | None] | None) -> bool:
        """Whether a connection to this address of ours came in by the administrators' port."""
        return self.admin is not None and server is not None and server[1] == self.admin

    def serves(self, path: str, server: tuple[str, int | None] | None) -> bool:
        """Whether a path is served on the port that a connection came in by."""
        if self.admin is None or path in _ON_BOTH:
            return True
        return self.is_admin(server) == any(
            path == prefix or path.startswith(prefix + "/") for prefix in _ADMINISTRATORS
        )
