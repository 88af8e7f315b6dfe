"""What the server does with clients and directories that mean no good, or do not work.

The server runs in a thread of this process, with its own sockets, so that tests can shorten its times.
"""

import contextlib
import gc
import http.client
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from test_serve import SHAPE, small_model

from benchmarks import soak
from dvae_tf.serving import connections, export, intake
from dvae_tf.serving.application import Application
from dvae_tf.serving.models import ModelDirectory

MAX_BYTES = 2**20
MAX_CONNECTIONS = 20
IMAGE = np.full(SHAPE, 0.5).tolist()
GOOD = json.dumps({"instances": [IMAGE]}).encode()
PATH = "/v1/models/dvae"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export")
    export.export(small_model(1), directory, version=1)
    return directory


class Running:
    """A running server: its port, and what it holds."""

    def __init__(self, directory: Path):
        self.models = ModelDirectory(directory)
        self.application = Application(self.models, poll_seconds=0.05)
        self.intake = intake.Intake(
            self.application.build(),
            hosts=["printer.example"],
            max_bytes=MAX_BYTES,
            max_total=2 * MAX_BYTES,
        )
        self.log: list[str] = []
        handler = Lines(self.log)
        logging.getLogger("uvicorn.error").addHandler(handler)
        self.server = connections.server(self.intake, handler)
        connections.Connection.max_connections = MAX_CONNECTIONS
        listener = socket.create_server(("127.0.0.1", 0))
        # Small buffers, so that a client that does not read is noticed.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
        self.port = listener.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()
        wait_until(lambda: self.server.started)

    def connect(self, content: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(content)
        return connection

    def ask(self, content: bytes) -> tuple[int, dict, bytes]:
        """Send bytes; return status, headers and body of the answer."""
        with self.connect(content) as connection:
            return answer_of(connection)

    def post(self, body: bytes, path=f"{PATH}:predict", **headers) -> tuple[int, str]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(client):
            client.request("POST", path, body, headers)
            response = client.getresponse()
            return response.status, json.load(response).get("error", "")

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


class Lines(logging.Handler):
    def __init__(self, lines: list[str]):
        super().__init__()
        self._lines = lines

    def emit(self, record):
        self._lines.append(record.getMessage())


def answer_of(connection: socket.socket) -> tuple[int, dict, bytes]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="module")
def running(exported):
    running = Running(exported)
    yield running
    running.server.should_exit = True
    running.thread.join(timeout=60)
    assert not running.thread.is_alive()


@pytest.fixture(autouse=True)
def _nothing_is_left(request):
    yield
    if "running" in request.fixturenames:
        running = request.getfixturevalue("running")
        wait_until(lambda: running.connections == running.intake._held == 0)


def head(length: int | None = None, *lines: str, path: str = f"{PATH}:predict") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", size, *lines, "", ""]).encode()


