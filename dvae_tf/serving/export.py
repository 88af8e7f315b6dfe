"""Export: a SavedModel whose signatures need neither Keras nor this package.

::

    python -m dvae_tf.export RUN_DIR --version 2

    signature                  inputs            outputs
    serving_default = denoise  image             denoised, stddev [B,H,W,C], valid [B]
    encode                     image             mean, stddev [B,L], valid
    decode                     latent [B,L]      image
    sample                     seed int32 [B,2]  image
    score                      image, seed       elbo, reconstruction, kl [B] in nats, valid
    denoise_png                image_bytes [B]   denoised_bytes [B], PNG; for 1, 3, 4 channels

Nothing in them is random but through a seed that the caller gives, row by row. Beside the
SavedModel a version holds `signature.json`, `golden.npz`, `model_card.md`, and the records with
which TensorFlow Serving warms a model up.
"""

import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
from cyclopts import Parameter

from dvae_tf import commands, corruptions, densities, files, latents, randomness, templating
from dvae_tf.model import DVAE
from dvae_tf.runs import configuration
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.serving import purity

# Of signature.json; another number says that the file has another form.
_FORMAT = 1
_GOLDEN_ROWS = 4
_WARMUP_BATCHES = (1, 8, 32)
_PNG_CHANNELS = (1, 3, 4)  # what a PNG can hold
# How far two loaders of the same file may differ from the golden outputs, for they sum in different
# orders: |difference| <= absolute + relative |golden|. Pixels of PNG files are in grey levels, one of
# which is lost where rounding goes the other way.
_TOLERANCE = {
    "default": {"relative": 1e-4, "absolute": 1e-5},
    "nats": {"relative": 1e-4, "absolute": 1e-3},
    "image_bytes": {"relative": 0.0, "absolute": 1.0},
}
# Where hidden layers round to 16 bits, by this much, an activation may fall to either side. Between two
# loaders trained networks differ by up to two roundings; twice that is allowed.
_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
_WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")


