"""Check an exported version before serving it: `python serving/check.py EXPORT_DIR/1`.

The check loads the SavedModel as TensorFlow Serving does: through the C API, with XLA switched off.
It calls every signature on golden.npz, and replays every warm-up request. The exit status is 0 if
all outputs agree, 1 if something differs, and 2 if there is no such version.
"""

import io
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

# Otherwise TensorFlow's start-up messages would bury ours. The variable only works before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from c_api import Session
from client import Parser
from google.protobuf.message import DecodeError

# Errors that reading a damaged file may raise, in addition to TensorFlow's own.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    DecodeError,
)


def golden(version_dir: Path) -> Iterator[tuple[str, dict, dict]]:
    """Yield (signature, inputs, outputs) from golden.npz."""
    with np.load(version_dir / "golden.npz", allow_pickle=False) as content:
        arrays = dict(content)
    for signature in sorted({key.split("/")[0] for key in arrays}):
        sides: dict[str, dict] = {"input": {}, "output": {}}
        for key, value in arrays.items():
            name, side, tensor = key.split("/")
            if name == signature:
                sides[side][tensor] = value
        yield signature, sides["input"], sides["output"]


def differences(version_dir: Path, run) -> list[str]:
    """Return how the outputs of `run(signature, inputs)` exceed the tolerances, one line for each."""
    tolerance = json.loads((version_dir / "signature.json").read_text(encoding="utf-8"))[
        "tolerance"
    ]
    found = []
    for signature, inputs, expected in golden(version_dir):
        outputs = run(signature, inputs)
        if set(outputs) != set(expected):
            found.append(f"{signature} returns {sorted(outputs)}, not {sorted(expected)}")
            continue
        for name, value in expected.items():
            message = _difference(np.asarray(outputs[name]), value, tolerance, name)
            if message:
                found.append(f"{signature}, {name}: {message}")
    return found


def missing(version_dir: Path, signatures: set[str]) -> list[str]:
    """Return one line for each file that does not list exactly these signatures."""
    described = json.loads((version_dir / "signature.json").read_text(encoding="utf-8"))[
        "signatures"
    ]
    sources = {
        "golden.npz": {name for name, _, _ in golden(version_dir)},
        "signature.json": set(described),
    }
    return [
        f"{file} lists the signatures {sorted(names)}, not {sorted(signatures)}"
        for file, names in sources.items()
        if names != signatures
    ]


def _difference(ours: np.ndarray, theirs: np.ndarray, tolerance: dict, name: str) -> str:
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, not {theirs.shape}"
    if theirs.dtype.kind == "S" and "image_bytes" not in tolerance:
        return "" if np.array_equal(ours, theirs) else "differs"
    if theirs.dtype.kind == "S":
        ours, theirs = _decoded(ours), _decoded(theirs)
        allowed = tolerance["image_bytes"]
    else:
        allowed = tolerance["nats" if name in ("elbo", "reconstruction", "kl") else "default"]
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    excess = np.abs(ours - theirs) - allowed["absolute"] - allowed["relative"] * np.abs(theirs)
    if excess.size and not excess.max() <= 0:
        return f"differs by up to {np.abs(ours - theirs).max():.3g}, more than {allowed} allows"
    return ""


def _decoded(files: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in files])


def warmup_requests(version_dir: Path) -> Iterator[tuple[str, dict]]:
    """Yield (signature, inputs) of every warm-up record; nothing if there is no file.

    Raises:
        ImportError: if there are records and tensorflow-serving-api is not installed.
    """
    path = version_dir / "assets.extra" / "tf_serving_warmup_requests"
    if not path.exists():
        return
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog="check.py", description="Check a version as TensorFlow Serving loads it.")
    parser.add_argument("version_dir", type=Path, metavar="VERSION_DIR")
    version_dir = parser.parse_args(arguments).version_dir
    for name in ("saved_model.pb", "signature.json", "golden.npz"):
        if not (version_dir / name).exists():
            print(
                f"check.py: error: VERSION_DIR must hold {name}, as dvae_tf exports it. "
                f"Received: {version_dir}. Name a version, for example RUN_DIR/export/1.",
                file=sys.stderr,
            )
            return 2
    try:
        session = Session(version_dir)
        found = missing(version_dir, set(session.signatures))
        found += differences(version_dir, session.run)
        count = 0
        for signature, inputs in warmup_requests(version_dir):
            session.run(signature, inputs)
            count += 1
    except (RuntimeError, ImportError, tf.errors.OpError, *_DAMAGE) as error:
        found = [" ".join(str(error).split())]
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    warmed = f"{count} warm-up requests run" if count else "there are no warm-up requests"
    print(f"{len(session.signatures)} signatures give the golden outputs; {warmed}")
    session.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
