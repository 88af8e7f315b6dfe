"""Converting JSON to tensors and back, in the form of TensorFlow Serving's REST interface.

Names, types and shapes are checked before TensorFlow sees a request. If they are wrong, a
`RequestError` says why.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

_JSON_TYPES = {
    tf.float32: ("fiub", "numbers"),
    tf.int32: ("iu", "whole numbers"),
    tf.string: ("O", "strings, or objects {'b64': base64}"),
}


class RequestError(Exception):
    """The request cannot be answered. It carries the HTTP status, and a message that says why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a request."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body must be JSON: {error}") from error
    if not isinstance(request, dict):
        raise RequestError(400, f"the body must be a JSON object, not a {type(request).__name__}")
    return request


def from_rows(instances, specs: Mapping[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    """Return the inputs of a signature from a list of rows, which are objects or single values."""
    if not isinstance(instances, list):
        raise RequestError(400, "`instances` must be a list of rows")
    columns: dict[str, list] = {key: [] for key in specs}
    for index, row in enumerate(instances):
        named = _named(row, specs, f" in row {index}")
        for key, value in named.items():
            columns[key].append(value)
    return {key: tensor(key, columns[key], spec) for key, spec in specs.items()}


def from_columns(inputs, specs: Mapping[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    """Return the inputs of a signature from an object of batches, or from the only batch."""
    values = _named(inputs, specs)
    return {key: tensor(key, values[key], spec) for key, spec in specs.items()}


def _is_base64(value) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"}


def _named(value, specs: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return {input: value}; a value without a name belongs to the only input."""
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


def tensor(name: str, value, spec: tf.TensorSpec) -> tf.Tensor:
    """Return a batch as a tensor.

    Args:
        name: name of the input, for messages.
        value: nested lists of JSON values.
        spec: type and shape that the tensor must have.

    Raises:
        RequestError: if the value does not have this type and shape.
    """
    kinds, meaning = _JSON_TYPES[spec.dtype]
    shape = spec.shape.as_list()
    required = f"`{name}` must hold {meaning} in shape {['B', *shape[1:]]}"
    try:
        is_string = spec.dtype == tf.string
        # Objects, because NumPy's own strings lose trailing zero bytes.
        array = np.asarray(_as_bytes(value), object) if is_string else np.asarray(value)
    except (ValueError, OverflowError, RecursionError, binascii.Error) as error:
        raise RequestError(400, f"{required}: {error}") from error
    if array.shape == (0,):
        # In JSON all empty batches look the same, whatever the shape of a row.
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
    """Replace JSON strings and base64 objects by bytes, in nested lists."""
    if isinstance(value, list):
        return [_as_bytes(element) for element in value]
    if _is_base64(value) and isinstance(value["b64"], str):
        return base64.b64decode(value["b64"], validate=True)
    if isinstance(value, str):
        return value.encode()
    raise ValueError(f"received a {type(value).__name__}")


def as_json(tensor: tf.Tensor) -> list:
    """Return a batch as JSON values: lists of numbers, or base64 objects."""
    values = tensor.numpy().tolist()
    if tensor.dtype == tf.string:
        return [{"b64": base64.b64encode(content).decode("ascii")} for content in values]
    return values
