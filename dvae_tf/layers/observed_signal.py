"""A layer that turns a signal into the distribution of what is seen of it."""

import keras

from dvae_tf.layers.layer import ProbabilisticLayer, register
from dvae_tf.observations import Observation, Observed


@register
class ObservedSignal(ProbabilisticLayer):
    """p(y|s) for a map of signals s, [B, H, W, C] with any sizes: the end of a decoder.

    Args:
        observation: how a signal is seen, for example `observations.Gaussian(0.1)`.

    Raises:
        TypeError: if `observation` is not an `Observation`.
    """

    def __init__(self, observation: Observation, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(observation, Observation):
            raise TypeError(
                "`observation` must be an Observation, for example observations.Gaussian(0.1). "
                f"Received: observation={observation!r}."
            )
        self.observation = observation

    def make_distribution(self, parameters):
        return Observed(self.observation, parameters)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        observation = keras.saving.serialize_keras_object(self.observation)
        return super().get_config() | {"observation": observation}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        observation = keras.saving.deserialize_keras_object(config.pop("observation"))
        return cls(observation, **config)
