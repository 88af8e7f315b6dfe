"""Filling in defaults that suit the data set, the noise, the likelihood and the network."""

from typing import Any

from dvae_tf import datasets
from dvae_tf.corruptions import CORRUPTIONS
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks import NETWORKS
from dvae_tf.runs.configuration import Configuration
from dvae_tf.runs.options import Options

# Defaults that depend on nothing; a data set may override them.
_DEFAULTS: dict[str, Any] = {"learning_rate": 1e-3, "split": "random", "optimizer": "adam"}
# The network for images of any size, or noisy ones.
_FREE_NETWORK = "ladder"


def resolve(options: Options) -> Configuration:
    """Return the configuration for a user's options.

    Given options take precedence over the network's defaults, these over those of the data set, and
    these over the defaults of noise and likelihood. A configuration is returned unchanged.

    Raises:
        DatasetError: if no kind of data reads the data set, and the options do not name one.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    kind = datasets.choose_kind(options.dataset, options.kind)
    for_dataset = dict(kind.dataset_defaults(options.dataset))
    levels = for_dataset.pop("noise_levels", {})
    if options.clean is not None or options.observation is not None:
        for_dataset["noise"] = "none"  # the images bring their own
    if any(given.get(name) is not None for name in ("clean", "observation", "patch")):
        for_dataset["network"] = _FREE_NETWORK
    values = {"kind": kind.name} | _DEFAULTS | for_dataset | given
    network = NETWORKS[values["network"]]
    values = values | dict(network.defaults) | given
    noise = values["noise"]
    is_binary = LIKELIHOODS[values["likelihood"]].is_binary
    dependent = {
        "noise_level": levels.get(noise, CORRUPTIONS[noise].default_level),
        "binarize": "dynamic" if is_binary else "none",
        "conditional": "conditional" in network.takes and options.observation is None,
        "kl_warmup": values["epochs"] // 4 if network.warms_up else 0,
    }
    return Configuration(**(dependent | values))
