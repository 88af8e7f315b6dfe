"""The base of the likelihoods, and their registry."""

from typing import ClassVar

import keras
import numpy as np

from dvae_tf.layers import EventLayer
from dvae_tf.registry import Registry

LIKELIHOODS: Registry[type["Likelihood"]] = Registry("likelihood", "dvae_tf.likelihoods")


class Likelihood:
    """What is known of a family of p(x|z); nobody makes an instance.

    Attributes:
        name: on the command line.
        values: what it is for, in words; remark: more, for the documentation.
        layer: the layer that ends a decoder in this family.
        step: between neighbouring values of the support, on the scale that models see; None for a
            density over real numbers.
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
        """Whether p(x|z) is a probability, so that bits per dimension have a meaning."""
        return cls.step is not None

    @classmethod
    def location(cls, mean: np.ndarray) -> np.ndarray:
        """Return the first parameter at which p(x|z) has about this mean, an array of any shape."""
        return mean


def likelihood_of(layer: keras.layers.Layer) -> type[Likelihood]:
    """Return the likelihood whose decoders end in such a layer.

    Raises:
        ValueError: if none does.
    """
    for likelihood in LIKELIHOODS.values():
        if type(layer) is likelihood.layer:
            return likelihood
    raise ValueError(
        f"The decoder must end in a layer of {', '.join(LIKELIHOODS)}. "
        f"Received: {type(layer).__name__}. Register a likelihood for it."
    )