class TestConnections:
    def test_silent_ones_make_room_for_others(self, running):
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(running.connect()) for _ in range(2 * MAX_CONNECTIONS)]
            for _ in range(3):
                assert running.post(GOOD)[0] == 200
            assert running.connections <= MAX_CONNECTIONS
            assert all(is_closed(connection) for connection in silent[:MAX_CONNECTIONS])

    def test_when_all_are_at_work_others_are_told_to_wait(self, running):
        with contextlib.ExitStack() as stack:
            busy = [
                stack.enter_context(running.connect(head(len(GOOD)) + b"{"))
                for _ in range(MAX_CONNECTIONS)
            ]
            wait_until(lambda: len(running.server.server_state.tasks) == MAX_CONNECTIONS)
            with running.connect() as other:
                assert answer_of(other)[0] == 503
                assert is_closed(other)
            for connection in busy:
                connection.sendall(GOOD[1:])
            assert {answer_of(connection)[0] for connection in busy} == {200}

    @pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: x"])
    def test_headers_have_a_time(self, running, start, monkeypatch):
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.1)
        with running.connect(start) as connection:
            status, headers, _ = answer_of(connection)
            assert (status, headers["connection"]) == (408, "close")
            assert is_closed(connection)

    def test_headers_of_a_later_request_have_it_too(self, running, monkeypatch):
        with running.connect(head(len(GOOD)) + GOOD) as connection:
            assert answer_of(connection)[0] == 200
            monkeypatch.setattr(connections, "HEADER_SECONDS", 0.1)
            connection.sendall(head(len(GOOD)) + GOOD)
            assert answer_of(connection)[0] == 200
            connection.sendall(b"GET")
            assert answer_of(connection)[0] == 408

    def test_who_does_not_read_is_left(self, running, monkeypatch):
        monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)
        body = json.dumps({"instances": [IMAGE] * 1000}).encode()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
            connection.connect(("127.0.0.1", running.port))
            connection.sendall(head(len(body)) + body)
            wait_until(lambda: running.intake._held > len(body))
            wait_until(lambda: running.connections == 0, seconds=15)

    def test_who_reads_slowly_gets_everything(self, running):
        body = json.dumps({"instances": [IMAGE] * 500}).encode()
        with running.connect(head(len(body)) + body) as connection:
            time.sleep(0.3)
            status, _, content = answer_of(connection)
        assert status == 200
        assert len(json.loads(content)["predictions"]) == 500

    def test_the_log_is_bounded(self, running):
        running.log.clear()
        for _ in range(60):
            assert running.ask(b"nonsense\r\n\r\n")[0] == 400
        assert 0 < len(running.log) <= 40
        record = logging.makeLogRecord({"msg": "x" * 10**6})
        assert connections.Bounded().filter(record)
        assert len(record.getMessage()) <= 2000


class TestBodies:
    def test_a_late_one_is_refused_and_its_connection_closed(self, running, monkeypatch):
        monkeypatch.setattr(intake, "BODY_SECONDS", 0.1)
        with running.connect(head(100) + b"{") as connection:
            status, headers, content = answer_of(connection)
            assert (status, headers["connection"]) == (408, "close")
            assert b"the body must arrive within" in content
            assert is_closed(connection)

    @pytest.mark.parametrize("path", [f"{PATH}:predict", "/nowhere"])
    def test_an_endless_one_is_not_read_on(self, running, path):
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with running.connect(head(None, path=path)) as connection:
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 64 * MAX_BYTES:
                    connection.sendall(piece)
                    sent += len(piece)
            # The sockets' buffers hold a few megabytes.
            assert sent < 24 * MAX_BYTES

    def test_a_long_one_is_answered_after_its_end(self, running):
        with running.connect(head(3 * MAX_BYTES)) as connection:
            connection.sendall(bytes(3 * MAX_BYTES))
            status, headers, _ = answer_of(connection)
            assert (status, headers["connection"]) == (413, "close")
            assert is_closed(connection)

    def test_who_asks_first_need_not_send_it(self, running):
        with running.connect(head(2 * MAX_BYTES, "Expect: 100-continue")) as connection:
            assert answer_of(connection)[0] == 413

    def test_all_together_have_a_limit(self, running):
        piece = b" " * (MAX_BYTES - 100)
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(running.connect(head(len(piece) + len(GOOD)) + piece))
            wait_until(lambda: running.intake._held == 2 * len(piece))
            status, message = running.post(piece)
            assert (status, message) == (503, "the server holds too many requests: try again")
            assert running.intake._held == 2 * len(piece)
            assert running.post(GOOD)[0] == 200  # a short one finds room
        wait_until(lambda: running.intake._held == 0)
        assert running.post(piece[:-1000] + GOOD)[0] == 200

    def test_what_is_refused_is_forgotten(self, running):
        """At once: cycles would be left to the garbage collector, which `gc.freeze` makes slow."""
        body = b'{"instances": [[' + b"[]," * 330_000 + b"[]]]}"  # 24 MB of lists
        gc.disable()
        try:
            assert running.post(body)[0] == 400
            before = soak.resident_mib(os.getpid())
            for _ in range(8):
                status, message = running.post(body)
                assert status == 400
                assert "received [1, 330001, 0]" in message
            assert soak.resident_mib(os.getpid()) - before < 100
        finally:
            gc.enable()


