"""The web application: TensorFlow Serving's REST interface, and a page to try the model.

===========================================  =============================================
path                                         answer
===========================================  =============================================
`GET /v1/models/NAME[/versions/N]`           state of the versions; the health check
`GET /v1/models/NAME[/versions/N]/metadata`  names, types and shapes of every signature
`POST /v1/models/NAME[/versions/N]:predict`  `{"instances": [...]}` or `{"inputs": ...}`
`GET /`, `POST /noise`                       the page, and noisy examples for it
===========================================  =============================================

Like TensorFlow Serving, the application watches a directory and serves its newest version. Unlike
TensorFlow Serving, it checks names, types and shapes before TensorFlow sees a request. Errors are
`{"error": MESSAGE}`.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import tensorflow as tf
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dvae_tf.serving.models import ModelDirectory, Version
from dvae_tf.serving.page import Page
from dvae_tf.serving.predict import predict
from dvae_tf.serving.tensors import RequestError

_log = logging.getLogger(__name__)

_PATH = r"(?P<name>[^/:]+)(/versions/(?P<version>[0-9]{1,19}))?"
_PREDICT = re.compile(_PATH + ":predict")
_GET = re.compile(_PATH + "(?P<metadata>/metadata)?")
# Seconds within which the body of a request must arrive.
_BODY_SECONDS = 30.0


class Application:
    """The web application around a directory of versions.

    Args:
        models: the directory.
        name: name of the model in the paths.
        max_bytes: size limit for the body of a request.
        max_rows: limit for the rows of a request.
        poll_seconds: seconds between two looks at the directory.
    """

    def __init__(
        self,
        models: ModelDirectory,
        *,
        name: str = "dvae",
        max_bytes: int = 16 * 2**20,
        max_rows: int = 1024,
        poll_seconds: float = 1.0,
    ):
        self._models = models
        self._name = name
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._poll_seconds = poll_seconds
        self._page = Page(name)
        # More threads than cores would only wait for each other, and delay the event loop.
        self._limiter = anyio.CapacityLimiter(os.cpu_count() or 1)

    def build(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._show),
                Route("/noise", self._answer(self._noise), methods=["POST"]),
                Route("/v1/models/{path:path}", self._status, methods=["GET"]),
                Route("/v1/models/{path:path}", self._answer(self._predict), methods=["POST"]),
            ],
            exception_handlers={
                404: lambda request, error: _error(404, f"there is no {request.url.path}"),
                405: lambda request, error: _error(405, f"{request.method} does not work here"),
            },
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app):
        async def watch():
            while True:
                await asyncio.sleep(self._poll_seconds)
                await anyio.to_thread.run_sync(self._models.refresh)

        watcher = asyncio.create_task(watch())
        yield
        watcher.cancel()

    def _answer(self, handle: Callable[[Request, bytes], dict[str, Any]]):
        """Return an endpoint that reads a body of limited size, and runs `handle` in a thread."""

        async def endpoint(request: Request) -> Response:
            try:
                body = await asyncio.wait_for(self._body(request), _BODY_SECONDS)
                content = await anyio.to_thread.run_sync(
                    lambda: json.dumps(handle(request, body)), limiter=self._limiter
                )
                return Response(content, media_type="application/json")
            except RequestError as error:
                return _error(error.status, str(error))
            except asyncio.TimeoutError:
                return _error(408, f"the body must arrive within {_BODY_SECONDS:.0f} seconds")
            except ClientDisconnect:
                return _error(400, "the body must arrive completely")
            except Exception:
                _log.exception("request failed")
                return _error(500, "the server failed; its log says why")

        return endpoint

    async def _body(self, request: Request) -> bytes:
        body, received = bytearray(), 0
        async for chunk in request.stream():
            received += len(chunk)
            if received <= self._max_bytes:
                body += chunk
            elif received > 8 * self._max_bytes:
                break
            # Read a slightly too long body to its end; otherwise its sender would not see the answer.
        if received > self._max_bytes:
            raise RequestError(
                413,
                f"a request must have at most {self._max_bytes} bytes: send fewer "
                f"{self._models.newest.kind.noun}s at a time",
            )
        return bytes(body)

    def _version(self, match: re.Match | None, path: str) -> Version:
        newest = self._models.newest
        if match is None or match["name"] != self._name:
            raise RequestError(404, f"there is no {path!r}: the model's name is {self._name!r}")
        if match["version"] is not None and int(match["version"]) != newest.number:
            raise RequestError(
                404, f"version {match['version']} is not served: version {newest.number} is"
            )
        return newest

    def _predict(self, request: Request, body: bytes) -> dict[str, Any]:
        path = request.path_params["path"]
        version = self._version(_PREDICT.fullmatch(path), path)
        return predict(version, body, max_rows=self._max_rows)

    async def _status(self, request: Request) -> Response:
        """Answer at once, however busy the model is, because this is also the health check."""
        path = request.path_params["path"]
        match = _GET.fullmatch(path)
        try:
            version = self._version(match, path)
        except RequestError as error:
            return _error(error.status, str(error))
        if match and match["metadata"]:
            return JSONResponse(_metadata(self._name, version))
        status = {"error_code": "OK", "error_message": ""}
        versions = [{"version": str(version.number), "state": "AVAILABLE", "status": status}]
        return JSONResponse({"model_version_status": versions})

    def _noise(self, request: Request, body: bytes) -> dict[str, Any]:
        return self._page.noise(self._models.newest, body)

    async def _show(self, request: Request) -> Response:
        try:
            return HTMLResponse(self._page.render(self._models.newest))
        except RequestError as error:
            return _error(error.status, str(error))


def _error(status: int, message: str) -> Response:
    # json.dumps escapes text that UTF-8 cannot hold, such as half a surrogate pair.
    content = json.dumps({"error": " ".join(message.split())})
    return Response(content, status_code=status, media_type="application/json")


def _metadata(name: str, version: Version) -> dict[str, Any]:
    """Return the metadata of a version in TensorFlow Serving's form, without names in the graph."""

    def tensors(specs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: {
                "dtype": f"DT_{'FLOAT' if spec.dtype == tf.float32 else spec.dtype.name.upper()}",
                "tensor_shape": {
                    "dim": [{"size": str(-1 if n is None else n)} for n in spec.shape.as_list()],
                    "unknown_rank": False,
                },
            }
            for key, spec in specs.items()
        }

    signatures = {
        key: {
            "inputs": tensors(function.structured_input_signature[1]),
            "outputs": tensors(function.structured_outputs),
            "method_name": "tensorflow/serving/predict",
        }
        for key, function in version.signatures.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version.number)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
