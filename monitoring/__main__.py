"""`python -m monitoring`, which `turnout monitor` runs."""

from monitoring.cli import main

if __name__ == "__main__":
    main()
