"""The base class of likelihoods, and their registry."""

from typing import ClassVar

import keras
import numpy as np

from dvae_tf.layers import EventLayer
from dvae_tf.registry import Registry

LIKELIHOODS: Registry[type["Likelihood"]] = Registry("likelihood", "dvae_tf.likelihoods")


class Likelihood:
    """A family of distributions p(x|z). The class holds its properties, and is never instantiated.

    Attributes:
        name: name on the command line.
        values: the values that it suits, in words.
        remark: a remark for the documentation; may be empty.
        layer: the last layer of a decoder in this family.
        step: distance of neighbouring values of the support, on the scale that models see; None for
            a density over real numbers.
        is_binary: whether the support is {0, 1}, so that training draws binary values.
    """

    name: ClassVar[str]
    values: ClassVar[str]
    remark: ClassVar[str] = ""
    layer: ClassVar[type[EventLayer]]
    step: ClassVar[float | None] = None
    is_binary: ClassVar[bool] = False

    @classmethod
    def is_discrete(cls) -> bool:
        """Return whether p(x|z) is a probability, so that bits per dimension are meaningful."""
        return cls.step is not None

    @classmethod
    def location(cls, mean: np.ndarray) -> np.ndarray:
        """Return the first parameter for which p(x|z) has about this mean, an array of any shape."""
        return mean


def likelihood_of(layer: keras.layers.Layer) -> type[Likelihood]:
    """Return the likelihood whose decoders end in a layer of this type.

    Raises:
        ValueError: if there is none.
    """
    for likelihood in LIKELIHOODS.values():
        if type(layer) is likelihood.layer:
            return likelihood
    raise ValueError(
        f"The decoder must end in the layer of one of {', '.join(LIKELIHOODS)}. "
        f"Received: {type(layer).__name__}. Register a likelihood for it."
    )
