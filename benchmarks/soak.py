"""A soak of the web server: many requests, a third of them hostile, and what the server is like after.

::

    python -m benchmarks.soak                  # 20,000 requests, then 1,000 connections at once
    python -m benchmarks.soak --minutes 30

The server is `python -m dvae_tf.serve` in a process of its own. Writes benchmarks/soak.json: the number
of answers by status, and resident memory after the first 500 requests and at the end. Exits with
status 1 if an answer was 5xx, or memory changed by more than 10 %.
"""

import argparse
import base64
import collections
import contextlib
import http.client
import io
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from PIL import Image

from dvae_tf import DVAE, corruptions, export, networks

SHAPE = (28, 28, 1)
PATH = "/v1/models/dvae"
WARM_REQUESTS = 500
CONNECTIONS = 1000
RESULT = Path(__file__).with_suffix(".json")

# Sends one request and returns its status, or a word where there is none.
Request = Callable[[random.Random, "Client"], "int | str"]


class Client:
    """A client of the server; `post` and `get` keep a connection, `raw` opens one for itself."""

    def __init__(self, port: int):
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def post(self, body, path: str = f"{PATH}:predict", **headers: str) -> int:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._request("POST", path, content, headers)

    def get(self, path: str, method: str = "GET", **headers: str) -> int:
        return self._request(method, path, None, headers)

    def _request(self, method, path, content, headers) -> int:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        for is_last in (False, True):
            try:
                self._connection.request(method, path, content, names)
                response = self._connection.getresponse()
                response.read()
                return response.status
            except (OSError, http.client.HTTPException):
                # The server has closed the connection meanwhile, as it may.
                self._connection.close()
                if is_last:
                    raise
        raise AssertionError

    def raw(self, content: bytes, *, is_read: bool = True) -> int | str:
        """Send bytes, and read a status unless the client is one that goes at once."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            try:
                connection.sendall(content)
                if not is_read:
                    return "left"
                answer = connection.recv(64)
            except OSError:
                return "closed"
        return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else "closed"


def chunk(kind: bytes, data: bytes = b"", crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(*before: bytes, size=SHAPE[1::-1], rows: bytes | None = None) -> bytes:
    rows = bytes((1 + SHAPE[1]) * SHAPE[0]) if rows is None else rows
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    parts = [header, *before, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg(mode: str = "L", size=SHAPE[1::-1]) -> bytes:
    content = io.BytesIO()
    Image.new(mode, size).save(content, "jpeg")
    return content.getvalue()


def files_body(*files: bytes) -> bytes:
    instances = [{"b64": base64.b64encode(content).decode()} for content in files]
    return json.dumps({"signature_name": "denoise_png", "instances": instances}).encode()


TEXT = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(7_900_000)))
HOSTILE_FILES = (
    b"",
    b"\xff\x0a" + bytes(1000),
    b"GIF89a" + bytes(1000),
    png(size=(20_000, 20_000)),
    png(chunk(b"tEXt", b"a\0b", crc=1), size=(20_000, 20_000)),
    png(chunk(b"iCCP", b"nonsense"), size=(20_000, 20_000)),
    png(chunk(b"teSt") * 90_000),
    png(*[TEXT] * 100),
    png(rows=bytes(10**8)),
    png()[:60],
    jpeg(size=(2000, 2000)),
    jpeg("CMYK"),
    jpeg()[:200],
    jpeg()[:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 1000,
)
HOSTILE_FILE_BODIES = [files_body(content) for content in HOSTILE_FILES]
MEGABYTE = 10**6
HOSTILE_BODIES = (
    b"",
    b"{",
    b"[" * 100_000,
    b"\xff\xfe\xfd",
    b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"instances": [' + b"{}," * (MEGABYTE // 3) + b"{}]}",
    b'{"instances": [' + b"1," * (MEGABYTE // 2) + b"1]}",
    b'{"instances": [[' + b"1," * (MEGABYTE // 2) + b"1]]}",
    b'{"instances": ["' + b"a" * MEGABYTE + b'"' + b', "b"' * 1000 + b"]}",
    b'{"inputs": {"' + b"a" * MEGABYTE + b'": 1}}',
    b"{" + b",".join(b'"%d":1' % i for i in range(100_000)) + b"}",
    b'{"instances": [' + b"9" * 5000 + b"]}",
    b'{"instances": [' + b"9" * 4000 + b"]}",
    b'{"instances": [NaN, Infinity, -1e999]}',
    b'{"instances": [null]}',
    b'{"instances": {"image": 1}}',
    b'{"signature_name": ["denoise"], "instances": [1]}',
    b'{"signature_name": "sample", "inputs": {"seed": [[0, 99999999999]]}}',
    '{"instances": [[1]]}'.encode("utf-16"),
)
LARGE_BODY = b'{"instances": [' + b"{}," * (5 * MEGABYTE) + b"{}]}"
TOO_LARGE_BODY = bytes(17 * 2**20)
HEAD = f"POST {PATH}:predict HTTP/1.1\r\nHost: localhost\r\n".encode()
RAW = (
    b"nonsense\r\n\r\n",
    b"\0" * 1000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    HEAD + b"Content-Length: -1\r\n\r\n{}",
    HEAD + b"Content-Length: 99999999999999\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n0\r\n\r\n",
    HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
)
NOISE = {"image": np.zeros(SHAPE).tolist(), "noise": "gaussian", "level": 0.1, "seed": 0}


def valid(rng: random.Random, client: Client) -> int:
    """Send one of the requests that a client means."""
    images = np.random.default_rng(rng.randrange(2**32)).random((rng.choice((1, 1, 8)), *SHAPE))
    seeds = [[rng.randrange(2**31), 0] for _ in images]
    rows = [
        {"image": image, "seed": seed} for image, seed in zip(images.tolist(), seeds, strict=True)
    ]
    return rng.choice(
        (
            lambda: client.post({"instances": images.tolist()}),
            lambda: client.post({"inputs": images.tolist()}),
            lambda: client.post({"signature_name": "score", "instances": rows}),
            lambda: client.post({"signature_name": "sample", "instances": seeds}),
            lambda: client.post(files_body(png(), jpeg())),
            lambda: client.post(NOISE, "/noise"),
            lambda: client.get(PATH),
            lambda: client.get(f"{PATH}/metadata"),
            lambda: client.get("/"),
        )
    )()


def hostile(rng: random.Random, client: Client) -> int | str:
    """Send one of the requests that nobody should."""
    if rng.random() < 0.005:
        return client.post(rng.choice((LARGE_BODY, TOO_LARGE_BODY)))
    change = rng.choice(({"noise": ["fog"]}, {"level": {}}, {"seed": 10**400}, {"image": None}))
    return rng.choice(
        (
            lambda: client.post(rng.choice(HOSTILE_FILE_BODIES)),
            lambda: client.post(rng.choice(HOSTILE_BODIES)),
            lambda: client.post(rng.randbytes(rng.randrange(1000))),
            lambda: client.post(NOISE | change, "/noise"),
            lambda: client.post({"instances": [1]}, rng.choice(("/etc/passwd", f"{PATH}:other"))),
            lambda: client.get(rng.choice(("/../etc/passwd", f"{PATH}/versions/{9**99}", "/%00"))),
            lambda: client.get("/", rng.choice(("DELETE", "PUT", "OPTIONS", "TRACE"))),
            lambda: client.get("/", Host="attacker.example"),
            lambda: client.post({"instances": [1]}, Origin="http://attacker.example"),
            lambda: client.raw(rng.choice(RAW)),
            lambda: client.raw(rng.choice(RAW)[: rng.randrange(1, 100)], is_read=False),
            lambda: client.raw(HEAD + b"Content-Length: 9999\r\n\r\n{", is_read=False),
        )
    )()


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[tuple[int, int]]:
    """Yield process id and port of a server of a small model."""
    keras.utils.set_random_seed(0)
    encoder, decoder = networks.mlp(SHAPE, 8, hidden=(64,))
    model = DVAE(encoder, decoder, corruption=corruptions.SaltPepper(0.1))
    export.export(model, directory / "export", version=1)
    words = [sys.executable, "-m", "dvae_tf.serve", str(directory / "export"), "--port", "0"]
    with (directory / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        found = re.search(r":(\d+)/", process.stdout.readline())
        assert found, (directory / "log").read_text(encoding="utf-8")
        try:
            yield process.pid, int(found[1])
        finally:
            process.terminate()
            status = process.wait(timeout=30)
            print(f"the server ended with status {status}; its log:")
            print((directory / "log").read_text(encoding="utf-8")[-2000:])


def resident_mib(process: int) -> float:
    found = re.search(
        r"VmRSS:\s*(\d+)", Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    )
    assert found
    return int(found[1]) / 1024


def soak(process: int, port: int, *, requests: int, minutes: float, threads: int) -> dict:
    """Send requests from several threads; return counts by status, and memory."""
    counts: collections.Counter[str] = collections.Counter()
    lock, end = threading.Lock(), time.monotonic() + 60 * minutes
    sent, warm = 0, 0.0

    def work(seed: int) -> None:
        nonlocal sent, warm
        rng, client = random.Random(seed), Client(port)
        while True:
            with lock:
                is_over = time.monotonic() > end if minutes else sent >= requests
                if is_over:
                    return
                sent += 1
                if sent == WARM_REQUESTS:
                    warm = resident_mib(process)
            kind = hostile if rng.random() < 1 / 3 else valid
            try:
                status: int | str = kind(rng, client)
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            with lock:
                counts[f"{kind.__name__} {status}"] += 1

    workers = [threading.Thread(target=work, args=[seed]) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"requests": sent, "answers": dict(sorted(counts.items())), "resident_mib_warm": warm}


def many_connections(port: int) -> dict:
    """Open silent connections, ask from another one, then let them all ask at once."""
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            for _ in range(CONNECTIONS)
        ]
        start = time.monotonic()
        status = Client(port).get(PATH)
        seconds = time.monotonic() - start
        counts: collections.Counter[str] = collections.Counter()
        is_sent = []
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                is_sent.append(connection)
        for connection in is_sent:
            try:
                answer = connection.recv(64)
            except OSError:
                answer = b""
            counts[answer[9:12].decode() or "closed"] += 1
    return {"newcomer": status, "newcomer_seconds": round(seconds, 3), "answers": dict(counts)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="instead of --requests")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    with contextlib.suppress(ImportError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as (process, port):
        start = time.monotonic()
        result = soak(
            process, port, requests=given.requests, minutes=given.minutes, threads=given.threads
        )
        result["seconds"] = round(time.monotonic() - start, 1)
        result["resident_mib_end"] = resident_mib(process)
        result["connections"] = many_connections(port)
        result["resident_mib_after_connections"] = resident_mib(process)
        result["log_bytes"] = (Path(name) / "log").stat().st_size
    change = result["resident_mib_end"] / result["resident_mib_warm"] - 1
    result["resident_change"] = round(change, 4)
    result["server_errors"] = sum(
        n for k, n in result["answers"].items() if re.search(r" 5\d\d$", k)
    )
    print(json.dumps(result, indent=2))
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if result["server_errors"] or abs(change) > 0.1 else 0


if __name__ == "__main__":
    sys.exit(main())
