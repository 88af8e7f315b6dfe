"""Log densities of encoded, drawn and decoded examples, computed in this one place.

::

    x~ -> encoder -> q(z|x~) -> draw -> z -> decoder -> p(x|z)

    log p(x|z)    `log_reconstruction`     of the clean x
    log p(z)      `Prior.log_prob`
    log q(z)      `q.log_prob`, `cross_log_posterior` and `mixture_log_posterior`
    KL(q || p)    `kl`                     in closed form, or from the draws

Bounds, scores, importance sampling and exported models all use these functions. The axes are K
latents for each of M corruptions of each of B examples. Sample axes come first.
"""

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import bounds, latents, nests
from dvae_tf.priors import Prior


def log_reconstruction(
    decoder, z, x, *, copies: tuple[int, ...] = (), training: bool = False
) -> tf.Tensor:
    """Return log p(x|z), in nats, for one or several latents of each example.

    Args:
        decoder: a model from latents [N, ...] to a distribution over examples [N, ...].
        z: latents, of a shape that depends on `copies`: [B, ...] for (), [K, B, ...] for (K,),
            [K, M B, ...] for (K, M).
        x: clean examples, [B, ...].
        copies: how many latents each example has.
        training: whether the decoder is in its training phase.

    Returns:
        ``[*copies, B]``
    """
    if not copies:
        return decoder(z, training=training).log_prob(x)
    total = 1
    for count in copies:
        total *= count
    p = decoder(nests.merge(z), training=training)
    return tf.reshape(p.log_prob(nests.repeat(x, total)), [*copies, -1])


def kl(q: tfd.Distribution, prior: Prior, z=None) -> tf.Tensor:
    """Return KL(q || p(z)), in nats: [N].

    Without a closed form the result is an estimate: the mean of log q(z) - log p(z) over draws.

    Args:
        q: posteriors of N inputs.
        prior: p(z).
        z: latents drawn from q, [K, N, ...]; needed only without a closed form, and of a hierarchy.
    """
    closed_form = prior.kl(q)
    if closed_form is not None:
        return closed_form
    if isinstance(z, latents.Drawn):
        along = prior.kl_along(z)
        if along is not None:
            return tf.reduce_mean(along, axis=0)
        z = latents.alone(z)
    return tf.reduce_mean(q.log_prob(z) - prior.log_prob(z), axis=0)


def cross_log_posterior(q: tfd.Distribution, z, num_corruptions: int) -> tf.Tensor:
    """Return log q_j(z_km) for every j: [M, K, M, B].

    Each z is repeated along the merged axis M B of the posteriors. This works for any distribution,
    whatever its parameters.

    Args:
        q: posteriors of M corruptions of B examples, batch shape [M B].
        z: [K, M B, ...], drawn from q.
        num_corruptions: M.
    """
    m, z = num_corruptions, latents.alone(z)

    def repeat(x):
        separate = nests.separate(x, m, axis=1)  # [K, M, B, ...]
        return tf.tile(separate, [1, 1, m] + [1] * (len(separate.shape) - 3))

    repeated = tf.nest.map_structure(repeat, z)  # [K, M, M B, ...], entry j B + b being z_kmb
    crossed = nests.separate(q.log_prob(repeated), m, axis=2)  # [K, M, M, B]
    return tf.transpose(crossed, [2, 0, 1, 3])


def mixture_log_posterior(q: tfd.Distribution, z, num_corruptions: int) -> tf.Tensor:
    """Return log (1/M) sum_m q_m(z): [S, B].

    Args:
        q: posteriors of M corruptions of B examples, batch shape [M B].
        z: [S, B, ...].
        num_corruptions: M.
    """
    m, z = num_corruptions, latents.alone(z)
    repeated = tf.nest.map_structure(lambda x: tf.tile(x, [1, m] + [1] * (len(x.shape) - 2)), z)
    each = nests.separate(q.log_prob(repeated), m, axis=1)  # [S, M, B]
    return bounds.log_mean_exp(each, axis=1)