class TestHosts:
    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            (["Host: localhost"], 200),
            (["Host: LOCALHOST:8501"], 200),
            (["Host: 127.0.0.1:8501"], 200),
            (["Host: [::1]:8501"], 200),
            (["Host: 192.0.2.7"], 200),
            (["Host: printer.example"], 200),
            (["Host: attacker.example"], 403),
            (["Host: localhost.attacker.example"], 403),
            (["Host: localhost:80@attacker.example"], 403),
            (["Host: "], 403),
            (["Host: localhost:1", "Origin: http://localhost:1"], 200),
            (["Host: localhost:1", "Origin: http://127.0.0.1:2"], 200),
            (["Host: 192.0.2.7:1", "Origin: http://192.0.2.7:1"], 200),
            (["Host: localhost", "Origin: https://printer.example"], 200),
            (["Host: localhost", "Origin: http://attacker.example"], 403),
            (["Host: localhost", "Origin: http://192.0.2.7"], 403),
            (["Host: localhost", "Origin: null"], 403),
            (["Host: localhost", "Origin: "], 403),
            (["Host: localhost", "Origin: http://[x"], 403),
        ],
    )
    def test_pages_of_others_cannot_run_the_model(self, running, lines, status):
        fields = [*lines, "Content-Type: text/plain", f"Content-Length: {len(GOOD)}"]
        request = "\r\n".join([f"POST {PATH}:predict HTTP/1.1", *fields, "", ""]).encode() + GOOD
        answered, _, content = running.ask(request)
        assert answered == status, content
        if status == 403:
            assert b"--allowed-host" in content


class TestMessages:
    BODIES = (*soak.HOSTILE_BODIES, *soak.HOSTILE_FILE_BODIES)

    @pytest.mark.parametrize("index", range(len(BODIES)))
    def test_are_short_and_of_this_server(self, running, index):
        status, message = running.post(self.BODIES[index])
        # A file with long compressed text is a good one, once that is left out.
        assert status in (200, 400, 413), message
        self.check(message)

    @pytest.mark.parametrize(
        "change",
        [
            {"noise": ["fog"]},
            {"noise": {}},
            {"level": {}},
            {"level": "x" * 10**5},
            {"seed": 10**400},
        ],
    )
    def test_of_the_page_too(self, running, change):
        body = {"image": IMAGE, "noise": "gaussian", "level": 0.1, "seed": 0} | change
        status, message = running.post(json.dumps(body).encode(), "/noise")
        assert status == 400
        self.check(message)

    @pytest.mark.parametrize("content", soak.RAW)
    def test_requests_that_are_none(self, running, content):
        with running.connect(content) as connection:
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(100)
        # To h11 two of them are requests: it takes any version, and any header that arrives in one
        # piece. Whether it answers is a race with the end of the connection.
        is_one = b"HTTP/9.9" in content or b"X: aaa" in content
        answers = (b"400", b"413", b"200") if is_one else (b"400", b"413")
        assert answer == b"" or answer.split()[1] in answers

    def check(self, message: str) -> None:
        assert len(message) < 700
        for word in ("{{", "[[", "unhashable", "pickle", "__", "node", "Op:", "sys."):
            assert word not in message, message

    def test_too_many_rows_are_counted_before_they_are_converted(self, running):
        status, message = running.post(json.dumps({"instances": ["no number"] * 1025}).encode())
        assert (status, message) == (413, "a request must have at most 1024 rows: received 1025")
        columns = {"inputs": {"image": ["no number"] * 1025}}
        assert running.post(json.dumps(columns).encode())[0] == 413


