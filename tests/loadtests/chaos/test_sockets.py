"""Connections of another process are closed from outside, and it goes on."""

import socket
import subprocess
import sys

import pytest

from loadtests.chaos.sockets import shut_down

SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    print("ended" if connection.recv(1) == b"" else "asked", flush=True)
"""


def test_connections_of_another_process() -> None:
    """Both ends see the end of the connection; the listener takes the next one."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            assert shut_down([server.pid], port) == 0
            for _ in range(2):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                    assert client.recv(5) == b"hello"
                    assert shut_down([server.pid], port) == 1
                    assert client.recv(1) == b""
                    assert server.stdout.readline() == "ended\n"
        except PermissionError:
            pytest.skip("this container lets no process have another one's descriptors")
        finally:
            server.kill()
