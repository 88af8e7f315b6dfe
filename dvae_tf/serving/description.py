"""signature.json: the meaning of a version's tensors, and tolerances between loaders."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dvae_tf import corruptions, observations
from dvae_tf.model import DVAE
from dvae_tf.priors import StandardNormal
from dvae_tf.serving.signatures import Signatures

# The number changes when the layout of signature.json changes.
FORMAT = 1
# How far a loader may differ from the golden outputs, because loaders sum in different orders:
# |difference| <= absolute + relative |golden|. The kind of data adds tolerances for files.
_TOLERANCE = {
    "default": {"relative": 1e-4, "absolute": 1e-5},
    "nats": {"relative": 1e-4, "absolute": 1e-3},
}
# If hidden layers round to 16 bits, two loaders may round an activation differently, by this much. The
# outputs of trained networks differ by up to two roundings; the tolerance is twice that.
_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}

# The meaning of a tensor, and [least value, greatest value] or None.
_Meaning = tuple[str, list[float | None]]


def describe(model: DVAE, signatures: Signatures, loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of signature.json.

    Args:
        model: the exported model.
        signatures: the model's signatures.
        loaded: the signatures in the file, by name.
    """
    meanings = _meanings(model, signatures)
    return {
        "format": FORMAT,
        "kind": model.kind.name,
        "corruption": _describe_corruption(model),
        "tolerance": _tolerance(model),
        "signatures": {
            name: {
                side: {key: _describe(specs[key], meanings[key]) for key in sorted(specs)}
                for side, specs in (
                    ("inputs", loaded[name].structured_input_signature[1]),
                    ("outputs", loaded[name].structured_outputs),
                )
            }
            for name in sorted(loaded)
        },
    }


def _describe(spec: tf.TensorSpec, meaning: _Meaning) -> dict[str, Any]:
    words, range_ = meaning
    return {
        "shape": spec.shape.as_list(),
        "dtype": spec.dtype.name,
        "range": range_,
        "meaning": words,
    }


def _meanings(model: DVAE, signatures: Signatures) -> dict[str, _Meaning]:
    """Return the meaning of every tensor, by name."""
    is_standard = isinstance(model.prior, StandardNormal)
    prior = ", standard normal under the prior" if is_standard else ""
    kl: _Meaning = ("KL(q(z|x) || p(z)), in nats", [0.0, None])
    if not signatures.has_closed_kl:
        kl = (
            "log q(z|x) - log p(z) at that z, in nats; its mean is the KL divergence",
            [None, None],
        )
    general: dict[str, _Meaning] = {
        model.kind.field: (f"values of one {model.kind.noun}", [None, None]),
        "latent": (f"latent variables{prior}", [None, None]),
        "seed": ("two integers for each row; equal seeds give equal draws", [-(2**31), 2**31 - 1]),
        "denoised": ("mean of p(x|z) at the posterior mean of z", [None, None]),
        "mean": ("posterior mean of z", [None, None]),
        "stddev": ("standard deviation", [0.0, None]),
        "valid": ("false where a value of the row is not finite; the row is then zeros", [0, 1]),
        "elbo": ("reconstruction - kl, in nats", [None, None]),
        "reconstruction": ("log p(x|z) at one z, in nats", [None, None]),
        "kl": kl,
    }
    known = general | model.kind.meanings() | signatures.meanings()
    for what, tensors in signatures.tensor_names().items():
        meaning = known[what]
        known |= {name: known.get(name, meaning) for name in tensors}
    return known


def _tolerance(model: DVAE) -> dict[str, dict[str, float]]:
    rounding = 4 * _ROUNDOFF.get(model.compute_dtype, 0.0)
    general = _TOLERANCE
    if rounding:
        general = {key: {"relative": rounding, "absolute": rounding} for key in _TOLERANCE}
    return general | model.kind.tolerances(rounding)


def _describe_corruption(model: DVAE) -> dict[str, Any] | None:
    """Return name and level of the noise to remove, or None where the registry has no such noise."""
    if isinstance(model.observation, observations.Gaussian):
        level = model.observation.sigma
        return {"name": corruptions.Gaussian.name, "level": level} if level <= 1 else None
    if model.observation is not None:
        return None
    if model.corruption.name not in corruptions.CORRUPTIONS:
        return None
    return {"name": model.corruption.name, "level": model.corruption.level}