class TestVersions:
    @pytest.fixture
    def directory(self, exported, tmp_path):
        shutil.copytree(exported / "1", tmp_path / "1")
        return tmp_path

    def test_one_that_cannot_be_read_is_passed_over(self, exported):
        """Also when the server starts; the superuser gives up its rights for this test."""
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            directory.chmod(0o755)
            shutil.copytree(exported / "1", directory / "1")
            (directory / "3").mkdir(mode=0)
            user = os.geteuid()
            os.seteuid(user or 65534)
            try:
                assert export.versions(directory) == [1, 3]
                models = ModelDirectory(directory)
                assert models.newest.number == 1
                models.refresh()
                os.seteuid(user)
                shutil.copytree(exported / "1", directory / "2")
                os.seteuid(user or 65534)
                models.refresh()
                assert models.newest.number == 2
            finally:
                os.seteuid(user)
                (directory / "3").chmod(0o755)

    @pytest.mark.parametrize("place", ["saved_model.pb", "signature.json", "variables/pipe"])
    def test_a_pipe_is_not_opened(self, place, directory):
        shutil.copytree(directory / "1", directory / "2")
        (directory / "2" / place).unlink(missing_ok=True)
        os.mkfifo(directory / "2" / place)
        assert ModelDirectory(directory).newest.number == 1

    def test_one_that_was_repaired_with_its_old_times_is_tried_again(self, directory, tmp_path):
        shutil.copytree(directory / "1", tmp_path / "whole")
        shutil.copytree(directory / "1", directory / "2")
        (file,) = (directory / "2" / "variables").glob("*.data*")
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        file.write_bytes(bytes(len(file.read_bytes()))[:-1])
        os.utime(file, ns=times)
        models = ModelDirectory(directory)
        models.refresh()
        assert models.newest.number == 1
        whole = tmp_path / "whole" / "variables" / file.name
        subprocess.run(["cp", "-a", whole, file], check=True)
        models.refresh()
        assert models.newest.number == 2

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 2}, "has format 2, not 1"),
            ({"signatures": {}}, "describes other signatures"),
            ({"signatures": []}, "describes other signatures"),
            (None, "FileNotFoundError"),
        ],
    )
    def test_what_is_of_another_format_is_refused(self, change, message, directory):
        path = directory / "1" / "signature.json"
        if change is None:
            path.unlink()
        else:
            path.write_text(
                json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8"
            )
        with pytest.raises(ValueError, match=re.escape(message)):
            ModelDirectory(directory)

    def test_a_foreign_model_is_passed_over(self, directory):
        shutil.copytree(directory / "1", directory / "2")
        module = tf.Module()
        spec = tf.TensorSpec([None, *SHAPE])
        module.f = tf.function(lambda image: {"denoised": image}, input_signature=[spec])
        tf.saved_model.save(module, str(directory / "2"), signatures={"denoise": module.f})
        models = ModelDirectory(directory)
        assert models.newest.number == 1
        models.refresh()
        assert models.newest.number == 1

    def test_the_watcher_outlives_what_nobody_thought_of(self, running, monkeypatch):
        calls = []

        def refresh():
            calls.append(1)
            raise RuntimeError("unforeseen")

        monkeypatch.setattr(running.models, "refresh", refresh)
        wait_until(lambda: len(calls) >= 3)


def test_it_drains(exported):
    """Requests that run when the server is stopped are answered; silent connections are closed."""
    running = Running(exported)
    with running.connect() as silent, running.connect(head(len(GOOD)) + GOOD[:-1]) as busy:
        wait_until(lambda: running.server.server_state.tasks)
        running.server.should_exit = True
        assert is_closed(silent)
        busy.sendall(GOOD[-1:])
        assert answer_of(busy)[0] == 200
    running.thread.join(timeout=60)
    assert not running.thread.is_alive()


@pytest.mark.slow
def test_a_short_soak(tmp_path):
    words = ["-m", "benchmarks.soak", "--requests", "1000", "--out", str(tmp_path / "soak.json")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    assert result["connections"]["newcomer"] == 200
    assert result["connections"]["answers"]["200"] > 900
