"""Export: a SavedModel whose signatures need neither Keras nor this package.

| signature                     | inputs               | outputs                                 |
|-------------------------------|----------------------|-----------------------------------------|
| `serving_default` = `denoise` | image                | denoised, stddev [B,H,W,C], valid [B]   |
| `encode`                      | image                | mean, stddev [B,L], valid               |
| `decode`                      | latent [B,L]         | image                                   |
| `sample`                      | seed int32 [B,2]     | image                                   |
| `score`                       | image, seed          | elbo, reconstruction, kl [B] in nats, valid |
| `denoise_png`                 | image_bytes [B]      | denoised_bytes [B], PNG; for 1, 3, 4 channels |

Nothing in them is random but through a seed that the caller gives, row by row.
"""

import os
import shutil
from pathlib import Path

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import randomness
from dvae_tf.model import DVAE


def export(model: DVAE, directory: Path, *, version: int) -> Path:
    """Write `model` as the SavedModel `directory`/`version`, which appears by one rename.

    Args:
        model: a built model with Functional encoder and decoder.
        directory: holds one sub-directory for each version.
        version: a positive integer.

    Raises:
        FileExistsError: if that version exists.
        ValueError: if the version is not positive.
    """
    if version < 1:
        raise ValueError(f"`version` must be at least 1. Received: version={version}.")
    target = directory / str(version)
    if target.exists():
        raise FileExistsError(f"{target} must not exist yet. Choose another version.")
    # A server loads only directories named by a number.
    unfinished = directory / f".unfinished-{version}-{os.getpid()}"
    directory.mkdir(parents=True, exist_ok=True)
    try:
        # The module holds variables alone: a Keras model in it would bring its own functions along.
        module = tf.Module()
        module.model_variables = [variable.value for variable in model.variables]
        signatures = _Signatures(model).concrete_functions()
        tf.saved_model.save(module, str(unfinished), signatures=signatures)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


class _Signatures:
    """The functions of a SavedModel, around a model."""

    def __init__(self, model: DVAE):
        self._model = model
        self._image_shape = tuple(model.encoder.input_shape[1:])

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
        if self._image_shape[-1] in (1, 3, 4):  # what a PNG can hold
            specs["denoise_png"] = (self.denoise_png, [image_bytes])
        functions = {
            name: tf.function(function, autograph=False).get_concrete_function(*spec)
            for name, (function, spec) in specs.items()
        }
        return functions | {"serving_default": functions["denoise"]}

    def denoise(self, image):
        image, valid = self._guarded(image)
        p = self._model.decoder(self._model.encoder(image).mean())
        return {
            "denoised": _zero_where_invalid(p.mean(), valid),
            "stddev": _zero_where_invalid(p.stddev(), valid),
            "valid": valid,
        }

    def encode(self, image):
        image, valid = self._guarded(image)
        q = self._model.encoder(image)
        return {
            "mean": _zero_where_invalid(q.mean(), valid),
            "stddev": _zero_where_invalid(q.stddev(), valid),
            "valid": valid,
        }

    def decode(self, latent):
        latent = tf.ensure_shape(latent, [None, self._model.latent_dim])
        return {"image": self._model.decoder(latent).mean()}

    def sample(self, seed):
        return {"image": self._model.decoder(self._noise(seed)).mean()}

    def score(self, image, seed):
        tf.debugging.assert_equal(
            tf.shape(image)[0], tf.shape(seed)[0], "`seed` must have one row for each image."
        )
        image, valid = self._guarded(image)
        q = self._model.encoder(image)
        normal = q.distribution
        z = normal.loc + normal.scale * self._noise(seed)
        reconstruction = self._model.decoder(z).log_prob(image)
        kl = tfd.kl_divergence(q, tfd.Independent(tfd.Normal(tf.zeros_like(z), 1.0), 1))
        terms = {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
        return {k: _zero_where_invalid(v, valid) for k, v in terms.items()} | {"valid": valid}

    def denoise_png(self, image_bytes):
        def decode(content):
            channels = self._image_shape[-1]
            pixels = tf.io.decode_image(content, channels, expand_animations=False)
            return tf.ensure_shape(tf.cast(pixels, tf.float32) / 255.0, self._image_shape)

        spec = tf.TensorSpec(self._image_shape, tf.float32)
        denoised = self.denoise(tf.map_fn(decode, image_bytes, fn_output_signature=spec))
        pixels = tf.cast(tf.round(tf.clip_by_value(denoised["denoised"], 0.0, 1.0) * 255), tf.uint8)
        encoded = tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.string)
        return {"denoised_bytes": encoded}

    def _guarded(self, image):
        """Return the image with rows that are not finite set to zero, and which rows are."""
        image = tf.ensure_shape(image, [None, *self._image_shape])
        valid = tf.reduce_all(tf.math.is_finite(image), axis=[1, 2, 3])
        return _zero_where_invalid(image, valid), valid

    def _noise(self, seed):
        """Return latents from N(0, I), row i a function of seed row i alone: [B, L]."""
        shape = [self._model.latent_dim]
        return tf.map_fn(
            lambda row: randomness.normal(shape, row),
            tf.ensure_shape(seed, [None, 2]),
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )


def _zero_where_invalid(values, valid):
    mask = tf.reshape(valid, [-1] + [1] * (values.shape.rank - 1))
    return tf.where(mask, values, tf.zeros_like(values))
