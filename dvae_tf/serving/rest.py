"""TensorFlow Serving's REST interface to the signatures of an exported model, and a page to try it.

===========================================  =============================================
path                                         what it does
===========================================  =============================================
`GET /v1/models/NAME[/versions/N]`           state of the versions; the health check
`GET /v1/models/NAME[/versions/N]/metadata`  names, types and shapes of every signature
`POST /v1/models/NAME[/versions/N]:predict`  `{"instances": [...]}` or `{"inputs": ...}`
`GET /`, `POST /noise`                       the page, and the noise that it shows
===========================================  =============================================

Like TensorFlow Serving it watches a directory and serves the newest version in it; unlike it, it
checks names, types and shapes before TensorFlow sees a request. Errors are `{"error": MESSAGE}`.
"""

import asyncio
import base64
import binascii
import contextlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import numpy as np
import tensorflow as tf
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dvae_tf import corruptions, templating
from dvae_tf.serving import export

_log = logging.getLogger(__name__)

_JSON_TYPES = {
    tf.float32: ("fiub", "numbers"),
    tf.int32: ("iu", "whole numbers"),
    tf.string: ("O", "strings, or objects {'b64': base64}"),
}
_PATH = r"(?P<name>[^/:]+)(/versions/(?P<version>[0-9]{1,19}))?"
_PREDICT = re.compile(_PATH + ":predict")
_GET = re.compile(_PATH + "(?P<metadata>/metadata)?")
# Seconds within which a request's body must be there.
_BODY_SECONDS = 30.0


