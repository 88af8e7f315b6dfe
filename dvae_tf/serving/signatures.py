"""The signatures of a SavedModel: the functions of a model, batch first, with named tensors.

=========================  =============  =================================================
signature                  inputs         outputs
=========================  =============  =================================================
serving_default = denoise  example        denoised, stddev [B, ...], valid [B]
encode                     example        mean, stddev of z [B, L], valid
decode                     latent [B, L]  example
sample                     seed [B, 2]    example
score                      example, seed  elbo, reconstruction, kl [B] in nats, valid
=========================  =============  =================================================

"example" stands for the field of the kind of data (`Kind.field`). Examples and latents with several
parts have one tensor for each part (see `names`). A kind may add signatures (`Kind.signatures`).
Models of examples of any size have signatures of their own: see `any_size`.

The caller's seed is the only source of randomness. Row i of an output depends only on row i of the
inputs. Draws that would use one seed for all rows are therefore made row by row: draws from a prior,
and from a posterior that is not normal.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from dvae_tf import densities, latents, randomness
from dvae_tf.model import DVAE
from dvae_tf.serving import finite, names

SEED = tf.TensorSpec([None, 2], tf.int32)
_TERMS = ("elbo", "reconstruction", "kl")  # what `score` returns


class Signatures:
    """The functions of a model that become signatures.

    Args:
        model: a built model, whose encoder was made from `keras.Input`.

    Attributes:
        example_spec: `tf.TensorSpec` of a batch of examples, or a nest of specs.
        example_names: names of the tensors of an example.
        latent_spec: `tf.TensorSpec` of a batch of latents, or a nest of specs.
        latent_names: names of the tensors of a latent.
        trial_specs: the same specs of examples and latents, with sizes to try the signatures with.
        has_closed_kl: whether `kl` is exactly KL(q(z|x) || p(z)), not an estimate from one z.

    Raises:
        ValueError: if the model cannot be served.
    """

    def __init__(self, model: DVAE):
        self._model = model
        self.example_spec = model.kind.spec(model.encoder)
        self.example_names = names.of_examples(self.example_spec, model.kind.field)
        for spec in tf.nest.flatten(self.example_spec):
            if None in spec.shape[1:]:
                raise ValueError(
                    "The encoder must take examples of one size to be served. "
                    f"Received: shape {tuple(spec.shape)}. Give keras.Input the size."
                )
        self.latent_spec = self._prior_spec = spec_of(model.prior.event_shape)
        self.trial_specs = self.example_spec, self.latent_spec
        self.latent_names = names.of_nest(self.latent_spec, "latent")
        example = tf.nest.map_structure(lambda s: tf.zeros([1, *s.shape[1:]]), self.example_spec)
        q = model.encoder(example, training=False)
        latents.draw(q, seed=tf.zeros([2], tf.int32))  # raises if latents cannot be drawn
        self._is_normal = latents.is_normal(q)
        self._knows_moments = latents.knows_moments(q)
        self.has_closed_kl = model.prior.kl(q) is not None

    def concrete_functions(self) -> dict[str, Any]:
        """Return the traced functions by name, including `serving_default`."""
        signatures = self._functions()
        signatures |= self._model.kind.signatures(self._denoise_examples, self.example_spec)
        functions = {
            name: tf.function(function, autograph=False).get_concrete_function(**specs)
            for name, (function, specs) in signatures.items()
        }
        return functions | {"serving_default": functions["denoise"]}

    def _functions(self) -> dict[str, tuple[Callable, dict[str, tf.TensorSpec]]]:
        """Return the functions by name, and the specs of their inputs."""
        example = names.named(self.example_names, self.example_spec)
        latent = names.named(self.latent_names, self.latent_spec)
        return {
            "denoise": (self.denoise, example),
            "encode": (self.encode, example),
            "decode": (self.decode, latent),
            "sample": (self.sample, {"seed": SEED}),
            "score": (self.score, example | {"seed": SEED}),
        }

    def meanings(self) -> dict[str, tuple[str, list[float | None]]]:
        """Return what these signatures have to add to the meanings of tensors (see `description`)."""
        return {}

    def tensor_names(self) -> dict[str, list[str]]:
        """Return the names of tensors that may have parts: "latent" -> ["latent_1", ...]."""
        example, latent = self.example_spec, self.latent_spec
        nests = {
            self._model.kind.field: self.example_names,
            "denoised": names.of_nest(example, "denoised"),
            "latent": self.latent_names,
            "mean": names.of_nest(latent, "mean"),
            "stddev": (names.of_nest(example, "stddev"), names.of_nest(latent, "stddev")),
        }
        return {what: tf.nest.flatten(nest) for what, nest in nests.items()}

    def denoise(self, **inputs):
        """Return mean and standard deviation of p(x|z) at the posterior mean of z."""
        return self._denoise_examples(names.nest_of(self.example_names, inputs))

    def _denoise_examples(self, examples):
        x, valid = finite.guarded(examples, self.example_spec)
        p = self._model.decoder(self._posterior_moment(latents.mean, x), training=False)
        outputs = self._named_examples("denoised", p.mean())
        return finite.answer(outputs | self._named_examples("stddev", p.stddev()), valid)

    def encode(self, **inputs):
        """Return mean and standard deviation of q(z|x)."""
        x, valid = self._examples(inputs)
        outputs = self._named_latents("mean", self._posterior_moment(latents.mean, x))
        stddev = self._posterior_moment(latents.stddev, x)
        return finite.answer(outputs | self._named_latents("stddev", stddev), valid)

    def decode(self, **inputs):
        """Return the mean of p(x|z)."""
        given = names.nest_of(self.latent_names, inputs)
        z, valid = finite.guarded(given, self.latent_spec)
        outputs = names.named(
            self.example_names, self._shaped(self._model.decoder(z, training=False).mean())
        )
        answer = finite.answer(outputs, valid)
        del answer["valid"]
        return answer

    def sample(self, seed):
        """Return the mean of p(x|z) at one z ~ p(z) for each row."""
        z = by_row(
            lambda row: self._model.prior.sample(1, seed=row[0]),
            tf.ensure_shape(seed, SEED.shape),
            of=self._prior_spec,
        )
        return names.named(
            self.example_names, self._shaped(self._model.decoder(z, training=False).mean())
        )

    def score(self, seed, **inputs):
        """Return ELBO, log p(x|z) and KL(q(z|x) || p(z)), in nats, at one z ~ q(z|x) for each row."""
        seed = self._seeds(seed, inputs)
        x, valid = self._examples(inputs)
        if self._is_normal:
            q = self._model.encoder(x, training=False)
            eps = by_row(
                lambda row: randomness.normal([1, *self._model.prior.event_shape], row[0]),
                seed,
                of=self.latent_spec,
            )
            return finite.answer(self._terms(q, latents.from_standard_normal(q, eps), x), valid)
        terms = by_row(
            self._terms_of_row, (x, seed), of=dict.fromkeys(_TERMS, tf.TensorSpec([None]))
        )
        return finite.answer(terms, valid)

    def _terms_of_row(self, rows):
        x, seed = rows
        q = self._model.encoder(x, training=False)
        return self._terms(q, latents.draw(q, seed=seed[0]), x)

    def _terms(self, q, z, x) -> dict[str, tf.Tensor]:
        reconstruction = densities.log_reconstruction(self._model.decoder, z, x)
        draws = tf.nest.map_structure(lambda part: part[tf.newaxis], z)
        kl = densities.kl(q, self._model.prior, draws)
        return dict(zip(_TERMS, (reconstruction - kl, reconstruction, kl), strict=True))

    def _posterior_moment(self, moment: Callable, x):
        """Return `moment` of q(z|x): `latents.mean` or `latents.stddev`, [B, L]."""
        if self._knows_moments:
            return moment(self._model.encoder(x, training=False))
        return by_row(
            lambda row: moment(self._model.encoder(row, training=False)), x, of=self.latent_spec
        )

    def _seeds(self, seed, inputs) -> tf.Tensor:
        """Return seeds, [B, 2], and refuse them where examples have another number of rows."""
        check = tf.debugging.assert_equal(
            tf.shape(tf.nest.flatten(inputs)[0])[0],
            tf.shape(seed)[0],
            f"`seed` must have one row for each {self._model.kind.noun}.",
        )
        with tf.control_dependencies([check]):
            return tf.ensure_shape(seed, SEED.shape)

    def _examples(self, inputs):
        return finite.guarded(names.nest_of(self.example_names, inputs), self.example_spec)

    def _named_examples(self, what: str, nest) -> dict[str, tf.Tensor]:
        return names.named(names.of_nest(self.example_spec, what), self._shaped(nest))

    def _shaped(self, nest):
        """Return examples whose shape is that of the spec: not every distribution knows its own."""
        return tf.nest.map_structure(
            lambda x, spec: tf.ensure_shape(x, spec.shape), nest, self.example_spec
        )

    def _named_latents(self, what: str, nest) -> dict[str, tf.Tensor]:
        return names.named(names.of_nest(self.latent_spec, what), nest)


def spec_of(event_shape: tuple):
    """Return the spec of a batch of latents of this shape; a tuple of specs for several shapes."""
    if event_shape and isinstance(event_shape[0], tuple):
        return tuple(spec_of(shape) for shape in event_shape)
    return tf.TensorSpec([None, *event_shape], tf.float32)


def by_row(function: Callable, nest, *, of):
    """Apply a function to one row at a time: [B, ...] -> [B, ...].

    Args:
        function: takes and returns a nest of tensors [1, ...].
        nest: the inputs, [B, ...].
        of: the specs of the outputs, [None, ...].
    """

    def one(row):
        result = function(tf.nest.map_structure(lambda x: x[tf.newaxis], row))
        flat = [x[0] for x in tf.nest.flatten(result)]
        return tf.nest.pack_sequence_as(of, flat)

    row_spec = tf.nest.map_structure(lambda s: tf.TensorSpec(s.shape[1:], s.dtype), of)
    return tf.map_fn(one, nest, fn_output_signature=row_spec)
