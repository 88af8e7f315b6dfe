"""Names of the tensors in signatures.

The names of a nest of tensors follow from its structure:

=======================  ==================  ========================
nest                     latents             examples
=======================  ==================  ========================
a tensor                 latent              example
a tuple of two tensors   latent_1, latent_2  example_1, example_2
{"age": , "sex": }       latent_age,         age, sex
                         latent_sex
=======================  ==================  ========================

A kind of data has its own word for "example" (`Kind.field`).
"""

import keyword
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

# Names that signatures use for other tensors.
_RESERVED = (
    *("seed", "latent", "valid", "denoised", "mean", "stddev"),
    *("elbo", "reconstruction", "kl"),
)


def of_nest(nest, name: str):
    """Return a nest of the same structure with the name of each tensor."""
    if isinstance(nest, Mapping):
        return {
            key: of_nest(part, f"{name}_{key}" if name else str(key)) for key, part in nest.items()
        }
    if isinstance(nest, (tuple, list)) and not isinstance(nest, tf.TensorShape):
        return tuple(of_nest(part, f"{name}_{i}") for i, part in enumerate(nest, start=1))
    return name


def of_examples(spec, field: str):
    """Return the names of examples: keys name the parts of a dict; `of_nest` names all others.

    Args:
        spec: a nest of `tf.TensorSpec`.
        field: name of an example that is one tensor.

    Raises:
        ValueError: if a name is reserved, used twice, or not an identifier.
    """
    names = of_nest(spec, "" if isinstance(spec, Mapping) else field)
    flat = tf.nest.flatten(names)
    for name in flat:
        is_name = name.isidentifier() and name.isascii() and not keyword.iskeyword(name)
        if not is_name or name in _RESERVED or flat.count(name) > 1:
            raise ValueError(
                "The parts of an example must have different names, of letters, digits and _, and "
                f"not {', '.join(_RESERVED)}. Received: {name!r}. Rename the encoder's inputs."
            )
    return names


def named(names, nest) -> dict[str, Any]:
    """Return the tensors of a nest as a dict by name.

    Args:
        names: a nest of names.
        nest: a nest of tensors in the same order; tuples may be lists here.
    """
    return dict(zip(tf.nest.flatten(names), tf.nest.flatten(nest), strict=True))


def nest_of(names, tensors: Mapping[str, Any]):
    """Return the nest in which each name is replaced by its tensor."""
    return tf.nest.map_structure(lambda name: tensors[name], names)
