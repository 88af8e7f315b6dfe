"""Kinds of data: what an example is, and all that depends on it.

`KINDS` holds them by name; each is one module or package of this folder. Nothing heavy is imported
before it is used.
"""

from dvae_tf.kinds.kind import KINDS, Kind, Source, kind_of, kind_of_shape

__all__ = ["KINDS", "Kind", "Source", "kind_of", "kind_of_shape"]
