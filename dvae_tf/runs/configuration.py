"""The resolved configuration of a training run, in which no value is missing."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from dvae_tf.corruptions import CORRUPTIONS
from dvae_tf.datasets import BINARIZATIONS, SPLITS
from dvae_tf.kinds import KINDS
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks import NETWORKS
from dvae_tf.runs.options import (
    OPTIMIZERS,
    ConfigurationError,
    Count,
    Level,
    OneOf,
    Options,
    Positive,
    Sizes,
)

__all__ = ["Configuration", "ConfigurationError", "from_dict", "to_dict"]

# What version 0.1 did without an option for it.
_BEFORE: dict[str, Any] = {"kind": "image", "conditional": False, "optimizer": "adam"}


@dataclass(frozen=True, kw_only=True)
class Configuration(Options):
    """A training run: options with all defaults filled in (see `defaults.resolve`).

    Only options that a run can do without may still be None: a limit, a patience, a directory.

    Raises:
        ConfigurationError: if a value is not of its type or out of range.
        TypeError: if a value is missing.
    """

    # `field()` removes the inherited default.
    kind: Annotated[str, OneOf(KINDS)] = field()
    split: Annotated[str, OneOf(SPLITS)] = field()
    binarize: Annotated[str, OneOf(BINARIZATIONS)] = field()
    noise: Annotated[str, OneOf(CORRUPTIONS)] = field()
    noise_level: Level = field()
    likelihood: Annotated[str, OneOf(LIKELIHOODS)] = field()
    network: Annotated[str, OneOf(NETWORKS)] = field()
    hidden: Sizes = field()
    activation: str = field()
    latent_dim: Count = field()
    conditional: bool = field()
    kl_warmup: Annotated[int, Field(ge=0)] = field()
    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = field()
    epochs: Count = field()
    batch_size: Count = field()
    learning_rate: Positive = field()


def to_dict(options: Options) -> dict[str, Any]:
    """Return options or a configuration as JSON values."""
    values = dataclasses.asdict(options)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def from_dict(values: dict[str, Any]) -> Configuration:
    """Return the configuration that `to_dict` wrote in this version or an earlier one.

    Raises:
        ConfigurationError: if a key is unknown or missing, or a value has the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(Configuration)}
    unknown = sorted(values.keys() - fields.keys())
    if unknown:
        raise ConfigurationError(
            f"A configuration must have no keys other than {', '.join(sorted(fields))}. "
            f"Received: {', '.join(unknown)}. Use the version of dvae_tf that wrote it."
        )
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in (_BEFORE | values).items()
    }
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and arguments.get(name) is None
    ]
    if missing:
        raise ConfigurationError(
            "A run's configuration must be complete. "
            f"Received: no {', '.join(missing)}. Train again."
        )
    return Configuration(**arguments)
