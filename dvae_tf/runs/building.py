"""Building the data set, the corruption, the model and the optimiser of a configuration."""

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import corruptions, datasets, networks
from dvae_tf.kinds import KINDS
from dvae_tf.model import DVAE
from dvae_tf.runs.configuration import Configuration, ConfigurationError


def build_corruption(config: Configuration) -> corruptions.Corruption:
    """Return the corruption p(x~|x)."""
    return corruptions.from_name(config.noise, config.noise_level, clip=config.clip)


def load_dataset(config: Configuration) -> datasets.Dataset:
    """Load the data set; limit and binarise it as configured.

    Raises:
        DatasetError, ConfigurationError: if the data cannot be used, or not with this configuration.
    """
    dataset = datasets.load(
        config.dataset,
        data_dir=config.data_dir,
        split=config.split,
        cache=config.cache,
        limit=config.limit,
        kind=config.kind,
        clean=config.clean,
        patch=config.patch,
        range=config.range,
        is_noisy=config.observation is not None,
    )
    if dataset.is_paired and config.noise != "none":
        raise ConfigurationError(
            "`noise` must be none for pairs, which bring their own. "
            f"Received: noise={config.noise!r} and pairs in {config.dataset}. Leave it out."
        )
    return dataset.binarized(config.binarize, seed=config.seed)


def build_model(config: Configuration, example_shape, *, is_paired: bool = False) -> DVAE:
    """Return an uncompiled model; its initial weights are a function of the seed.

    Args:
        config: configuration of the run.
        example_shape: shape of an example, without the batch.
        is_paired: whether the data set holds pairs (see `Dataset.is_paired`).

    Raises:
        ConfigurationError: if the network does not fit into memory.
    """
    keras.utils.set_random_seed(config.seed % 2**32)
    network = networks.NETWORKS[config.network]
    try:
        with networks.dtype_policy(config.precision):
            encoder, decoder = network(
                example_shape,
                config.latent_dim,
                config.likelihood,
                activation=config.activation,
                **{network.sizes: config.hidden},
            )
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise ConfigurationError(
            "`hidden` and `latent_dim` must give a network that fits into memory. "
            f"Received: {config.hidden}, {config.latent_dim}. Make it smaller."
        ) from error
    clean = config.validation_input == "clean"
    return DVAE(
        encoder,
        decoder,
        corruption=build_corruption(config),
        test_corruption=corruptions.Identity() if clean else None,
        objective=config.objective,
        posterior=config.posterior,
        num_corruptions=config.num_corruptions,
        num_samples=config.num_samples,
        gradient=config.gradient,
        paired=is_paired,
        binarize=config.binarize == "dynamic",
        kind=KINDS[config.kind](),
        seed=config.seed,
    )


def compile_model(model: DVAE, config: Configuration, steps_per_epoch: int) -> None:
    """Compile the model with Adam, schedule and clipping as configured, and several steps a call."""
    rate = _learning_rate(config, steps_per_epoch * config.epochs)
    # Keras cannot run several steps in one call if replicas exchange gradients.
    is_alone = model.distribute_strategy.num_replicas_in_sync == 1
    model.compile(
        keras.optimizers.Adam(rate, global_clipnorm=config.max_gradient_norm),
        steps_per_execution=datasets.steps_per_call(steps_per_epoch) if is_alone else 1,
    )


def _learning_rate(config: Configuration, num_steps: int):
    """Return the learning rate, or its schedule over all steps."""
    schedules = keras.optimizers.schedules
    if config.schedule == "cosine":
        return schedules.CosineDecay(config.learning_rate, num_steps)
    if config.schedule == "staged":
        # Stage i lasts 3^i of 3280 epochs, at 10^(-i/7) times the rate: arXiv:1509.00519, section 5.
        ends = (3 ** np.arange(1, 9) - 1) / (3**8 - 1)
        return schedules.PiecewiseConstantDecay(
            [round(num_steps * end) - 1 for end in ends[:-1]],  # the last step of each stage
            [config.learning_rate * 10 ** (-stage / 7) for stage in range(8)],
        )
    return config.learning_rate
