"""Bounds on log p(x), as pure functions of log densities, in nats per example.

Each x has M corruptions x~_m with posteriors q_m = q(z|x~_m), and K latent samples z_km ~ q_m.
Tensors of log densities are [K, M, B]. Bounds are [B], and larger is better.

::

    reduction of log w     conditional denominator   mixture denominator
    mean                   VAE, DVAE                 marginal DVAE, towards L_cvae
    log_mean_exp           IWAE, DIWAE               multiple-importance DIWAE

Sources: Im et al. (2017), arXiv:1511.06406, equations 6 to 9 (L_dvae, L_cvae); Burda et al. (2016),
arXiv:1509.00519, equation 8 (IWAE); Yin and Zhou (2018), arXiv:1805.11183 (the mixture column);
Tucker et al. (2019), arXiv:1810.04152, equation 8 (doubly reparameterised gradient).
"""

from collections.abc import Callable

import tensorflow as tf

from dvae_tf import counts

OBJECTIVES = ("elbo", "iwae")
POSTERIORS = ("conditional", "mixture")
GRADIENTS = ("reparameterized", "doubly_reparameterized")


def log_mean_exp(log_values: tf.Tensor, axis: int | tuple[int, ...]) -> tf.Tensor:
    """Return log((1/n) sum exp(log_values)) over `axis`, without overflow."""
    axes = (axis,) if isinstance(axis, int) else axis
    count = tf.reduce_prod([tf.shape(log_values)[a] for a in axes])
    return tf.reduce_logsumexp(log_values, axis=axis) - tf.math.log(
        tf.cast(count, log_values.dtype)
    )


def mixture_log_density(cross_log_posterior: tf.Tensor) -> tf.Tensor:
    """Return log (1/M) sum_j q_j(z_km), the density of the mixture of M corrupted posteriors.

    Args:
        cross_log_posterior: [M, K, M, B]; entry [j, k, m] is log q_j(z_km).

    Returns:
        [K, M, B]
    """
    return log_mean_exp(cross_log_posterior, axis=0)


def log_weights(
    log_reconstruction: tf.Tensor,
    log_prior: tf.Tensor,
    log_posterior: tf.Tensor,
    *,
    kl_weight: float | tf.Tensor = 1.0,
) -> tf.Tensor:
    """Return log w = log p(x|z) + kl_weight (log p(z) - log q(z)).

    Args:
        log_reconstruction: log p(x|z_km), of the clean x.
        log_prior: log p(z_km).
        log_posterior: log q_m(z_km) for the conditional column of the table; the result of
            `mixture_log_density` for the mixture column.
        kl_weight: 1 for a bound on log p(x); less during warm-up of the KL term.
    """
    return log_reconstruction + kl_weight * (log_prior - log_posterior)


def mean(log_w: tf.Tensor) -> tf.Tensor:
    """Return the first row of the table: mean_km log w_km. [K, M, B] -> [B]."""
    return tf.reduce_mean(log_w, axis=(0, 1))


def log_mean(log_w: tf.Tensor) -> tf.Tensor:
    """Return the second row of the table: log mean_km w_km. [K, M, B] -> [B]."""
    return log_mean_exp(log_w, axis=(0, 1))


def analytic_elbo(
    log_reconstruction: tf.Tensor, kl: tf.Tensor, *, kl_weight: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Return mean_km log p(x|z_km) - kl_weight mean_m KL(q_m || p(z)).

    This is the conditional cell of the `mean` row, with the KL term in closed form.

    Args:
        log_reconstruction: log p(x|z_km), [K, M, B].
        kl: KL(q_m || p(z)), [M, B].
        kl_weight: as in `log_weights`.
    """
    return tf.reduce_mean(log_reconstruction, axis=(0, 1)) - kl_weight * tf.reduce_mean(kl, axis=0)


def path_log_density(log_density: Callable[[tf.Tensor], tf.Tensor], z: tf.Tensor) -> tf.Tensor:
    """Return log q(z) whose gradient flows through z alone, not through q's own parameters."""
    explicit = log_density(tf.nest.map_structure(tf.stop_gradient, z))
    return log_density(z) - explicit + tf.stop_gradient(explicit)


class DoublyReparameterized:
    """The doubly reparameterised gradient of `log_mean`, for the conditional column.

    Let w^ = w / sum w, phi the encoder's weights and theta the decoder's. The gradients of
    log mean w are estimated by

        encoder: sum_km w^_km^2 (d log w_km / dz_km) (dz_km / dphi)
        decoder: sum_km w^_km d log w_km / dtheta

    The first is unbiased, and lacks the score term d log q / dphi, whose noise drowns the signal
    as K grows. The second is the ordinary gradient. Call the methods in this order:

        estimator = DoublyReparameterized()
        z = estimator.path(z)                                   # the same values
        log_posterior = path_log_density(log_q, z)
        bound = estimator.log_mean(log_weights(log_reconstruction, log_prior, log_posterior))

    In the backward pass `log_mean` contributes one factor w^, and `path` the other.
    """

    def __init__(self) -> None:
        self._normalized_weights: tf.Tensor | None = None

    def path(self, z):
        """Return z, [K, M, B, ...], unchanged; the backward pass multiplies its gradient by w^."""

        @tf.custom_gradient
        def identity(value):
            def gradient(upstream):
                if self._normalized_weights is None:
                    raise ValueError("Call `log_mean` before taking gradients.")
                weights = self._normalized_weights
                for _ in range(len(value.shape) - len(weights.shape)):
                    weights = weights[..., tf.newaxis]
                return upstream * weights

            return tf.identity(value), gradient

        return tf.nest.map_structure(identity, z)

    def log_mean(self, log_w: tf.Tensor) -> tf.Tensor:
        """Return `log_mean(log_w)`, [B], and remember w^ for the backward pass."""
        total = tf.reduce_logsumexp(log_w, axis=(0, 1), keepdims=True)
        self._normalized_weights = tf.stop_gradient(tf.exp(log_w - total))  # [K, M, B]
        return log_mean(log_w)


def check_cell(
    *, objective: str, posterior: str, num_corruptions: int, num_samples: int, gradient: str
) -> None:
    """Refuse arguments that do not name a cell of the table of bounds.

    Raises:
        ValueError: if a choice is unknown, a count is below 1, or the doubly reparameterised gradient
            is asked for outside the IWAE cell of the conditional column.
    """
    for name, value, choices in (
        ("objective", objective, OBJECTIVES),
        ("posterior", posterior, POSTERIORS),
        ("gradient", gradient, GRADIENTS),
    ):
        if value not in choices:
            raise ValueError(
                f"`{name}` must be one of {', '.join(choices)}. Received: {name}={value!r}."
            )
    for name, count in (("num_corruptions", num_corruptions), ("num_samples", num_samples)):
        counts.check(name, count)
    if gradient == "doubly_reparameterized" and (objective, posterior) != ("iwae", "conditional"):
        raise ValueError(
            "gradient='doubly_reparameterized' must go with objective='iwae' and "
            f"posterior='conditional'. Received: objective={objective!r}, posterior={posterior!r}. "
            "Use gradient='reparameterized' for this bound."
        )
