"""A layer that draws from a distribution."""

from typing import Any

import keras
import tensorflow as tf

from dvae_tf import latents
from dvae_tf.layers.layer import register


@register
class Sample(keras.layers.Layer):
    """Draws z ~ q, to connect an encoder and a decoder in one Functional model.

        z = Sample()(distribution=encoder.output)
        model = keras.Model(encoder.input, decoder(z))

    Args:
        seed: seed of the layer's generator, which advances with every call, as in Keras' random
            layers; None draws a seed. A seed given to `call` takes precedence, and does not advance
            the generator.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def call(self, *, distribution, seed=None):
        if seed is None:
            seed = tf.cast(self._generator.next(), tf.int32)
        return latents.draw(distribution, seed=seed)

    def compute_output_shape(self, distribution_shape=None, **kwargs):
        return distribution_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.seed}
