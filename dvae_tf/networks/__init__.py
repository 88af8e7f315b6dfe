"""Encoders and decoders, by name in `NETWORKS`. Each ends in a layer of `layers`.

Each function returns `(encoder, decoder)`, two Functional models::

    encoder: example [B, ...] -> q(z|x~), a distribution over latents [B, L]
    decoder: latent [B, L]    -> p(x|z), a distribution over examples [B, ...]

A ladder has a tuple of latent maps instead of one vector.

Hidden layers follow Keras' dtype policy. The layer that computes the parameters uses float32 under
every policy: rounding a location to bfloat16 would shift it by up to half an 8-bit level.
"""

from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks.conv import conv
from dvae_tf.networks.ladder import ladder
from dvae_tf.networks.mlp import mlp
from dvae_tf.networks.network import NETWORKS, Network, dtype_policy, network, start_at_mean, swish
from dvae_tf.networks.resnet import resnet

__all__ = [
    "LIKELIHOODS",
    "NETWORKS",
    "Network",
    "conv",
    "dtype_policy",
    "ladder",
    "mlp",
    "network",
    "resnet",
    "start_at_mean",
    "swish",
]
