"""Encoders and decoders: bodies ending in a layer of `layers`, by name in `NETWORKS`.

Each function returns `(encoder, decoder)`, two Functional models::

    encoder: example [B, ...] -> q(z|x~), a distribution over latents [B, L]
    decoder: latent [B, L]    -> p(x|z), a distribution over examples [B, ...]

Hidden layers take Keras' dtype policy. The layer of parameters computes in float32 under every
policy: rounded to bfloat16, a location on the [0, 1] pixel scale would be off by half a grey level.
"""

from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks.conv import conv
from dvae_tf.networks.mlp import mlp
from dvae_tf.networks.network import NETWORKS, Network, dtype_policy, network, start_at_mean, swish
from dvae_tf.networks.resnet import resnet

__all__ = [
    "LIKELIHOODS",
    "NETWORKS",
    "Network",
    "conv",
    "dtype_policy",
    "mlp",
    "network",
    "resnet",
    "start_at_mean",
    "swish",
]
