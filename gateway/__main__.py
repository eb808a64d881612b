"""`turnout` and `python -m gateway`: argv → command."""

import sys

_LONG_LIVED = ("controller", "worker")
"""What runs for weeks, several at once: it imports no command but these."""


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:2] and sys.argv[1] in _LONG_LIVED:
        from gateway.cli.serve import build_processes as build  # noqa: PLC0415 - without the other commands
    else:
        from gateway.cli.main import build_app as build  # noqa: PLC0415
    build()()


if __name__ == "__main__":
    main()
