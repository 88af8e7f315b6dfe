"""Denoise an image on a model server: `python serving/client.py noisy.png --out clean.png`.

The client needs only Python's standard library. It speaks REST, to TensorFlow Serving or to
`dvae_tf.serve`. With --grpc it speaks gRPC, and then needs tensorflow-serving-api.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path


class ServerError(Exception):
    """The server cannot be reached, or has refused the request."""


def denoise_rest(
    image: bytes, *, server: str, model: str, version: int | None, label: str | None, timeout: float
) -> bytes:
    """Return the denoised PNG of a PNG or JPEG, over REST."""
    path = f"/v1/models/{urllib.parse.quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{version}"
    if label is not None:
        path += f"/labels/{urllib.parse.quote(label, safe='')}"
    url = f"{server.rstrip('/')}{path}:predict"
    body = {
        "signature_name": "denoise_png",
        "instances": [{"b64": base64.b64encode(image).decode("ascii")}],
    }
    try:
        request = urllib.request.Request(url, json.dumps(body).encode())
    except ValueError as error:
        raise ServerError(f"--server must be like http://localhost:8501 ({error})") from error
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            answer = response.read()
    except urllib.error.HTTPError as error:
        raise ServerError(f"{url} answered {error.code}: {_message(error)}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ServerError(
            f"{url} gave no answer: {reason!r}. Is a server running there, and does it speak REST?"
        ) from error
    try:
        return base64.b64decode(json.loads(answer)["predictions"][0]["b64"], validate=True)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ServerError(f"{url} returned a response that is not TensorFlow Serving's") from error


def _message(error: urllib.error.HTTPError) -> str:
    """Return the error message in a server's response."""
    try:
        text = error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return "(its message was cut off)"
    try:
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text[:200]


def denoise_grpc(
    image: bytes, *, server: str, model: str, version: int | None, label: str | None, timeout: float
) -> bytes:
    """Return the denoised PNG of a PNG or JPEG, over gRPC."""
    try:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        raise ServerError(
            f"--grpc needs tensorflow-serving-api ({error}): pip install tensorflow-serving-api"
        ) from error
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "denoise_png"
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image]))
    with grpc.insecure_channel(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            answer = stub.Predict(request, timeout=timeout)
            return tf.make_ndarray(answer.outputs["denoised_bytes"])[0]
        except grpc.RpcError as error:
            raise ServerError(
                f"{server} answered {error.code().name}: {error.details()}"
            ) from error
        except (TypeError, IndexError) as error:
            raise ServerError(f"{server} returned a response without a denoised image") from error


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 after an error, which it prints."""
    parser = Parser(prog="client.py", description="Denoise an image on a server.")
    parser.add_argument("image", type=Path, help="PNG or JPEG, of the size that the model takes")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument(
        "--server", help="default: http://localhost:8501, and localhost:8500 with --grpc"
    )
    parser.add_argument("--grpc", action="store_true", help="use gRPC instead of REST")
    parser.add_argument("--model", default="dvae", help="name of the model (default: dvae)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="default: the newest")
    which.add_argument("--label", help="for example stable or canary")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds (default: 10)")
    given = parser.parse_args(arguments)
    if not 0 < given.timeout <= 86_400:
        parser.error(f"--timeout must be from 0 to 86400 seconds. Received: {given.timeout}.")
    if given.version is not None and not 0 < given.version < 2**63:
        parser.error(f"--version must be from 1 to 2**63 - 1. Received: {given.version}.")
    if not given.out.name or os.path.isdir(given.out):
        parser.error(f"--out must name a file. Received: {given.out}.")
    call = denoise_grpc if given.grpc else denoise_rest
    default = "localhost:8500" if given.grpc else "http://localhost:8501"
    unfinished = given.out.with_name(f".{given.out.name}-{os.getpid()}")
    try:
        denoised = call(
            given.image.read_bytes(),
            server=given.server or default,
            model=given.model,
            version=given.version,
            label=given.label,
            timeout=given.timeout,
        )
        unfinished.write_bytes(denoised)
        unfinished.replace(given.out)
    except (OSError, ServerError) as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        print(f"client.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
