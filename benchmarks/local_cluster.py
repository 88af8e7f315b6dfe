"""Environments for several workers on this machine, on free ports."""

import json
import os
import socket


def environments(count: int) -> list[dict[str, str]]:
    """Return the environment of each of `count` workers; its TF_CONFIG names them all."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return [
        os.environ
        | {
            "TF_CONFIG": json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            )
        }
        for index in range(count)
    ]
