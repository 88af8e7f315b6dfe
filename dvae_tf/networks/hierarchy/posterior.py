"""The posterior of a ladder, as a distribution over its latent maps."""

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import nests, randomness
from dvae_tf.latents import Drawn
from dvae_tf.networks.hierarchy.core import LadderCore


class LadderPosterior(tfd.Distribution):
    """q(eps_1, ..., eps_L | y) = prod_l N(eps_l; shift_l(eps_>l, y), spread_l(eps_>l, y)^2).

    Args:
        core: the ladder.
        features: d_1 to d_L of N inputs (see `LadderCore.features`). None for N(0, I), the prior of a
            conditional ladder.
        conditions: c_1 to c_L of a conditional ladder.
        size: height and width of the inputs, integers or an int32 tensor [2].
        training: whether layers are in their training phase.
    """

    def __init__(
        self, core: LadderCore, features, conditions=None, *, size, training: bool = False
    ):
        self._core, self._size, self._training = core, size, training
        self._features, self._conditions = features, conditions
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters={},
            name="LadderPosterior",
        )

    @property
    def parameters(self) -> dict[str, Any]:
        return {"core": self._core, "features": self._features, "conditions": self._conditions}

    @property
    def batch_shape(self) -> tf.TensorShape:
        return self._maps[0].shape[:1]

    @property
    def event_shape(self) -> tuple[tf.TensorShape, ...]:
        """Shapes of eps_1 to eps_L."""
        channels = self._core.latent_channels
        return tuple(tf.TensorShape([*d.shape[1:3], channels]) for d in self._maps)

    @property
    def shapes(self) -> list[tf.Tensor]:
        """Shapes of eps_1 to eps_L, [3] each."""
        channels = self._core.latent_channels
        return [tf.concat([tf.shape(d)[1:3], [channels]], 0) for d in self._maps]

    @property
    def _maps(self) -> tuple:
        return self._conditions if self._features is None else self._features

    @property
    def _rows(self) -> tf.Tensor:
        return tf.shape(self._maps[0])[0]

    def draw(
        self, *, seed: tf.Tensor, num_samples: int, first=0, origin=None, alike: bool = False
    ) -> Drawn:
        """Draw latents and keep what was computed along with them.

        Args:
            seed: int32 tensor [2]. The noise of a value depends on the seed, the number of the
                sample, the row of the batch, and the value's place in the picture.
            num_samples: K.
            first: number of the first sample.
            origin: place of the input's first pixel in a larger picture, an int32 tensor [2].
            alike: whether all rows get the noise of row 0, so that a draw depends on its row alone.

        Returns:
            levels [K, N, h_l, w_l, c], parameters [K, N, H, W, ...], log density [K, N], and KL
            terms [K, N, L].
        """
        noise = [
            randomness.normal_maps(
                first,
                num_samples,
                1 if alike else self._rows,
                shape,
                randomness.fold_in(seed, level),
                origin=None if origin is None else origin // 2 ** (level + 1),
            )
            for level, shape in enumerate(self.shapes)
        ]
        if alike:
            noise = [tf.tile(maps, [1, self._rows, 1, 1, 1]) for maps in noise]
        found = self._descend(num_samples, noise=tuple(map(nests.merge, noise)))
        return nests.separate(found, num_samples)

    def sample(self, sample_shape=(), seed=None, name="sample", **kwargs):
        shape = tf.TensorShape(sample_shape).as_list()
        (count,) = shape or (1,)
        levels = self.draw(seed=seed, num_samples=count).levels
        return levels if shape else tuple(eps[0] for eps in levels)

    def log_prob(self, value, name="log_prob", **kwargs):
        """Return log q(eps | y), ``[..., N, h_l, w_l, c] -> [..., N]``."""
        leading = tf.shape(value[0])[:-4]
        count = tf.reduce_prod(leading)
        flat = tuple(tf.reshape(eps, tf.concat([[-1], tf.shape(eps)[-3:]], 0)) for eps in value)
        log_density = self._descend(count, levels=flat).log_density
        return tf.reshape(log_density, tf.concat([leading, [-1]], 0))

    def mean(self, name="mean", **kwargs):
        """Return the path of conditional means: each eps_l is shift_l at the means above it."""
        return self.mean_along().levels

    def stddev(self, name="stddev", **kwargs):
        """Return spread_l along the path of conditional means."""
        return self.mean_along().spreads

    def mean_along(self) -> Drawn:
        """Return the path of conditional means, and what is computed along with it."""
        zeros = tuple(tf.zeros(tf.concat([[self._rows], shape], 0)) for shape in self.shapes)
        return self._descend(1, noise=zeros)

    def _descend(self, count, **given) -> Drawn:
        return self._core.descend(
            self._features and nests.repeat(self._features, count),
            self._conditions and nests.repeat(self._conditions, count),
            size=self._size,
            training=self._training,
            **given,
        )