def export(
    model: DVAE,
    directory: Path,
    *,
    version: int,
    run: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Write `model` as the version `directory`/`version`, which appears by one rename.

    Args:
        model: a built model with Functional encoder and decoder, the encoder's distribution normal.
        directory: holds one sub-directory for each version.
        version: a positive integer below 2**63.
        run: what `describe_run` returns, for the model card; None describes the model alone.
        report: takes one line where something optional was left out.

    Returns:
        the version's directory.

    Raises:
        FileExistsError: if that version exists.
        OSError: if it cannot be written.
        ValueError: if the version is not positive, or the model cannot be served: its latent
            distribution is not normal, or one of its layers is not pure (see `purity`).
    """
    if not 1 <= version < 2**63:
        raise ValueError(
            f"`version` must be from 1 to 2**63 - 1. Received: version={version}. Try 1."
        )
    target = directory / str(version)
    if target.exists():
        raise FileExistsError(
            f"{target} must not exist yet: a version never changes. Choose another version."
        )
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with files.appearing(target) as unfinished:
            _save(model, unfinished)
            _complete(model, unfinished, run, report)
    except tf.errors.OpError as error:  # a full disk, a directory that is read-only
        raise OSError(
            f"{target} must be written completely. Received: {error.message}. Make room, or choose "
            "another place."
        ) from error
    return target


def export_run(
    run_dir: Path, *, version: int | None = None, report: Callable[[str], None] = print
) -> Path:
    """Write the model of a run directory as `run_dir`/export/`version`; None takes the next one.

    Raises:
        FileExistsError: if that version exists.
        ConfigurationError, ValueError: if the run has no model that can be served.
    """
    source = RunDirectory(run_dir)
    run = source.read_config()[1] | {
        "history": source.read_history(),
        "metrics": source.read_metrics(),
    }
    model = source.load_model()
    directory = run_dir / "export"
    if version is None:
        version = max(versions(directory), default=0) + 1
    return export(model, directory, version=version, run=run, report=report)


def versions(directory: Path) -> list[int]:
    """Return the versions that a server finds in a directory, in order; none where it cannot look."""
    try:
        paths = list(directory.iterdir())
    except OSError:
        return []
    return sorted(
        int(path.name)
        for path in paths
        if path.name.isascii()
        and path.name.isdigit()
        and path.name == str(int(path.name))
        and (path / "saved_model.pb").exists()
    )


def _save(model: DVAE, path: Path) -> None:
    """Write the SavedModel itself, and refuse one that is not pure."""
    # The module holds variables alone: a Keras model in it would bring its own functions along.
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    signatures = _Signatures(model).concrete_functions()
    tf.saved_model.save(module, str(path), signatures=signatures)
    found = purity.impurities((path / "saved_model.pb").read_bytes())
    reasons = sorted({reason for of_signature in found.values() for reason in of_signature})
    if reasons:
        raise ValueError(
            "Encoder and decoder must be functions of their input alone to be served. "
            f"Received: {'; '.join(reasons)}. Take the layer that does this out of them."
        )


def _complete(model: DVAE, path: Path, run, report: Callable[[str], None]) -> None:
    """Write what lies beside a SavedModel, from the file as a server will load it."""
    loaded = tf.saved_model.load(str(path)).signatures
    image_shape = model.encoder.input_shape[1:]
    inputs = _inputs(image_shape, model.latent_dim, _GOLDEN_ROWS)
    inputs["image"][-1, 0, 0, 0] = np.nan  # the guard, too, is part of the contract
    golden: dict[str, Any] = {}
    description = {}
    for name in sorted(loaded):
        given = {key: inputs[key] for key in loaded[name].structured_input_signature[1]}
        outputs = loaded[name](**{key: tf.constant(value) for key, value in given.items()})
        golden |= {f"{name}/input/{key}": value for key, value in given.items()}
        # PNG files do not end in a zero byte, so that NumPy's strings of fixed length hold them.
        golden |= {
            f"{name}/output/{key}": np.asarray(value.numpy().tolist())
            if value.dtype == tf.string
            else value.numpy()
            for key, value in outputs.items()
        }
        description[name] = _describe(loaded[name])
    np.savez(path / "golden.npz", **golden)
    content = {
        "format": _FORMAT,
        "corruption": _describe_corruption(model),
        "tolerance": _tolerance(model),
        "signatures": description,
    }
    (path / "signature.json").write_text(json.dumps(content, indent=2) + "\n")
    (path / "model_card.md").write_text(_model_card(model, run))
    _write_warmup(path / _WARMUP_FILE, loaded, image_shape, model.latent_dim, report)


def _inputs(image_shape, latent_dim: int, rows: int) -> dict[str, np.ndarray]:
    """Return a batch of every input that a signature takes."""
    rng = np.random.default_rng(0)
    image = rng.random((rows, *image_shape), np.float32)
    inputs = {
        "image": image,
        "latent": rng.normal(size=(rows, latent_dim)).astype(np.float32),
        "seed": rng.integers(0, 2**31, (rows, 2)).astype(np.int32),
    }
    if image_shape[-1] in _PNG_CHANNELS:
        pixels = np.round(image * 255).astype(np.uint8)
        inputs["image_bytes"] = np.array([tf.io.encode_png(row).numpy() for row in pixels])
    return inputs


# name -> what it holds, and its least and greatest value where there is one.
_MEANINGS: dict[str, tuple[str, list[float | None]]] = {
    "image": ("pixels; noise may leave the range", [0.0, 1.0]),
    "latent": ("latent variables, standard normal under the prior", [None, None]),
    "seed": ("two integers for each row; equal seeds give equal draws", [-(2**31), 2**31 - 1]),
    "image_bytes": ("PNG or JPEG files", [None, None]),
    "denoised": ("mean of p(x|z) at the posterior mean of z, pixel scale", [None, None]),
    "denoised_bytes": ("PNG files of the denoised images", [None, None]),
    "mean": ("posterior mean of z", [None, None]),
    "stddev": ("standard deviation", [0.0, None]),
    "valid": ("false where a value of the row is not finite; the row is then zeros", [0, 1]),
    "elbo": ("reconstruction - kl, in nats", [None, None]),
    "reconstruction": ("log p(x|z) at one z, in nats", [None, None]),
    "kl": ("KL(q(z|x) || p(z)), in nats", [0.0, None]),
}


def _describe(function) -> dict[str, Any]:
    def entry(name: str, spec) -> dict[str, Any]:
        meaning, range_ = _MEANINGS[name]
        return {
            "shape": spec.shape.as_list(),
            "dtype": spec.dtype.name,
            "range": range_,
            "meaning": meaning,
        }

    given, returned = function.structured_input_signature[1], function.structured_outputs
    return {
        "inputs": {name: entry(name, given[name]) for name in sorted(given)},
        "outputs": {name: entry(name, returned[name]) for name in sorted(returned)},
    }


def _tolerance(model: DVAE) -> dict[str, dict[str, float]]:
    u = _ROUNDOFF.get(model.compute_dtype)
    if u is None:
        return _TOLERANCE
    allowed = {"relative": 4 * u, "absolute": 4 * u}
    grey_levels = {"relative": 0.0, "absolute": 1.0 + 255 * 4 * u}
    return {"default": allowed, "nats": allowed, "image_bytes": grey_levels}


def _describe_corruption(model: DVAE) -> dict[str, Any] | None:
    """Return name and level of the training noise; None for a chain, which has neither."""
    if model.corruption.name not in corruptions.CORRUPTIONS:
        return None
    return {"name": model.corruption.name, "level": model.corruption.level}


def _model_card(model: DVAE, run: Mapping[str, Any] | None) -> str:
    card = {
        "title": model.corruption.describe(),
        "image_shape": model.encoder.input_shape[1:],
        "latent_dim": model.latent_dim,
        "corruption": model.corruption.describe(),
        "objective": model.objective,
        "posterior": model.posterior,
        "num_corruptions": model.num_corruptions,
        "num_samples": model.num_samples,
        "gradient": model.gradient,
        "compute_dtype": model.compute_dtype,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("tensorflow", "keras", "tensorflow-probability")
        },
        "run": run,
    }
    if run is not None:
        card |= {
            "title": f"{run['data']['name']}, {model.corruption.describe()}",
            "config": run["configuration"],
            "epochs": len(run["history"]["epoch"]),
            "metrics": _checked_metrics(run),
            "versions": run["versions"],
        }
    template = templating.environment(autoescape=False).get_template("model_card.md")
    return template.render(card) + "\n"


def _checked_metrics(run: Mapping[str, Any]) -> list[str]:
    try:
        return _metrics(run)
    except (KeyError, TypeError, ValueError) as error:
        raise configuration.ConfigurationError(
            "history.csv and evaluation/metrics.json must be those that train.py and evaluate.py "
            f"wrote. Received: {error!r}. Evaluate the run again."
        ) from error


def _metrics(run: Mapping[str, Any]) -> list[str]:
    """Return what was measured of a run, a line each."""
    history, measured = run["history"], run["metrics"]
    best = int(np.nanargmax(history["val_bound"]))
    lines = [
        f"validation bound {history['val_bound'][best]:.2f} nats per image (best epoch, {best + 1})",
        f"validation reconstruction {history['val_reconstruction'][best]:.2f}, KL "
        f"{history['val_kl'][best]:.2f} nats",
    ]
    if measured is None:
        return [*lines, "test images: not evaluated when this version was written"]

    def value(number: Mapping[str, Any], unit: str) -> str:
        error = number["standard_error"]
        spread = "" if error is None else f" ± {error:.2f}"
        return f"{number['mean']:.2f}{spread} {unit} ({number['count']} test images)"

    likelihood = measured["log_likelihood"]
    lines.append(
        f"log p(x) {value(likelihood, 'nats')}, {likelihood['num_samples']} importance samples"
    )
    noise, level = run["configuration"]["noise"], run["configuration"]["noise_level"]
    lines += [
        f"PSNR at {row['noise']} {row['level']:g}, {method}: {value(row['psnr'], 'dB')}"
        for method, key in (("noisy input", "noisy"), ("denoised", "model_mean"))
        for row in measured["denoising"]
        if (row["noise"], row["level"], row["method"]) == (noise, corruptions.highest(level), key)
    ]
    return lines


def _write_warmup(
    path: Path, loaded, image_shape, latent_dim: int, report: Callable[[str], None]
) -> None:
    """Write the requests with which TensorFlow Serving warms the model up, a record each."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        report(
            "export: left the warm-up requests out, for want of tensorflow-serving-api "
            "(pip install 'dvae-tf[serving]')"
        )
        return
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for rows in _WARMUP_BATCHES:
            inputs = _inputs(image_shape, latent_dim, rows)
            for name in sorted(loaded):
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = name
                for key in loaded[name].structured_input_signature[1]:
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(inputs[key]))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())


