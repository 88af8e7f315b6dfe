"""Defaults: options become a configuration, by what suits data set, noise, likelihood and network."""

from typing import Any

from dvae_tf import datasets
from dvae_tf.corruptions import CORRUPTIONS
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks import NETWORKS
from dvae_tf.runs.configuration import Configuration
from dvae_tf.runs.options import Options

# What no data set, noise or network has a say in.
_DEFAULTS: dict[str, Any] = {"learning_rate": 1e-3, "split": "random"}


def resolve(options: Options) -> Configuration:
    """Return the configuration that options ask for.

    An option that is given wins; then what suits the data set; then what suits the noise, the
    likelihood and the network. A configuration stays as it is.

    Raises:
        DatasetError: if no kind of data reads the data set, and the options do not name one.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    kind = datasets.choose_kind(options.dataset, options.kind)
    for_dataset = dict(kind.dataset_defaults(options.dataset))
    levels = for_dataset.pop("noise_levels", {})
    values = {"kind": kind.name} | _DEFAULTS | for_dataset | given
    noise = values["noise"]
    is_binary = LIKELIHOODS[values["likelihood"]].is_binary
    dependent = {
        "noise_level": levels.get(noise, CORRUPTIONS[noise].default_level),
        "binarize": "dynamic" if is_binary else "none",
        **NETWORKS[values["network"]].defaults,
    }
    return Configuration(**(dependent | values))
