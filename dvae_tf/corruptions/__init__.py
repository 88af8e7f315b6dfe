"""Corruption processes p(x~|x): a clean batch and a seed in, a corrupted batch out.

A corruption is a stateless, serialisable callable,

    noisy = Gaussian(0.1)(x, seed=seed)       # x: [batch, ...], pixels in [0, 1]

All levels live on the [0, 1] scale, and level 0 is the identity for every kind. A level may be a
number or a pair (low, high), from which each example draws its own level uniformly: blind
denoising. Every channel value is corrupted on its own, as `skimage.util.random_noise` does, but by
`BlockOcclusion`, which hides all channels of a pixel.

Each corruption is one module of this folder, found by itself; `CORRUPTIONS` holds them by the names
of the command line.
"""

from dvae_tf.corruptions.block_occlusion import BlockOcclusion
from dvae_tf.corruptions.chain import Chain
from dvae_tf.corruptions.corruption import CORRUPTIONS, Corruption, Level, from_name, highest
from dvae_tf.corruptions.gaussian import Gaussian
from dvae_tf.corruptions.identity import Identity
from dvae_tf.corruptions.masking import Masking
from dvae_tf.corruptions.poisson import Poisson
from dvae_tf.corruptions.salt_pepper import AuthorsSaltPepper, SaltPepper
from dvae_tf.corruptions.speckle import Speckle

__all__ = [
    "CORRUPTIONS",
    "AuthorsSaltPepper",
    "BlockOcclusion",
    "Chain",
    "Corruption",
    "Gaussian",
    "Identity",
    "Level",
    "Masking",
    "Poisson",
    "SaltPepper",
    "Speckle",
    "from_name",
    "highest",
]
