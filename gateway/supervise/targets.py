"""Where Prometheus finds the engines of this machine: their ports are chosen anew with every start."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import orjson

NAME = "engines.json"


def write_targets(state_dir: Path, replicas: Mapping[str, str]) -> None:
    """Write the engines (replica → URL) as a file for Prometheus' `file_sd_configs`, all of it or nothing.

    Raises:
        OSError: the state directory can't be written.
    """
    groups = [
        {"targets": [urlsplit(url).netloc], "labels": {"replica": replica}}
        for replica, url in sorted(replicas.items())
    ]
    scratch = state_dir / f"{NAME}.{os.getpid()}"
    scratch.write_bytes(orjson.dumps(groups, option=orjson.OPT_INDENT_2) + b"\n")
    scratch.replace(state_dir / NAME)
