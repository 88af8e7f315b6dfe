"""The command that serves an exported model: `python -m dvae_tf.serve RUN_DIR/export`."""

import gc
import logging
import signal
import socket
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dvae_tf import commands

# Bytes of bodies and answers that all requests together may hold.
_MAX_TOTAL = 128 * 2**20

app = commands.app(
    "python -m dvae_tf.serve",
    "Serve the newest version of an exported model over TensorFlow Serving's REST interface, "
    "with a page at / to try it. New versions are served as soon as they appear.",
)


@app.default
def _command(
    export_dir: Annotated[
        str, Parameter(name="EXPORT_DIR", help="Directory of versions, for example RUN_DIR/export.")
    ],
    /,
    *,
    host: Annotated[
        str, Parameter(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        commands.whole_number("Port to listen on; 0 takes a free one."),
    ] = 8501,
    name: Annotated[str, Parameter(help="Name of the model in the paths.")] = "dvae",
    max_megabytes: Annotated[
        int,
        commands.whole_number("Size limit for a request, in MiB."),
    ] = 16,
    max_rows: Annotated[
        int,
        commands.whole_number("Limit for the rows of a request."),
    ] = 1024,
    allowed_host: Annotated[
        tuple[str, ...],
        Parameter(
            help="Another name by which clients or pages may call this machine; * allows all. Loopback, "
            "IP addresses and the name of the machine are allowed.",
            consume_multiple=False,
        ),
    ] = (),
) -> None:
    try:
        import uvicorn  # noqa: F401

        from dvae_tf.serving import connections
        from dvae_tf.serving.application import Application
        from dvae_tf.serving.intake import Intake
        from dvae_tf.serving.models import ModelDirectory
    except ImportError as error:
        raise ValueError(
            f"Serving needs Starlette and uvicorn ({error}). Run: pip install 'dvae-tf[serving]'"
        ) from error
    if not name or not all(c.isalnum() or c in "-_." for c in name):
        raise ValueError(
            f"--name must be made of letters, digits, -, _ and dots. Received: {name!r}."
        )
    if max_megabytes < 1:
        raise ValueError(f"--max-megabytes must be at least 1. Received: {max_megabytes}.")
    if max_rows < 1:
        raise ValueError(f"--max-rows must be at least 1. Received: {max_rows}.")
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must be from 0 to 65535. Received: {port}. Try 8501.")
    models = ModelDirectory(Path(export_dir))
    listener = _listen(host, port)
    max_bytes = max_megabytes * 2**20
    application = Application(models, name=name, max_rows=max_rows, max_bytes=max_bytes)
    intake = Intake(
        application.build(),
        hosts=(host, socket.gethostname(), *allowed_host),
        max_bytes=max_bytes,
        max_total=max(_MAX_TOTAL, 2 * max_bytes),
    )
    log = logging.StreamHandler()
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[log])
    shown_host = f"[{host}]" if ":" in host else host
    print(
        f"serving {name}, version {models.newest.number}, at "
        f"http://{shown_host}:{listener.getsockname()[1]}/  (Ctrl-C stops it)",
        flush=True,
    )
    # TensorFlow and Keras keep a million objects alive. Freezing them spares each garbage collection
    # a third of a second, during which no request would be answered. The second collection makes
    # Python forget their number, by which it judges when the next one is worth its time.
    gc.collect()
    gc.freeze()
    gc.collect()
    # uvicorn ends what is running after SIGTERM, and then sends the signal again.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connections.server(intake, log).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Opening it before the server starts gives a plain error message."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
        # Without TCP_NODELAY every answer would wait 40 ms for an acknowledgement. Connections inherit
        # the option, and asyncio only sets it on sockets that it created itself.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise OSError(
            f"--host and --port must be free to listen on. Received: {host}, {port} "
            f"({error.strerror or error}). Choose another --port."
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 after a user's error, 130 after Ctrl-C."""
    return commands.run(app, arguments)
