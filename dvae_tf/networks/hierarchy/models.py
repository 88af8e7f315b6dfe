"""Encoder and decoder of a ladder, which share its core."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dvae_tf.latents import Drawn
from dvae_tf.layers import ObservedSignal, ProbabilisticLayer
from dvae_tf.likelihoods import likelihood_of
from dvae_tf.networks.hierarchy.core import LadderCore
from dvae_tf.networks.hierarchy.posterior import LadderPosterior

# Mean and standard deviation of each channel, [C].
Moments = tuple[np.ndarray, np.ndarray]
_MIN_STDDEV = 1e-6  # so that constant images can be standardised


class _Half(keras.Model):
    """A model around a core."""

    def __init__(self, core: LadderCore, **kwargs):
        super().__init__(**kwargs)
        self.core = core
        if not core.built:
            core.build()

    def build(self, input_shape=None):
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "core": keras.saving.serialize_keras_object(self.core)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        parts = {
            key: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            if isinstance(value, dict)
            else value
            for key, value in config.items()
        }
        return cls(**parts)


@keras.saving.register_keras_serializable(package="dvae_tf")
class LadderEncoder(_Half):
    """Noisy images [B, H, W, C] of any size -> q(eps|y); of a conditional ladder the prior p(eps|y)."""

    gains_by_xla = False  # on a CPU

    def __init__(self, core: LadderCore, **kwargs):
        super().__init__(core, **kwargs)
        self.build(self.input_shape)

    @property
    def input_shape(self) -> tuple:
        """Shape of a batch of images; heights and widths are free."""
        return (None, None, None, self.core.channels)

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The input as that of a Functional model, for those who ask for its shape."""
        return [keras.KerasTensor(self.input_shape, "float32", name="image")]

    @property
    def multiple(self) -> int:
        """Windows of a picture must begin at multiples of this, in pixels."""
        return self.core.multiple

    @property
    def receptive_field(self) -> int:
        """The distance in pixels within which an input can change a denoised pixel."""
        return self.core.receptive_field

    @property
    def is_conditional(self) -> bool:
        """Whether latents are drawn from a prior p(eps|y), and `recognize` is their posterior."""
        return self.core.conditional

    def call(self, image, training=False):
        training = bool(training)
        conditions = self.core.conditions(image, training=training)
        features = None
        if conditions is None:
            features = self.core.features(image, training=training)
        size = _size(image)
        return LadderPosterior(self.core, features, conditions, size=size, training=training)

    def recognize(self, clean, noisy, training=False) -> LadderPosterior:
        """Return q(eps | x, y) of a conditional ladder, for clean and noisy images [B, H, W, C]."""
        features = self.core.features(clean, noisy, training=training)
        conditions = self.core.conditions(noisy, training=training)
        size = _size(noisy)
        return LadderPosterior(self.core, features, conditions, size=size, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="dvae_tf")
class LadderDecoder(_Half):
    """Latents eps_1 to eps_L -> p(x|z).

    Args:
        core: the ladder.
        likelihood: layer from maps of parameters to a distribution over images of any size.
        size: height and width of images for latents of the shape `latent_shape`. For latents of
            another size images have the padded size, a multiple of 2**L.
    """

    def __init__(self, core: LadderCore, likelihood: ProbabilisticLayer, size, **kwargs):
        super().__init__(core, **kwargs)
        self.likelihood = likelihood
        self.size = tuple(size)
        self.build(self.latent_shape)

    def beside(self, encoder: LadderEncoder) -> "LadderDecoder":
        """Return the decoder that has the encoder's core; after loading each has a core of its own."""
        if self.core is encoder.core:
            return self
        return LadderDecoder(encoder.core, self.likelihood, self.size, name=self.name)

    @property
    def latent_shape(self) -> tuple:
        """Shapes of the latents of an image of height and width `size`."""
        return self.core.latent_shapes(*self.size)

    def call(self, z, training=False):
        if isinstance(z, Drawn):
            return self.likelihood(z.parameters)
        is_usual = all(
            eps.shape[-3:] == shape for eps, shape in zip(z, self.latent_shape, strict=True)
        )
        found = self.core.descend(
            levels=tuple(z), size=self.size if is_usual else None, training=bool(training)
        )
        return self.likelihood(found.parameters)

    def compute_output_shape(self, latent_shape):
        return (latent_shape[0][0], *self.size, self.core.channels)

    def start_at(self, values: Moments, inputs: Moments | None = None) -> None:
        """Standardise the input, and start p(x|z) at the moments of the data.

        Args:
            values: mean and standard deviation of what is scored, [C] each.
            inputs: the same of what the encoder reads; None takes `values`.
        """
        core, (mean, stddev) = self.core, values
        read_mean, read_stddev = values if inputs is None else inputs
        core.input_mean.assign(read_mean)
        core.input_scale.assign(np.maximum(read_stddev, _MIN_STDDEV))
        location = mean
        if not isinstance(self.likelihood, ObservedSignal):
            location = likelihood_of(self.likelihood).location(mean)
        core.location.assign(location)
        if location is mean:  # on the scale of the data, not a logit
            stddev = np.maximum(stddev, _MIN_STDDEV)
            core.location_scale.assign(stddev)
            bias = np.array(core.readout.bias).reshape(4, core.num_parameters, core.channels)
            bias[:, 1:] = np.log(np.expm1(stddev))  # softplus(raw) = stddev
            core.readout.bias.assign(bias.ravel())

    def get_config(self) -> dict[str, Any]:
        likelihood = keras.saving.serialize_keras_object(self.likelihood)
        return super().get_config() | {"likelihood": likelihood, "size": list(self.size)}


def _size(image):
    """Return height and width: integers if they are known in a graph, else a tensor."""
    size = image.shape[1:3]
    return tf.shape(image)[1:3] if None in size else size
