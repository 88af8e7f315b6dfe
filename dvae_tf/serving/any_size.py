"""The signatures of a model of examples of any size: heights and widths are free.

=========================  ==============================  ====================================
signature                  inputs                          outputs
=========================  ==============================  ====================================
serving_default = denoise  example [B, H, W, C]            denoised, stddev [B, H, W, C], valid
draw                       example, seed [B, 2]            draw [B, H, W, C], valid [B]
encode                     example                         mean_1, stddev_1, ..., valid
decode                     latent_1 [B, h, w, c], ...      example [B, 2 h, 2 w, C]
sample                     seed                            example of the reference size
score                      example, seed                   elbo, reconstruction, kl [B], valid
=========================  ==============================  ====================================

`denoise` averages over a fixed number of posterior draws, whose random numbers are the same for all
rows and requests: row i of the answer is `model(row)`. `draw` returns one posterior draw a row,
`model.draws(row, 1, seed=seed)`. `encode` follows the path of conditional means. A conditional model
p(x|x~) has no p(x) and no latents to decode alone: `denoise` and `draw` are all that it has.

All rows of a request have one size. A kind of data limits how many parts, such as pixels, they have
together (`Kind.max_parts`), because a draw needs some hundred bytes a pixel.
"""

from collections.abc import Callable

import tensorflow as tf

from dvae_tf import densities, latents, randomness
from dvae_tf.denoised import NUM_FIXED_DRAWS, HierarchyDenoiser
from dvae_tf.model import DVAE
from dvae_tf.serving import finite, names
from dvae_tf.serving.signatures import SEED, Signatures, by_row, spec_of

# Height and width of golden and warm-up inputs. Padding and cropping take part.
_TRIAL_SIZE = (20, 13)


def signatures_of(model: DVAE) -> Signatures:
    """Return the signatures of a model: those of any size if it is a ladder.

    Raises:
        ValueError: if the model cannot be served.
    """
    return AnySizeSignatures(model) if hasattr(model.decoder, "beside") else Signatures(model)


