"""`python -m training NAME DATA`: what `turnout train` runs."""

import signal

from training.cli import app

if __name__ == "__main__":
    # Asked to end, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="turnout train")