class RequestError(Exception):
    """A request that cannot be answered: status of the response, and what to change."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Version(NamedTuple):
    """A version that is loaded."""

    number: int
    model: Any  # the loaded SavedModel, whose variables live as long as it does
    corruption: Mapping[str, Any] | None  # {"name", "level"} that it was trained on

    @property
    def signatures(self) -> Mapping[str, Any]:
        """The concrete functions, by name."""
        return self.model.signatures

    @property
    def image_spec(self) -> tf.TensorSpec:
        """Of a batch of images."""
        return self.signatures["denoise"].structured_input_signature[1]["image"]

    @property
    def image_shape(self) -> list[int]:
        """Height, width and channels."""
        return self.image_spec.shape.as_list()[1:]


class ModelDirectory:
    """The newest version of a directory of versions.

    Args:
        path: holds a directory for each version, as `export.export` writes them.

    Raises:
        ValueError: if there is none that can be loaded.
    """

    def __init__(self, path: Path):
        self._path = path
        self._failed: dict[int, int] = {}  # version -> when its file was written
        found = export.versions(path)
        if not found:
            raise ValueError(
                "EXPORT_DIR must hold a version, a directory named by a number. "
                f"Received: {path}. Name the export directory of a run, for example RUN_DIR/export."
            )
        self._newest = self._load(found[-1])

    @property
    def newest(self) -> Version:
        return self._newest

    def refresh(self) -> None:
        """Load the newest version in the directory, if it is another one.

        One that cannot be loaded is passed over, and the one that is served stays.
        """
        for number in reversed(export.versions(self._path)):
            if number == self._newest.number:
                return
            if self._failed.get(number) == self._written(number):
                continue
            try:
                self._newest = self._load(number)
                _log.warning("serving version %d", number)
                return
            except ValueError as error:
                self._failed[number] = self._written(number)
                _log.warning("%s", error)

    def _written(self, number: int) -> int:
        """Return when the files of a version were last written, so that a repaired one is tried."""
        path = self._path / str(number)
        try:
            return max(file.stat().st_mtime_ns for file in [path, *path.rglob("*")])
        except OSError:  # it is being replaced
            return -1

    def _load(self, number: int) -> Version:
        path = self._path / str(number)
        try:
            loaded = tf.saved_model.load(str(path))
            corruption = json.loads((path / "signature.json").read_text())["corruption"]
            if corruption is not None:
                corruptions.from_name(corruption["name"], corruption["level"])
            return Version(number, loaded, corruption)
        except Exception as error:  # TensorFlow raises many types on a damaged file
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path} must be a version that dvae_tf exported ({reason}). Export it again."
            ) from error


def predict(version: Version, body: bytes, *, max_rows: int = 1024) -> dict[str, Any]:
    """Answer the body of a predict request of at most `max_rows` rows.

    Returns:
        An object with `predictions` for rows, with `outputs` for columns.

    Raises:
        RequestError: if the request is not valid.
    """
    request = _parse_object(body)
    unknown = sorted(set(request) - {"signature_name", "instances", "inputs"})
    if unknown:
        raise RequestError(400, f"a request must not have the keys {', '.join(unknown)}")
    if ("instances" in request) == ("inputs" in request):
        raise RequestError(400, "a request must have either `instances` (rows) or `inputs`")
    name = request.get("signature_name", "serving_default")
    if not isinstance(name, str) or name not in version.signatures:
        raise RequestError(
            400, f"signature_name must be one of {', '.join(sorted(version.signatures))}: {name!r}"
        )
    function = version.signatures[name]
    specs = function.structured_input_signature[1]
    by_row = "instances" in request
    values = _columns(request["instances"], specs) if by_row else _named(request["inputs"], specs)
    inputs = {key: _tensor(key, values[key], spec) for key, spec in specs.items()}
    count = max(tensor.shape[0] for tensor in inputs.values())
    if count > max_rows:
        raise RequestError(413, f"a request must have at most {max_rows} rows: received {count}")
    if "image_bytes" in inputs:
        _check_sizes(inputs["image_bytes"], version)
    try:
        outputs = function(**inputs)
    except tf.errors.OpError as error:
        raise RequestError(400, _reason(error.message)) from error
    columns = {key: _as_json(value) for key, value in outputs.items()}
    if not by_row:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body must be JSON: {error}") from error
    if not isinstance(request, dict):
        raise RequestError(400, f"the body must be a JSON object, not a {type(request).__name__}")
    return request


def _check_sizes(files: tf.Tensor, version: Version) -> None:
    """Refuse files of another size by what they say of themselves, before they are decoded."""
    height, width = version.image_shape[:2]
    for index, content in enumerate(files.numpy()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of decompression bombs: this is their check
                size = Image.open(io.BytesIO(content)).size
        except Image.DecompressionBombError as error:
            raise RequestError(400, f"`image_bytes` must hold small images: {error}") from error
        except Exception:  # Pillow raises many types; TensorFlow will say what is wrong
            continue
        if size != (width, height):
            raise RequestError(
                400,
                f"`image_bytes` must hold images of {width} x {height} pixels: received "
                f"{size[0]} x {size[1]} in row {index}",
            )


def _is_base64(value) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"}


def _columns(instances, specs: Mapping[str, Any]) -> dict[str, list]:
    """Return the columns of a list of rows."""
    if not isinstance(instances, list):
        raise RequestError(400, "`instances` must be a list of rows")
    columns: dict[str, list] = {key: [] for key in specs}
    for index, row in enumerate(instances):
        named = _named(row, specs, f" in row {index}")
        for key, value in named.items():
            columns[key].append(value)
    return columns


def _named(value, specs: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return {input: value}, for a value that may stand without the name of the only input."""
    if not isinstance(value, dict) or _is_base64(value):
        if len(specs) > 1:
            raise RequestError(400, f"inputs must be named{place}: {', '.join(sorted(specs))}")
        return {next(iter(specs)): value}
    if set(value) != set(specs):
        raise RequestError(
            400,
            f"inputs must be {', '.join(sorted(specs))}{place}: received "
            f"{', '.join(sorted(value)) or 'none'}",
        )
    return value


def _tensor(name: str, value, spec: tf.TensorSpec) -> tf.Tensor:
    kinds, meaning = _JSON_TYPES[spec.dtype]
    shape = spec.shape.as_list()
    required = f"`{name}` must hold {meaning} in shape {['B', *shape[1:]]}"
    try:
        is_string = spec.dtype == tf.string
        # Objects, since NumPy's own strings lose zero bytes at their end.
        array = np.asarray(_as_bytes(value), object) if is_string else np.asarray(value)
    except (ValueError, OverflowError, RecursionError, binascii.Error) as error:
        raise RequestError(400, f"{required}: {error}") from error
    if array.shape == (0,):
        # JSON does not tell an empty batch of images from one of vectors.
        array = np.zeros([0, *shape[1:]], spec.dtype.as_numpy_dtype)
    elif array.size and array.dtype.kind not in kinds:
        raise RequestError(400, f"{required}: received another type")
    if not spec.shape.is_compatible_with(array.shape):
        raise RequestError(400, f"{required}: received {list(array.shape)}")
    if spec.dtype == tf.int32 and np.any((array < -(2**31)) | (array >= 2**31)):
        raise RequestError(400, f"{required}: received a number beyond 32 bits")
    if is_string:
        if not all(isinstance(content, bytes) for content in array.ravel()):
            raise RequestError(400, f"{required}: received rows of different lengths")
        return tf.constant(array.tolist(), tf.string, shape=array.shape)
    return tf.constant(array.astype(spec.dtype.as_numpy_dtype))


