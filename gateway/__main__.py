"""`turnout` and `python -m gateway`: argv → command."""

from gateway.cli.main import build_app


def main() -> None:
    """Run the command line and exit with its code."""
    build_app()()


if __name__ == "__main__":
    main()
