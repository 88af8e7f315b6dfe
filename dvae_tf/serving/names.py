"""Names of the tensors in a signature: those of examples, of latents, and of what is said of them.

A nest of tensors becomes a dict of named ones:

=======================  ==================  ==========================
nest                     named "latent"      examples, of field "image"
=======================  ==================  ==========================
a tensor                 latent              image
a tuple of two tensors   latent_1, latent_2  image_1, image_2
{"age": , "sex": }       latent_age,         age, sex
                         latent_sex
=======================  ==================  ==========================
"""

import keyword
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

# What signatures call other tensors.
_RESERVED = (
    *("seed", "latent", "valid", "denoised", "mean", "stddev"),
    *("elbo", "reconstruction", "kl"),
)


def of_nest(nest, name: str):
    """Return a nest of the same structure that holds the name of each tensor."""
    if isinstance(nest, Mapping):
        return {
            key: of_nest(part, f"{name}_{key}" if name else str(key)) for key, part in nest.items()
        }
    if isinstance(nest, (tuple, list)) and not isinstance(nest, tf.TensorShape):
        return tuple(of_nest(part, f"{name}_{i}") for i, part in enumerate(nest, start=1))
    return name


def of_examples(spec, field: str):
    """Return the names of examples: as `of_nest`, but the parts of a dict have their keys for names.

    Args:
        spec: a nest of `tf.TensorSpec`.
        field: what an example that is one tensor is called.

    Raises:
        ValueError: if a name cannot be that of an input.
    """
    names = of_nest(spec, "" if isinstance(spec, Mapping) else field)
    flat = tf.nest.flatten(names)
    for name in flat:
        is_name = name.isidentifier() and name.isascii() and not keyword.iskeyword(name)
        if not is_name or name in _RESERVED or flat.count(name) > 1:
            raise ValueError(
                "The parts of an example must have different names, of letters, digits and _, but "
                f"none of {', '.join(_RESERVED)}. Received: {name!r}. Rename the encoder's inputs."
            )
    return names


def named(names, nest) -> dict[str, Any]:
    """Return the tensors of a nest by their names.

    Args:
        names: a nest of names.
        nest: tensors in the same order; a list may stand for a tuple.
    """
    return dict(zip(tf.nest.flatten(names), tf.nest.flatten(nest), strict=True))


def nest_of(names, tensors: Mapping[str, Any]):
    """Return the nest of the tensors that have these names."""
    return tf.nest.map_structure(lambda name: tensors[name], names)
