"""Named settings of a training run. Options that a user gives take precedence over them."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Im et al. (2017), section 5: networks of 200-200 softplus units and 50 latents.
    "mnist-im2017": {
        "dataset": "mnist",
        "noise": "authors_salt_pepper",
        "noise_level": 0.05,
        "num_corruptions": 5,
        "binarize": "static",
        "hidden": (200, 200),
        "activation": "softplus",
        "latent_dim": 50,
    },
    "frey-im2017": {
        "dataset": "frey",
        "noise": "gaussian",
        "noise_level": 0.05,
        "num_corruptions": 5,
        "split": "random",
        "hidden": (200, 200),
        "activation": "softplus",
        "latent_dim": 50,
    },
    # The baseline of every comparison: no corruption, one sample.
    "mnist-vae": {"dataset": "mnist", "noise": "none"},
    "mnist-diwae": {
        "dataset": "mnist",
        "noise": "salt_pepper",
        "noise_level": 0.05,
        "objective": "iwae",
        "num_samples": 5,
        "gradient": "doubly_reparameterized",
    },
}
