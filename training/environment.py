"""What a process must set of itself before it imports torch."""

import logging
import os


def quieten() -> None:
    """Set what must be set before anything imports torch."""
    # bitsandbytes warns of an optional kernel package at import.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # Threads that wait for each other in a busy loop crawl when an engine shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_to_one_gpu() -> None:
    """Let this process see one GPU, unless a launcher has given it its own."""
    if "LOCAL_RANK" not in os.environ:
        # On several the trainer would copy the model to each, which 4-bit layers do not survive.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
