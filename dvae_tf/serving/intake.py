"""What stands before the application: whose requests it answers, and how much of them it holds.

=================  ====================================================================
a request          is refused
=================  ====================================================================
for another host   403: another site's name may lead here (DNS rebinding)
of another site    403: its pages may send requests, which would run the model
that is too long   413
that is too slow   408
of too many        503: bodies and answers of all requests together have a limit, too
=================  ====================================================================

A body is complete before the application sees the request. The connection is closed after 408, 413
and 503, because what is left of the body would be taken for the next request.
"""

import asyncio
import ipaddress
import json
import re
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Seconds within which the body of a request must arrive.
BODY_SECONDS = 30.0
# Bytes in a second at which a client must take its answer, after as many seconds as above.
_LEAST_RATE = 2**16
# What is sent at a time. A client that does not read holds up the next piece.
_PIECE = 2**16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Refusal(Exception):
    """A request is refused; the connection is closed if its body was not read to the end."""

    def __init__(self, status: int, message: str, *, is_read: bool = False):
        super().__init__(message)
        self.status = status
        self.is_read = is_read


class Intake:
    """An ASGI application around another one.

    Args:
        app: the application.
        hosts: names by which clients may call this machine, besides loopback and IP addresses; "*"
            allows all.
        max_bytes: limit for the body of a request.
        max_total: limit for the bodies and answers of all requests together.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str] = (), max_bytes: int, max_total: int
    ):
        self._app = app
        self._hosts = {*_LOOPBACK, *(host.lower() for host in hosts)}
        self._max_bytes = max_bytes
        self._max_total = max(max_total, max_bytes)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        claim = _Claim(self)
        try:
            await self._answer(scope, receive, send, claim)
        finally:
            claim.release()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, claim: "_Claim") -> None:
        outgoing = _Outgoing(scope, send, claim)
        body: bytearray | None
        try:
            refusal = self._refusal(scope)
            body = await self._body(scope, receive, claim, is_wanted=refusal is None)
            if refusal is not None:
                raise refusal
        except _Refusal as error:
            await outgoing.refuse(error)
            return
        if body is None:
            return

        async def receive_body() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            content, body = bytes(body), None
            return {"type": "http.request", "body": content, "more_body": False}

        await self._app(scope, receive_body, outgoing.send)

    def _refusal(self, scope: Scope) -> _Refusal | None:
        """Return why a request of this host and origin is refused."""
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        host, origin = headers.get(b"host"), headers.get(b"origin")
        remedy = "start the server with --allowed-host NAME"
        if "*" in self._hosts:
            return None
        if host is not None and not self._is_ours(_name(host), or_address=True):
            message = f"this server does not answer to the host {host[:80]!r}: {remedy}"
            return _Refusal(403, message, is_read=True)
        if origin is None or _netloc(origin) == host or self._is_ours(_name(_netloc(origin))):
            return None
        message = f"requests of pages from {origin[:80]!r} are refused: {remedy}"
        return _Refusal(403, message, is_read=True)

    def _is_ours(self, name: str, *, or_address: bool = False) -> bool:
        if name in self._hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        # The name of another site cannot be an address.
        return or_address

    async def _body(
        self, scope: Scope, receive: Receive, claim: "_Claim", *, is_wanted: bool
    ) -> bytearray | None:
        """Return the body; None if the client has gone."""
        body = bytearray()
        length = _length(scope)
        too_long = _Refusal(
            413, f"a request must have at most {self._max_bytes} bytes: send fewer rows at a time"
        )
        # A sender sees the answer only once it has sent its body. So a slightly long one is read to its
        # end, and thrown away.
        waits = (b"expect", b"100-continue") in scope["headers"]
        if length > (1 if waits else 8) * self._max_bytes:
            raise too_long
        deadline = time.monotonic() + BODY_SECONDS
        received, is_full = 0, False
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                raise _Refusal(
                    408, f"the body must arrive within {BODY_SECONDS:.0f} seconds"
                ) from None
            if message["type"] != "http.request":
                return None
            chunk = message.get("body", b"")
            received += len(chunk)
            if received > 8 * self._max_bytes:
                raise too_long
            is_full = is_full or not (received > self._max_bytes or claim.take(len(chunk)))
            if is_full or received > self._max_bytes or not is_wanted:
                body.clear()
                claim.release()
            else:
                body += chunk
            if not message.get("more_body", False):
                break
        if received > self._max_bytes:
            raise too_long
        if is_full:
            raise _Refusal(503, "the server holds too many requests: try again")
        return body


class _Claim:
    """The bytes that one request holds of the total."""

    def __init__(self, intake: Intake):
        self._intake = intake
        self._bytes = 0

    def take(self, count: int) -> bool:
        """Take more bytes, if the total allows, or if they are few: long requests cannot block those."""
        total = self._intake._held + count
        if total > self._intake._max_total and self._bytes + count > _PIECE:
            return False
        self.add(count)
        return True

    def add(self, count: int) -> None:
        self._intake._held += count
        self._bytes += count

    def release(self) -> None:
        self._intake._held -= self._bytes
        self._bytes = 0


class _Outgoing:
    """The answer to a request, sent no faster than the client reads it."""

    def __init__(self, scope: Scope, send: Send, claim: _Claim):
        self._scope = scope
        self._send = send
        self._claim = claim

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        body = message.get("body", b"")
        if len(body) <= _PIECE:
            await self._send(message)
            return
        # What is answered already cannot be refused any more; it keeps others from being accepted.
        self._claim.add(len(body))
        try:
            await asyncio.wait_for(
                self._send_pieces(body, message.get("more_body", False)),
                BODY_SECONDS + len(body) / _LEAST_RATE,
            )
        except asyncio.TimeoutError:
            self._scope["state"]["abort"]()
            await asyncio.sleep(0)  # the server learns that the connection is lost

    async def _send_pieces(self, body: bytes, more_body: bool) -> None:
        for start in range(0, max(len(body), 1), _PIECE):
            piece, is_last = body[start : start + _PIECE], start + _PIECE >= len(body)
            await self._send(
                {"type": "http.response.body", "body": piece, "more_body": more_body or not is_last}
            )

    async def refuse(self, refusal: _Refusal) -> None:
        content = json.dumps({"error": str(refusal)}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ]
        if not refusal.is_read:
            headers.append((b"connection", b"close"))
        await self._send(
            {"type": "http.response.start", "status": refusal.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": content})


def _length(scope: Scope) -> int:
    """Return the length that a request announces, or 0."""
    value = dict(scope["headers"]).get(b"content-length", b"")
    return int(value) if value.isdigit() and len(value) < 20 else 0


def _name(netloc: str) -> str:
    """Return the name in `name:port`, `[address]:port` or either alone; nothing if it is neither."""
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:@]*))(?::\d*)?", netloc)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""


def _netloc(origin: str) -> str:
    """Return the host and port of an origin such as http://localhost:8501; "null" has none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