class AnySizeSignatures(Signatures):
    """The functions of a ladder that become signatures.

    Args:
        model: a model from `networks.ladder`.
    """

    def __init__(self, model: DVAE):
        self._model = model
        self._denoiser = HierarchyDenoiser(model.encoder, model.decoder)
        self.example_spec = model.kind.spec(model.encoder)
        self.example_names = names.of_examples(self.example_spec, model.kind.field)
        self._prior_spec = spec_of(model.prior.event_shape)
        self.latent_spec = tuple(
            tf.TensorSpec([None, None, None, spec.shape[-1]]) for spec in self._prior_spec
        )
        self.latent_names = names.of_nest(self.latent_spec, "latent")
        example = tf.TensorSpec([None, *_TRIAL_SIZE, self.example_spec.shape[-1]])
        self.trial_specs = example, spec_of(model.decoder.core.latent_shapes(*_TRIAL_SIZE))
        self._is_normal = False  # of joint latents: rows are scored one by one
        self._knows_moments = True
        z = model.encoder(tf.zeros([1, *example.shape[1:]])).mean_along()
        self.has_closed_kl = model.prior.kl_along(z) is not None

    def _functions(self) -> dict[str, tuple[Callable, dict[str, tf.TensorSpec]]]:
        functions = super()._functions()
        if self._model.is_conditional:
            functions = {"denoise": functions["denoise"]}
        example = names.named(self.example_names, self.example_spec)
        functions["draw"] = (self.draw, example | {"seed": SEED})
        return {
            name: (_never_empty(function), specs) for name, (function, specs) in functions.items()
        }

    def tensor_names(self) -> dict[str, list[str]]:
        return super().tensor_names() | {"draw": ["draw"]}

    def meanings(self):
        added = {
            "denoised": (f"mean of {NUM_FIXED_DRAWS} posterior draws", [None, None]),
            "draw": (f"one posterior draw of the clean {self._model.kind.noun}", [None, None]),
            "mean": ("mean of a latent map, given the means of the coarser ones", [None, None]),
        }
        if self.has_closed_kl:
            added["kl"] = (
                "sum over levels of KL(q(z_l|z_>l, x) || p(z_l|z_>l)) at that z, in nats; its mean is "
                "the KL divergence",
                [0.0, None],
            )
        if self._model.observation is not None:
            added["reconstruction"] = (
                "log p(y|z) of what is seen, at one z, in nats",
                [None, None],
            )
        return added

    def _denoise_examples(self, examples):
        x, valid = self._guarded(examples)
        mean, stddev = self._denoiser.fixed_in_graph(x)
        outputs = self._named_examples("denoised", mean)
        return finite.answer(outputs | self._named_examples("stddev", stddev), valid)

    def draw(self, seed, **inputs):
        """Return one posterior draw of the clean example for each row, from the row's own seed."""
        seed = self._seeds(seed, inputs)
        x, valid = self._examples(inputs)
        drawn = by_row(self._draw_of_row, (x, seed), of=self.example_spec)
        return finite.answer(self._named_examples("draw", drawn), valid)

    def _draw_of_row(self, rows):
        x, seed = rows
        seed = randomness.fold_in(seed[0], randomness.Purpose.DENOISING)
        return self._denoiser.draw_in_graph(x, 0, seed)

    def encode(self, **inputs):
        """Return mean and standard deviation of every latent map, given the means of coarser ones."""
        x, valid = self._examples(inputs)
        found = self._model.encoder(x, training=False).mean_along()
        outputs = self._named_latents("mean", found.levels)
        return finite.answer(outputs | self._named_latents("stddev", found.spreads), valid)

    def decode(self, **inputs):
        """Return the mean of p(x|z). Its height and width are twice those of the first latent map."""
        first = tf.shape(inputs[self.latent_names[0]])
        checks = [
            tf.debugging.assert_equal(
                tf.shape(inputs[name])[:3] * [1, 2**level, 2**level],
                first[:3],
                f"`{name}` must have as many rows as `{self.latent_names[0]}`, and 1/{2**level} of its "
                "height and width.",
            )
            for level, name in enumerate(self.latent_names[1:], start=1)
        ]
        with tf.control_dependencies(checks):
            return super().decode(**{name: tf.identity(z) for name, z in inputs.items()})

    def _terms_of_row(self, rows):
        x, seed = rows
        seed = randomness.fold_in(seed[0], randomness.Purpose.SCORING)
        q = self._model.encoder(x, training=False)
        z = latents.draw_along(q, seed=seed, num_samples=1)
        reconstruction = densities.log_reconstruction(self._model.decoder, z, x, copies=(1,))[0]
        kl = densities.kl(q, self._model.prior, z)
        return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}

    def _examples(self, inputs):
        return self._guarded(names.nest_of(self.example_names, inputs))

    def _guarded(self, examples):
        """Return examples as `finite.guarded` does, and refuse what is too large, or has no pixels."""
        kind, shape = self._model.kind, tf.shape(examples)
        checks = [
            tf.debugging.assert_positive(
                shape[1:-1], f"{kind.noun}s must have at least one {kind.part}."
            ),
            tf.debugging.assert_less_equal(
                tf.reduce_prod(tf.cast(shape[:-1], tf.int64)),
                tf.constant(kind.max_parts, tf.int64),
                f"a request must have at most {kind.max_parts} {kind.part}s: send fewer or smaller "
                f"{kind.noun}s, or denoise them in tiles with denoise.py",
            ),
        ]
        with tf.control_dependencies(checks):  # before anything takes memory
            return finite.guarded(tf.identity(examples), self.example_spec)

    def _named_latents(self, what: str, nest) -> dict[str, tf.Tensor]:
        shaped = tf.nest.map_structure(
            lambda z, spec: tf.ensure_shape(z, spec.shape), tuple(nest), self.latent_spec
        )
        return super()._named_latents(what, shaped)


def _never_empty(function: Callable) -> Callable:
    """Return a function that runs on a row of zeros in place of no rows, and answers with no rows.

    TensorFlow can neither stack no rows of unknown size nor, with oneDNN, convolve them.
    """

    def run(**inputs):
        def one_at_least(x):
            missing = tf.cast(tf.equal(tf.shape(x)[0], 0), tf.int32)
            return tf.pad(x, [[0, missing]] + [[0, 0]] * (len(x.shape) - 1))

        rows = tf.shape(next(iter(inputs.values())))[0]
        outputs = function(**{name: one_at_least(x) for name, x in inputs.items()})
        return {name: x[:rows] for name, x in outputs.items()}

    return run
