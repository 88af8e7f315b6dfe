"""The base class of observations, their registry, and how they are written as text."""

import math
from typing import Any, ClassVar

import tensorflow as tf

from dvae_tf.configured import Configured
from dvae_tf.registry import Registry

OBSERVATIONS: Registry[type["Observation"]] = Registry("observation", "dvae_tf.observations")


class Observation(Configured):
    """Base class of observations p(y|s), with mean s. A subclass defines the methods below.

    Values of an example are observed independently of each other. A subclass's constructor takes
    `parameters` as floats, in this order, and keeps them as attributes of the same names.

    Attributes:
        name: name on the command line.
        effect: what it models, in words.
        parameters: names of the constructor's arguments, in the order of the text form.
    """

    name: ClassVar[str]
    effect: ClassVar[str] = ""
    parameters: ClassVar[tuple[str, ...]]

    def log_prob(self, y, s) -> tf.Tensor:
        """Return log p(y|s) of each value, in nats.

        Args:
            y: float32, observed values.
            s: float32, signals; `y` and `s` broadcast against each other.
        """
        raise NotImplementedError

    def variance(self, s) -> tf.Tensor:
        """Return the variance of y given s: float32, of the shape of `s`."""
        raise NotImplementedError

    def sample(self, s, seed: tf.Tensor) -> tf.Tensor:
        """Draw y ~ p(y|s).

        Args:
            s: float32, finite signals.
            seed: int32 tensor of shape [2].

        Returns:
            float32, of the shape of `s`; a pure function of `s` and `seed`.
        """
        raise NotImplementedError

    @classmethod
    def form(cls) -> str:
        """Return the text form, for example "poisson_gaussian:GAIN,OFFSET,READ_NOISE"."""
        return f"{cls.name}:{','.join(cls.parameters).upper()}"

    def describe(self) -> str:
        """Return the model in one phrase."""
        values = ", ".join(f"{key}={value:.4g}" for key, value in self.get_config().items())
        return f"{self.name}, {values}"

    def get_config(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.parameters}


def finite(name: str, value, meaning: str, *, above: float = -math.inf, least: float = -math.inf):
    """Return the argument `name` as a float, or raise with the reason.

    Args:
        name: name of the argument.
        value: what the caller gave.
        meaning: what the argument is and what to give instead, a sentence.
        above: the value must be larger.
        least: the value must be at least as large.

    Raises:
        TypeError: if the value is not a number.
        ValueError: if it is not finite or too small.
    """
    limit = f" above {above:g}" if above > -math.inf else ""
    limit = f" of at least {least:g}" if least > -math.inf else limit
    message = f"`{name}` must be a finite number{limit}. Received: {name}={value!r}. {meaning}"
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise TypeError(message)
    number = float(value)
    if not math.isfinite(number) or number <= above or number < least:
        raise ValueError(message)
    return number


def from_text(text: str) -> Observation:
    """Return the observation that a text such as "gaussian:0.1" describes.

    Raises:
        ValueError: if the text has none of the forms NAME:NUMBER,NUMBER,... of `OBSERVATIONS`, or
            if a number is out of range.
    """
    name, _, numbers = str(text).partition(":")
    cls = OBSERVATIONS.get(name.strip())
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if cls is None or len(values) != len(cls.parameters):
        forms = ", ".join(entry.form() for entry in OBSERVATIONS.values())
        raise ValueError(
            f"`observation` must be one of {forms}. Received: {text!r}. "
            "Give numbers on the scale of the images, for example gaussian:0.1."
        )
    return cls(*values)


def to_text(observation: Observation) -> str:
    """Return the text from which `from_text` makes an equal observation."""
    return f"{observation.name}:{','.join(map(repr, observation.get_config().values()))}"
