"""Converting JSON to tensors and back, in the form of TensorFlow Serving's REST interface.

Names, types and shapes are checked before TensorFlow sees a request. If they are wrong, a
`RequestError` says why.
"""

import base64
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

# The types of JSON that a type of tensor takes, and their names.
_JSON_TYPES: dict[tf.DType, tuple[set[type], str]] = {
    tf.float32: ({int, float, bool}, "numbers"),
    tf.int32: ({int}, "whole numbers"),
    tf.string: ({str, dict}, "strings, or objects {'b64': base64}"),
}


class RequestError(Exception):
    """The request cannot be answered. It carries the HTTP status, and a message that says why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def shown(names) -> str:
    """Return a few of these names, cut if they are long, for a message."""
    words = [name if len(name) <= 40 else f"{name[:40]}..." for name in sorted(names)[:6]]
    return ", ".join(words + ["..."] * (len(names) > 6))


def parse_object(body: bytes, *, max_objects: int = 16) -> dict[str, Any]:
    """Return the JSON object in the body of a request, which has up to `max_objects` objects."""
    count = 0

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal count
        count += 1
        if count > max_objects:
            raise RequestError(413, "the body has more objects than the most rows can have")
        return dict(pairs)

    try:
        request = json.loads(body, object_pairs_hook=make)
    except RecursionError as error:
        raise RequestError(400, "the body must be JSON: it is nested too deeply") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, f"the body must be JSON: {error}") from error
    except ValueError as error:
        raise RequestError(400, "the body must be JSON: a number is too long") from error
    if not isinstance(request, dict):
        raise RequestError(400, f"the body must be a JSON object, not a {type(request).__name__}")
    return request


def from_rows(
    instances, specs: Mapping[str, tf.TensorSpec], *, max_rows: int
) -> dict[str, tf.Tensor]:
    """Return the inputs of a signature from a list of rows, which are objects or single values."""
    if not isinstance(instances, list):
        raise RequestError(400, "`instances` must be a list of rows")
    _check_rows(instances, max_rows)
    columns: dict[str, list] = {key: [] for key in specs}
    for index, row in enumerate(instances):
        named = _named(row, specs, f" in row {index}")
        for key, value in named.items():
            columns[key].append(value)
    return {key: tensor(key, columns[key], spec) for key, spec in specs.items()}


def from_columns(
    inputs, specs: Mapping[str, tf.TensorSpec], *, max_rows: int
) -> dict[str, tf.Tensor]:
    """Return the inputs of a signature from an object of batches, or from the only batch."""
    values = _named(inputs, specs)
    for value in values.values():
        _check_rows(value, max_rows)
    return {key: tensor(key, values[key], spec) for key, spec in specs.items()}


def _check_rows(batch, max_rows: int) -> None:
    """Refuse too many rows before they are converted, which takes longer than reading them."""
    if isinstance(batch, list) and len(batch) > max_rows:
        raise RequestError(
            413, f"a request must have at most {max_rows} rows: received {len(batch)}"
        )


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
            f"inputs must be {', '.join(sorted(specs))}{place}: received {shown(value) or 'none'}",
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
    types, meaning = _JSON_TYPES[spec.dtype]
    shape = spec.shape.as_list()
    required = f"`{name}` must hold {meaning} in shape {_in_words(shape)}"
    received, first = _outline(value)
    if received[-1:] != [0] and type(first) not in types:
        raise RequestError(400, f"{required}: received another type")
    # In JSON all empty batches look the same, whatever the shape of a row.
    if received == [0]:
        received = [0, *(1 if size is None else size for size in shape[1:])]
    if not spec.shape.is_compatible_with(received):
        raise RequestError(400, f"{required}: received {received}")
    values = _values(value, received)
    if values is None:
        remedy = ", and all rows of a request must have one size" * (None in shape[1:])
        raise RequestError(400, f"{required}{remedy}: received rows of different lengths")
    if not set(map(type, values)) <= types:
        raise RequestError(400, f"{required}: received another type")
    try:
        if spec.dtype == tf.string:
            return tf.constant([_as_bytes(x) for x in values], tf.string, received)
        with np.errstate(over="ignore"):  # a float beyond 32 bits becomes infinity: not valid
            array = np.array(values, spec.dtype.as_numpy_dtype)
    except OverflowError as error:
        raise RequestError(400, f"{required}: received a number beyond 32 bits") from error
    except ValueError as error:
        raise RequestError(400, f"{required}: {error}") from error
    return tf.constant(array.reshape(received))


def _in_words(shape: list[int | None]) -> str:
    """Write the shape of a batch, [B, ...], where an axis of any length is "any"."""
    return str(["B", *("any" if size is None else size for size in shape[1:])])


def _outline(value) -> tuple[list[int], Any]:
    """Return the shape of nested lists, judged by the first of each, and their first value."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            return shape, None
        value = value[0]
    return shape, value


def _values(value, shape: list[int]) -> list | None:
    """Return the values in nested lists of this shape, or None if they have another."""
    level = [value]
    for size in shape:
        if set(map(type, level)) - {list} or set(map(len, level)) - {size}:
            return None
        level = list(itertools.chain.from_iterable(level))
    return level


def _as_bytes(value) -> bytes:
    """Return a JSON string or a base64 object as bytes."""
    if isinstance(value, str):
        return value.encode()
    if _is_base64(value) and isinstance(value["b64"], str):
        return base64.b64decode(value["b64"], validate=True)
    raise ValueError("received an object that is not {'b64': base64}")


def as_json(tensor: tf.Tensor) -> list:
    """Return a batch as JSON values: lists of numbers, or base64 objects."""
    values = tensor.numpy().tolist()
    if tensor.dtype == tf.string:
        return [{"b64": base64.b64encode(content).decode("ascii")} for content in values]
    return values
