"""Corruption processes p(x~|x): a clean batch and a seed in, a corrupted batch out.

A corruption is a stateless, serialisable callable::

    noisy = Gaussian(0.1)(x, seed=seed)       # x: [batch, ...], values in [0, 1]

All levels are in [0, 1], and level 0 corrupts nothing. For blind denoising, give a pair
(low, high): each example then draws its own level uniformly. Each value of an example is corrupted
independently of the others, as in `skimage.util.random_noise`. `BlockOcclusion` is the exception:
it hides a rectangle, with all of its channels.

Each corruption is one module of this folder. The registry `CORRUPTIONS` finds them, and maps the
names of the command line to the classes.
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
