"""Connections: uvicorn's, with limits on their number and on the time that they may do nothing.

uvicorn limits requests, not connections, and waits for the headers of a request for ever. A client
that opens connections and is silent would take all descriptors of the process.
"""

import asyncio
import contextlib
import logging
import time
from typing import ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds within which the headers of a request must arrive, and in which a client must read a piece
# of its answer.
HEADER_SECONDS = 10.0
STALL_SECONDS = 30.0
# Seconds in which running requests may end when the server is stopped.
DRAIN_SECONDS = 8
MAX_CONNECTIONS = 1000
# Descriptors for everything but connections: files, and connections about to be closed.
_OTHER_DESCRIPTORS = 300
# Connections accepted at a time, each before any of them is looked at; the others wait.
_ACCEPTED_AT_A_TIME = 64
_WAITING_TO_BE_ACCEPTED = 2048

_FULL = b'{"error": "the server has too many connections: try again"}'
_LATE = b'{"error": "the headers of a request must arrive within %d seconds"}' % HEADER_SECONDS


class Connection(H11Protocol):
    """A connection, closed if it is one too many, sends its headers late, or reads no answer.

    If there are too many, one that waits for a request makes room: the one that has waited longest.
    """

    max_connections: ClassVar[int] = MAX_CONNECTIONS
    # Those that wait for a request, in the order in which they began to.
    _idle: ClassVar[dict["Connection", None]] = {}

    def __init__(self, config, server_state, app_state, _loop=None) -> None:
        app_state = {**app_state, "abort": self._abort}
        super().__init__(config, server_state, app_state, _loop)
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            if not self._idle:
                self._refuse(503, b"Service Unavailable", _FULL)
                return
            next(iter(self._idle))._abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._idle.pop(self, None)
        self._cancel_timers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None and not self.transport.is_closing():
            self._stall_timer.cancel()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def _watch(self) -> None:
        """Start or stop the time for the headers of a request."""
        is_idle = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if is_idle and self not in self._idle:
            self._idle[self] = None
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self._headers_are_late)
        elif not is_idle and self in self._idle:
            del self._idle[self]
            if self._header_timer is not None:
                self._header_timer.cancel()

    def _headers_are_late(self) -> None:
        self._refuse(408, b"Request Timeout", _LATE)

    def _refuse(self, status: int, phrase: bytes, content: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (status, phrase, len(content), content)
            )
            self.transport.close()
            self._abort_later()

    def _abort_later(self) -> None:
        """Close the connection if its client does not read what is left to send."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._stall_timer = self.loop.call_later(STALL_SECONDS, self._abort)

    def _abort(self) -> None:
        self._idle.pop(self, None)
        self.transport.abort()

    def _cancel_timers(self) -> None:
        for timer in (self._header_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()


class Server(uvicorn.Server):
    """A server that accepts few connections at a time, and ends with status 0 after SIGTERM."""

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_WAITING_TO_BE_ACCEPTED)


def server(app, log: logging.Handler) -> Server:
    """Return a server of an ASGI application.

    Args:
        app: the application.
        log: takes the lines of uvicorn and asyncio.
    """
    Connection.max_connections = min(MAX_CONNECTIONS, _descriptors() - _OTHER_DESCRIPTORS)
    log.addFilter(Bounded())
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        log_config=None,
        log_level="warning",
        access_log=False,
        backlog=_ACCEPTED_AT_A_TIME,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return Server(config)


def _descriptors() -> int:
    """Raise the limit of descriptors as far as the system allows, and return it."""
    try:
        import resource
    except ImportError:  # Windows
        return MAX_CONNECTIONS + _OTHER_DESCRIPTORS
    wanted = MAX_CONNECTIONS + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Bounded(logging.Filter):
    """Passes 20 lines in 10 seconds, of 2,000 characters, and says how many it left out."""

    _lines, _seconds, _length = 20, 10.0, 2000

    def __init__(self):
        super().__init__()
        self._start, self._count = time.monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        note = ""
        if time.monotonic() - self._start > self._seconds:
            left_out = self._count - self._lines
            note = f"({left_out} lines left out) " if left_out > 0 else ""
            self._start, self._count = time.monotonic(), 0
        self._count += 1
        record.msg, record.args = (note + record.getMessage())[: self._length], ()
        return self._count <= self._lines
