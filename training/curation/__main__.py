"""`python -m training.curation ROUTE …`: the first step of a run of the loop."""

import signal

from training.curation.cli import app

if __name__ == "__main__":
    # Asked to end, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="python -m training.curation")
