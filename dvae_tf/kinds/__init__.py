"""Kinds of data: each defines what an example is, and everything that depends on that.

`KINDS` holds the kinds by name. Each is one module or package of this folder, and imports heavy
libraries only when it needs them.
"""

from dvae_tf.kinds.kind import KINDS, Kind, Source, kind_of, kind_of_shape

__all__ = ["KINDS", "Kind", "Source", "kind_of", "kind_of_shape"]
