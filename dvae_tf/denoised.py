"""Denoising: moments and draws of the clean example, given a noisy one."""

from typing import NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import latents, nests, randomness
from dvae_tf.kinds.kind import Example


class Denoised(NamedTuple):
    """A denoised batch.

    Attributes:
        mean: mean of every value, a nest of tensors [B, ...].
        stddev: standard deviation of every value, with the same shapes.
    """

    mean: Example
    stddev: Example


class Moments(NamedTuple):
    """Mean and variance of every value of the clean example for one latent: [N, ...]."""

    mean: Example
    variance: Example


def moments(p: tfd.Distribution) -> Moments:
    """Return the moments of the clean example that a decoder's distribution implies.

    A model of noisy examples returns a distribution of what is observed. The clean example is then
    its signal s(z), which has no variance given z.
    """
    signal = getattr(p, "signal", None)
    if signal is None:
        return Moments(p.mean(), p.variance())
    return Moments(signal, tf.nest.map_structure(tf.zeros_like, signal))


def average(decoder, q: tfd.Distribution, num_samples: int, seed: tf.Tensor) -> Denoised:
    """Return moments over draws from the posterior, decoded together.

    mean = (1/S) sum_s E[x|z_s], stddev = sqrt((1/S) sum_s Var[x|z_s] + Var_s E[x|z_s]).
    """
    z = latents.draw(q, seed=seed, num_samples=num_samples)  # [S, B, L]
    p = decoder(nests.merge(z), training=False)
    means, variances = nests.separate(tuple(moments(p)), num_samples)  # [S, B, ...]

    def spread(variance, mean):
        return tf.sqrt(tf.reduce_mean(variance, 0) + tf.math.reduce_variance(mean, 0))

    return Denoised(
        tf.nest.map_structure(lambda mean: tf.reduce_mean(mean, 0), means),
        tf.nest.map_structure(spread, variances, means),
    )


def draws(decoder, q: tfd.Distribution, num_draws: int, seed: tf.Tensor) -> Example:
    """Return posterior draws of the clean example: [S, B, ...]."""
    latent_seed, value_seed = randomness.split(seed)
    z = latents.draw(q, seed=latent_seed, num_samples=num_draws)
    p = decoder(nests.merge(z), training=False)
    return nests.separate(draw_value(p, value_seed), num_draws)


# S and seed of `HierarchyDenoiser.fixed`, which stands in for the posterior mean of one vector.
NUM_FIXED_DRAWS, FIXED_SEED = 8, 0


class HierarchyDenoiser:
    """Denoises with a hierarchy of latents: the input goes up once, and each draw down once.

    Only one draw is held at a time, so that pictures of any size need the memory of one.

    Args:
        encoder, decoder: models of examples that are one tensor [B, H, W, C].
    """

    def __init__(self, encoder, decoder):
        self._encoder, self._decoder = encoder, decoder
        # H and W are free: one graph serves all sizes.
        spec = tf.TensorSpec([None, *encoder.input_shape[1:]])
        place, number = tf.TensorSpec([2], tf.int32), tf.TensorSpec([], tf.int32)
        self._moments = tf.function(
            self.average_in_graph, autograph=False, input_signature=[spec, number, place, place]
        )
        self._draws = tf.function(
            self.draw_in_graph, autograph=False, input_signature=[spec, number, place, place]
        )

    def average(self, noisy, num_samples: int, seed: tf.Tensor, origin=None) -> Denoised:
        """Return the same moments as `average` of the module.

        Args:
            noisy: [B, H, W, C].
            num_samples: S, at least 1.
            seed: int32 tensor [2].
            origin: place of the first pixel in a larger picture; None for (0, 0).
        """
        place = (0, 0) if origin is None else origin
        return Denoised(*self._moments(noisy, num_samples, seed, tf.constant(place, tf.int32)))

    def draws(self, noisy, num_draws: int, seed: tf.Tensor, origin=None) -> tf.Tensor:
        """Return posterior draws of the clean example: [S, B, H, W, C]; arguments as `average`."""
        place = tf.constant((0, 0) if origin is None else origin, tf.int32)
        rows = [self._draws(noisy, number, seed, place) for number in range(num_draws)]
        return tf.stack(rows)

    def average_in_graph(self, noisy, num_samples, seed, origin=None, *, alike: bool = False):
        """Do the same as `average`, as part of another graph.

        Args:
            noisy, num_samples, seed, origin: as for `average`.
            alike: whether all rows use the random numbers of row 0.

        Returns:
            mean and standard deviation, [B, H, W, C].
        """
        q = self._encoder(noisy, training=False)

        def add(count, mean, squares, variance):
            """Welford's update of mean and squared deviations, and the sum of Var[x|z]."""
            p = self._decode_draw(q, count, seed, origin, alike)
            # A loop needs shapes that stay as they are, in what is known of them, too.
            found = Moments(*(tf.ensure_shape(part, noisy.shape) for part in moments(p)))
            change = found.mean - mean
            mean += change / tf.cast(count + 1, tf.float32)
            return (
                count + 1,
                mean,
                squares + change * (found.mean - mean),
                variance + found.variance,
            )

        zeros = tf.zeros_like(noisy)
        _, mean, squares, variance = tf.while_loop(
            lambda count, *_: count < num_samples, add, (0, zeros, zeros, zeros)
        )
        return mean, tf.sqrt((squares + variance) / tf.cast(num_samples, tf.float32))

    def fixed_in_graph(self, noisy):
        """Return mean and standard deviation over draws whose random numbers never change.

        Row i depends on row i alone: it is that of `average` with `NUM_FIXED_DRAWS` and `FIXED_SEED`.
        """
        seed = randomness.fold_in(randomness.as_seed(FIXED_SEED), randomness.Purpose.DENOISING)
        return self.average_in_graph(noisy, NUM_FIXED_DRAWS, seed, alike=True)

    def _decode_draw(self, q, number, seed, origin, alike=False) -> tfd.Distribution:
        z = q.draw(seed=seed, num_samples=1, first=number, origin=origin, alike=alike)
        return self._decoder(nests.merge(z), training=False)

    def draw_in_graph(self, noisy, number, seed, origin=None):
        """Return draw `number` of `draws`, [B, H, W, C], as part of another graph."""
        q = self._encoder(noisy, training=False)
        latent_seed, value_seed = randomness.split(seed)
        p = self._decode_draw(q, number, latent_seed, origin)
        return draw_value(p, randomness.fold_in(value_seed, number))


def draw_value(p: tfd.Distribution, seed: tf.Tensor) -> Example:
    """Return a draw of the clean example from a decoder's distribution, [N, ...]."""
    signal = getattr(p, "signal", None)
    return p.sample(seed=seed) if signal is None else signal
