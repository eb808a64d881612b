"""The processes that train together, as torchrun or `accelerate launch` name them in the environment."""

import os
from collections.abc import Mapping, MutableMapping

# What Accelerate takes for a group of processes, also where nobody gave this one a rank in it.
OF_A_LAUNCHER = (
    "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE",
    "PMI_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip


def world(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes a launcher started with this one; 1 without a launcher."""
    return int(environment.get("WORLD_SIZE", "1")) if "RANK" in environment else 1


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return which of them this is, from 0."""
    return int(environment.get("RANK", "0"))


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return which of those on this machine this is, from 0; it is also the number of its GPU."""
    return int(environment.get("LOCAL_RANK", "0")) if "RANK" in environment else 0


def local_world(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many of them share this machine."""
    return int(environment.get("LOCAL_WORLD_SIZE", "1")) if "RANK" in environment else 1


def forget_leftovers(environment: MutableMapping[str, str] = os.environ) -> None:
    """Without a rank this process is alone: what a launcher of before left in the shell is taken away.

    Accelerate would wait for the others without end.
    """
    if "RANK" not in environment:
        for name in OF_A_LAUNCHER:
            environment.pop(name, None)
