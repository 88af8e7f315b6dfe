"""A hierarchy of spatial latents for images of any size."""

from collections.abc import Sequence

from dvae_tf import counts, layers
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks.hierarchy.core import LadderCore
from dvae_tf.networks.hierarchy.models import LadderDecoder, LadderEncoder
from dvae_tf.networks.network import Models, activation_function, check, network
from dvae_tf.observations import Observation


@network(
    sizes="filters",
    hidden=(32, 32, 32),
    activation="swish",
    takes=("conditional", "observation"),
    warms_up=True,
    latent_dim=6,
    epochs=80,
    batch_size=16,
    optimizer="adamax",
    learning_rate=2e-3,
)
def ladder(
    example_shape: tuple[int, ...],
    latent_dim: int,
    likelihood: str = "gaussian",
    *,
    filters: Sequence[int] = (32, 32, 32),
    activation: str = "swish",
    num_blocks: int = 1,
    conditional: bool = False,
    observation: Observation | None = None,
) -> Models:
    """A ladder VAE of convolutions; it takes images of any height and width.

    Level 1 has half the image's height and width, and each further level half of those before. See
    `hierarchy.core` for the equations, and Prakash et al. (2022), arXiv:2104.01374, for the use of
    such a hierarchy in denoising.

    Args:
        example_shape: (height, width, channels) of training images, or of their patches. Latents of
            the prior are drawn for this size unless another one is asked for.
        latent_dim: channels of each latent map.
        likelihood: as for `mlp`.
        filters: channels of hidden maps, one number for each level, from the finest.
        activation: name of a Keras activation.
        num_blocks: residual blocks of each level, on each of the two ways.
        conditional: whether the model is p(x|x~), with a prior p(z|x~) that reads the noisy image.
        observation: p(y|s), for training on noisy images alone. The decoder then returns the
            distribution p(y|z) = p(y|s(z)) of what is seen, and `likelihood` is not used.

    Raises:
        ValueError: if an argument makes no network; the message says why.
    """
    check(example_shape, latent_dim, likelihood, filters, "filters", rank=3)
    counts.check("num_blocks", num_blocks)
    *size, channels = example_shape
    if observation is not None and conditional:
        raise ValueError(
            "`observation` must be None for a conditional ladder, which needs clean images. "
            f"Received: observation={observation!r}, conditional=True."
        )
    free = (None, None, channels)
    family = LIKELIHOODS[likelihood].layer
    if observation is None:
        num_parameters, last = family.params_size(free) // channels, family(free, name="likelihood")
    else:
        num_parameters, last = 1, layers.ObservedSignal(observation, name="likelihood")
    core = LadderCore(
        channels,
        num_parameters,
        filters,
        latent_dim,
        num_blocks,
        activation_function(activation),
        conditional,
        name="ladder",
    )
    decoder = LadderDecoder(core, last, size, name="decoder")
    return LadderEncoder(core, name="encoder"), decoder