class _Signatures:
    """The functions of a SavedModel, around a model."""

    def __init__(self, model: DVAE):
        self._model = model
        self._image_shape = tuple(model.encoder.input_shape[1:])
        q = model.encoder(tf.zeros([1, *self._image_shape]))
        if not latents.is_normal(q):
            raise ValueError(
                "The encoder must return IndependentNormal or MultivariateNormalTriL to be served. "
                f"Received: {q!r}."
            )

    def concrete_functions(self):
        image = tf.TensorSpec([None, *self._image_shape], tf.float32, name="image")
        latent = tf.TensorSpec([None, self._model.latent_dim], tf.float32, name="latent")
        seed = tf.TensorSpec([None, 2], tf.int32, name="seed")
        image_bytes = tf.TensorSpec([None], tf.string, name="image_bytes")
        specs = {
            "denoise": (self.denoise, [image]),
            "encode": (self.encode, [image]),
            "decode": (self.decode, [latent]),
            "sample": (self.sample, [seed]),
            "score": (self.score, [image, seed]),
        }
        if self._image_shape[-1] in _PNG_CHANNELS:
            specs["denoise_png"] = (self.denoise_png, [image_bytes])
        functions = {
            name: tf.function(function, autograph=False).get_concrete_function(*spec)
            for name, (function, spec) in specs.items()
        }
        return functions | {"serving_default": functions["denoise"]}

    def denoise(self, image):
        image, valid = _guarded(image, self._image_shape)
        p = self._model.decoder(self._model.encoder(image).mean())
        return _answer({"denoised": p.mean(), "stddev": p.stddev()}, valid)

    def encode(self, image):
        image, valid = _guarded(image, self._image_shape)
        q = self._model.encoder(image)
        return _answer({"mean": q.mean(), "stddev": q.stddev()}, valid)

    def decode(self, latent):
        latent, valid = _guarded(latent, [self._model.latent_dim])
        return {"image": _answer({"image": self._model.decoder(latent).mean()}, valid)["image"]}

    def sample(self, seed):
        return {"image": self._model.decoder(self._noise(seed)).mean()}

    def score(self, image, seed):
        tf.debugging.assert_equal(
            tf.shape(image)[0], tf.shape(seed)[0], "`seed` must have one row for each image."
        )
        image, valid = _guarded(image, self._image_shape)
        q = self._model.encoder(image)
        z = latents.from_standard_normal(q, self._noise(seed))
        reconstruction = self._model.decoder(z).log_prob(image)
        kl = densities.kl(q, self._model.prior)
        terms = {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
        return _answer(terms, valid)

    def denoise_png(self, image_bytes):
        def decode(content):
            channels = self._image_shape[-1]
            pixels = tf.io.decode_image(content, channels, expand_animations=False)
            return tf.cast(tf.ensure_shape(pixels, self._image_shape), tf.float32) / 255.0

        image_bytes = tf.ensure_shape(image_bytes, [None])
        spec = tf.TensorSpec(self._image_shape, tf.float32)
        # One after the other: a small file may decode to a very large image before it is refused.
        images = tf.map_fn(decode, image_bytes, parallel_iterations=1, fn_output_signature=spec)
        denoised = self.denoise(images)
        pixels = tf.cast(tf.round(tf.clip_by_value(denoised["denoised"], 0.0, 1.0) * 255), tf.uint8)
        encoded = tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.string)
        return {"denoised_bytes": encoded}

    def _noise(self, seed):
        """Return latents from N(0, I), row i a function of seed row i alone: [B, L]."""
        shape = [self._model.latent_dim]
        return tf.map_fn(
            lambda row: randomness.normal(shape, row),
            tf.ensure_shape(seed, [None, 2]),
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )


