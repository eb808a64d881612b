"""`python -m training NAME DATA`: what `turnout train` runs."""

from training.cli import app

if __name__ == "__main__":
    app(prog_name="turnout train")