def _as_bytes(value):
    """Return JSON's strings and base64 objects as bytes."""
    if isinstance(value, list):
        return [_as_bytes(element) for element in value]
    if _is_base64(value) and isinstance(value["b64"], str):
        return base64.b64decode(value["b64"], validate=True)
    if isinstance(value, str):
        return value.encode()
    raise ValueError(f"received a {type(value).__name__}")


def _as_json(tensor: tf.Tensor) -> list:
    values = tensor.numpy().tolist()
    if tensor.dtype == tf.string:
        return [{"b64": base64.b64encode(content).decode("ascii")} for content in values]
    return values


def _reason(message: str) -> str:
    """Return what TensorFlow says went wrong, without the places in a graph that nobody sees."""
    text = message.split("[[{{")[0].strip()
    return re.sub(r"(?<=of tensor )\S+ ", "", text.splitlines()[-1]) if text else message


class Application:
    """The web application, around a directory of versions.

    Args:
        models: the versions.
        name: of the model, in the paths.
        max_bytes: largest body of a request.
        max_rows: most rows of a request.
        poll_seconds: how often the directory is looked at.
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
        self._template = templating.environment(autoescape=True).get_template("serve.html")
        # More threads would only wait for each other, the event loop's among them.
        self._limiter = anyio.CapacityLimiter(os.cpu_count() or 1)

    def build(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/noise", self._answer(self._noise), methods=["POST"]),
                Route("/v1/models/{path:path}", self._status, methods=["GET"]),
                Route("/v1/models/{path:path}", self._answer(self._predict), methods=["POST"]),
            ],
            exception_handlers={
                404: lambda request, error: _error(404, f"there is no {request.url.path}"),
                405: lambda request, error: _error(405, f"{request.method} is not for this path"),
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
        """Return an endpoint that reads a body of limited size and runs `handle` in a thread."""

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
                return _error(400, "the body must arrive whole")
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
            # What is a little too long is read to its end, or its sender would not see the answer.
        if received > self._max_bytes:
            raise RequestError(
                413,
                f"a request must have at most {self._max_bytes} bytes: send fewer images at a time",
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
        """Answer at once, however busy the model is: it is the health check, too."""
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
        """Corrupt an image for the page: {"image", "noise", "level", "seed"} to {"image"}."""
        given = _parse_object(body)
        if set(given) != {"image", "noise", "level", "seed"}:
            raise RequestError(400, "the body must have the keys image, noise, level, seed")
        if not isinstance(given["seed"], int):
            raise RequestError(400, f"`seed` must be a whole number: {given['seed']!r}")
        image = _tensor("image", [given["image"]], self._models.newest.image_spec)
        if not np.isfinite(image).all():
            raise RequestError(400, "`image` must be finite")
        try:
            corruption = corruptions.from_name(given["noise"], given["level"], clip=True)
            noisy = corruption(image, seed=given["seed"])
        except (ValueError, TypeError, OverflowError) as error:
            raise RequestError(400, str(error)) from error
        return {"image": noisy.numpy()[0].tolist()}

    async def _page(self, request: Request) -> HTMLResponse:
        version = self._models.newest
        trained = version.corruption or {"name": corruptions.Gaussian.name, "level": 0.1}
        content = self._template.render(
            name=self._name,
            version=version.number,
            image_shape=version.image_shape,
            noises=list(corruptions.CORRUPTIONS),
            noise=trained["name"],
            level=corruptions.highest(trained["level"]),
        )
        return HTMLResponse(content)


def _error(status: int, message: str) -> Response:
    # json.dumps escapes what is no valid text, such as half a surrogate pair of a request.
    content = json.dumps({"error": " ".join(message.split())})
    return Response(content, status_code=status, media_type="application/json")


def _metadata(name: str, version: Version) -> dict[str, Any]:
    """Return the metadata of a version in TensorFlow Serving's form, but for names in the graph."""

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
