"""The requests with which TensorFlow Serving warms up a version before serving it."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_BATCHES = (1, 8, 32)
_FILE = Path("assets.extra", "tf_serving_warmup_requests")


def write(
    version_dir: Path,
    loaded: Mapping[str, Any],
    make_inputs: Callable[[int], Mapping[str, np.ndarray]],
    report: Callable[[str], None],
) -> None:
    """Write a record for every signature and every batch size.

    Without tensorflow-serving-api nothing is written.

    Args:
        version_dir: directory of the version.
        loaded: the signatures of its SavedModel, by name.
        make_inputs: returns all inputs by name, for a number of rows.
        report: called with one line if tensorflow-serving-api is not installed.
    """
    if importlib.util.find_spec("tensorflow_serving") is None:
        report(
            "export: left out the warm-up requests, which need tensorflow-serving-api "
            "(pip install 'dvae-tf[serving]')"
        )
        return
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = version_dir / _FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for rows in _BATCHES:
            inputs = make_inputs(rows)
            for name in sorted(loaded):
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = name
                for key in loaded[name].structured_input_signature[1]:
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(inputs[key]))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())
