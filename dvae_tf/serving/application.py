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
`{"error": MESSAGE}`. `intake` stands before it, and reads the bodies of requests.
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
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dvae_tf.serving import memory
from dvae_tf.serving.models import ModelDirectory, Version
from dvae_tf.serving.page import Page
from dvae_tf.serving.predict import predict
from dvae_tf.serving.tensors import RequestError

_log = logging.getLogger(__name__)

_PATH = r"(?P<name>[^/:]+)(/versions/(?P<version>[0-9]{1,19}))?"
_PREDICT = re.compile(_PATH + ":predict")
_GET = re.compile(_PATH + "(?P<metadata>/metadata)?")
# JSON takes 25 times its size in memory, at worst: bodies above this size are read one at a time.
_LARGE = 2**20
# Seconds after which free memory is given back to the system.
_MEMORY_SECONDS = 60.0


class Application:
    """The web application around a directory of versions.

    Args:
        models: the directory.
        name: name of the model in the paths.
        max_rows: limit for the rows of a request.
        max_bytes: limit for the body of a request, which `intake` enforces.
        poll_seconds: seconds between two looks at the directory.
    """

    def __init__(
        self,
        models: ModelDirectory,
        *,
        name: str = "dvae",
        max_rows: int = 1024,
        max_bytes: int = 16 * 2**20,
        poll_seconds: float = 1.0,
    ):
        self._models = models
        self._name = name
        self._max_rows = max_rows
        self._poll_seconds = poll_seconds
        self._page = Page(name, max_bytes=max_bytes)
        # More threads than cores would only wait for each other, and delay the event loop.
        self._limiter = anyio.CapacityLimiter(os.cpu_count() or 1)
        self._large_limiter = anyio.CapacityLimiter(1)

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
            last = ""
            while True:
                await asyncio.sleep(self._poll_seconds)
                try:
                    await anyio.to_thread.run_sync(self._models.refresh)
                except Exception as error:  # the directory may do what nobody thought of
                    reason = f"{type(error).__name__}: {error}"
                    if reason != last:
                        _log.warning("cannot look for new versions (%s)", reason)
                    last = reason

        async def give_back():
            while True:
                await asyncio.sleep(_MEMORY_SECONDS)
                await anyio.to_thread.run_sync(memory.give_back)

        tasks = [asyncio.create_task(watch()), asyncio.create_task(give_back())]
        yield
        for task in tasks:
            task.cancel()

    def _answer(self, handle: Callable[[Request, bytes], dict[str, Any]]):
        """Return an endpoint that runs `handle` in a thread."""

        def run(request: Request, body: bytes) -> tuple[int, str]:
            # An exception that crossed to the other thread would keep its frames, and so the body and
            # everything made of it, in a cycle.
            try:
                return 200, json.dumps(handle(request, body))
            except RequestError as error:
                return error.status, _error_json(str(error))
            except Exception:
                _log.exception("request failed")
                return 500, _error_json("the server failed; its log says why")

        async def endpoint(request: Request) -> Response:
            body = await request.body()
            limiter = self._large_limiter if len(body) > _LARGE else self._limiter
            status, content = await anyio.to_thread.run_sync(run, request, body, limiter=limiter)
            return Response(content, status, media_type="application/json")

        return endpoint

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
    return Response(_error_json(message), status, media_type="application/json")


def _error_json(message: str) -> str:
    # json.dumps escapes text that UTF-8 cannot hold, such as half a surrogate pair.
    text = " ".join(message.split())
    return json.dumps({"error": text if len(text) <= 600 else f"{text[:600]}..."})


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
