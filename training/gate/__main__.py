"""`python -m training.gate`: the gate of a loop run."""

import signal

from training.gate.cli import PROGRAM, app

if __name__ == "__main__":
    # Asked to end, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name=PROGRAM)
