"""Predict requests: a signature turns the body of a request into the body of the response.

====================================================== ======================================
request                                                response
====================================================== ======================================
`{"signature_name": NAME, "instances": [ROW, ...]}`    `{"predictions": [ROW, ...]}`
`{"signature_name": NAME, "inputs": {INPUT: BATCH}}`   `{"outputs": {OUTPUT: BATCH}}`
====================================================== ======================================

A single output has no name in the response, and a single input needs none in the request.
"""

import re
import reprlib
from typing import Any

import tensorflow as tf

from dvae_tf.serving import tensors
from dvae_tf.serving.models import Version
from dvae_tf.serving.tensors import RequestError


def predict(version: Version, body: bytes, *, max_rows: int = 1024) -> dict[str, Any]:
    """Answer a predict request.

    Args:
        version: the version that answers.
        body: the body of the request.
        max_rows: limit for the number of rows.

    Returns:
        an object with `predictions` for rows, or `outputs` for columns.

    Raises:
        RequestError: if the request is not valid.
    """
    # A row is an object, with an object for each string.
    request = tensors.parse_object(body, max_objects=16 + 4 * max_rows)
    unknown = set(request) - {"signature_name", "instances", "inputs"}
    if unknown:
        raise RequestError(400, f"a request must not have the keys {tensors.shown(unknown)}")
    if ("instances" in request) == ("inputs" in request):
        raise RequestError(400, "a request must have either `instances` (rows) or `inputs`")
    name = request.get("signature_name", "serving_default")
    if not isinstance(name, str) or name not in version.signatures:
        names = ", ".join(sorted(version.signatures))
        raise RequestError(400, f"signature_name must be one of {names}: {reprlib.repr(name)}")
    function = version.signatures[name]
    specs = function.structured_input_signature[1]
    by_row = "instances" in request
    read = tensors.from_rows if by_row else tensors.from_columns
    inputs = read(request["instances" if by_row else "inputs"], specs, max_rows=max_rows)
    try:
        outputs = function(**version.kind.checked_request(inputs, version.example_spec))
    except ValueError as error:
        raise RequestError(400, str(error)) from error
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(400, _reason(error.message)) from error
    columns = {key: tensors.as_json(value) for key, value in outputs.items()}
    if not by_row:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _reason(message: str) -> str:
    """Return the reason in an error message of TensorFlow, without names in the graph."""
    asserted = re.search(r"assertion failed: \[(.*?)\]", message, re.DOTALL)
    if asserted:
        return asserted[1]
    text = re.sub(r"\{\{[^}]*\}\}|\[\[.*?\]\]|\[Op:\w+\]", "", message)
    text = re.sub(r"(?<=of tensor )\S+ ", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the model cannot run on these inputs"
