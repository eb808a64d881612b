"""Connections of a process that knows nothing of it, closed as a network does: Linux's `pidfd_getfd`.

A descriptor of the other process is duplicated into this one (pidfd_getfd(2), Linux 5.6) and its socket shut
down. That needs the right to trace it, which a process has over its own descendants.
"""

import ctypes
import os
import socket
from collections.abc import Iterable

import psutil

_PIDFD_GETFD = 438  # the same number on every architecture, like all calls since Linux 5.1


def shut_down(pids: Iterable[int], port: int) -> int:
    """Shut every connection down that these processes have taken at a port; return how many there were.

    Raises:
        OSError: the kernel does not let this process do that.
    """
    return sum(_shut_down(pid, port) for pid in pids)


def _shut_down(pid: int, port: int) -> int:
    try:
        found = psutil.Process(pid).net_connections("tcp")
        handle = os.pidfd_open(pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return 0
    try:
        taken = [
            each.fd
            for each in found
            if each.status == psutil.CONN_ESTABLISHED and each.laddr and each.laddr.port == port
        ]
        for number in taken:
            with socket.socket(fileno=_duplicate(handle, number)) as connection:
                connection.shutdown(socket.SHUT_RDWR)
        return len(taken)
    finally:
        os.close(handle)


def _duplicate(handle: int, number: int) -> int:
    own = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, handle, number, 0)
    if own < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"a connection of another process can't be had: {os.strerror(error)}")
    return int(own)