def _guarded(values, row_shape):
    """Return the values with rows that are not finite set to zero, and which rows are."""
    values = tf.ensure_shape(values, [None, *row_shape])
    valid = _is_finite(values)
    return _zero_where_invalid(values, valid), valid


def _answer(outputs, valid):
    """Return the outputs with invalid rows set to zero, and `valid`.

    An input beyond any image, such as 1e30, may overflow on its way: such a row is invalid, too.
    """
    for values in outputs.values():
        valid = valid & _is_finite(values)
    return {k: _zero_where_invalid(v, valid) for k, v in outputs.items()} | {"valid": valid}


def _is_finite(values):
    """Return which rows are finite: [B]. Sums are: for booleans there are no vector instructions."""
    size = math.prod(values.shape[1:])
    return tf.math.is_finite(tf.reduce_sum(tf.reshape(values, [-1, size]), axis=1))


def _zero_where_invalid(values, valid):
    # Of the first version, for it selects whole rows; tf.where would broadcast over every pixel.
    return tf.compat.v1.where(valid, values, tf.zeros_like(values))


app = commands.app(
    "python -m dvae_tf.export",
    "Write another version of a trained run's SavedModel, into RUN_DIR/export.",
)


@app.default
def _command(
    run_dir: Annotated[str, Parameter(name="RUN_DIR", help="Directory train.py made.")],
    /,
    *,
    version: Annotated[
        int | None,
        commands.whole_number("A positive integer. [default: the next one]"),
    ] = None,
) -> None:
    if version is not None and version < 1:
        raise ValueError(f"--version must be at least 1. Received: {version}. Try 2.")
    print(export_run(Path(run_dir), version=version))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 after a user's error, 130 after Ctrl-C."""
    return commands.run(app, arguments)
