"""Photon noise and read noise of a camera with an offset."""

import math

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.observations.observation import OBSERVATIONS, Observation, finite

# The least variance, in squared photons: read noise may be 0, and a density needs a width.
_VARIANCE_FLOOR = 0.01


@OBSERVATIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf.observations")
class PoissonGaussian(Observation):
    """A camera: y = offset + gain n + read_noise eps, n ~ Poisson((s - offset) / gain), eps ~ N(0, 1).

    Its density has no closed form. As usual it is replaced by the normal one of equal moments,

        y ~ N(s, v(s)),   v(s) = gain max(s - offset, 0) + read_noise^2,

    with the variance at least gain^2 / 100. Draws come from the camera itself. Below the offset there
    are no photons, and the mean is still s. Source: Foi et al. (2008), doi:10.1109/TIP.2008.2001399.

    Args:
        gain: the value of one photon, on the scale of the images; positive.
        offset: the value of a pixel without light.
        read_noise: standard deviation of the noise of such a pixel; may be 0.

    Raises:
        TypeError: if one of them is not a number.
        ValueError: if one of them is not finite, the gain not positive, or the read noise negative.
    """

    name = "poisson_gaussian"
    effect = "counts photons, and adds an offset and Gaussian read noise"
    parameters = ("gain", "offset", "read_noise")

    def __init__(self, gain: float, offset: float = 0.0, read_noise: float = 0.0):
        self.gain = finite(
            "gain",
            gain,
            "It is the value of one photon, such as 0.01. For noise without photons take Gaussian.",
            above=0.0,
        )
        self.offset = finite("offset", offset, "It is the value of a pixel without light.")
        self.read_noise = finite(
            "read_noise", read_noise, "It is a standard deviation, such as 0.02.", least=0.0
        )

    def log_prob(self, y, s):
        variance = self.variance(s)
        return -0.5 * (tf.square(y - s) / variance + tf.math.log(math.tau * variance))

    def variance(self, s):
        variance = self.gain * tf.maximum(s - self.offset, 0.0) + self.read_noise**2
        return tf.maximum(variance, _VARIANCE_FLOOR * self.gain**2)

    def sample(self, s, seed):
        photon_seed, read_seed = randomness.split(seed)
        photons = randomness.poisson(tf.maximum(s - self.offset, 0.0) / self.gain, photon_seed)
        read = self.read_noise * randomness.normal(tf.shape(s), read_seed)
        return tf.minimum(s, self.offset) + self.gain * photons + read
