"""Building the data set, the corruption, the model and the optimiser of a configuration."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import corruptions, datasets, networks, observations
from dvae_tf.kinds import KINDS
from dvae_tf.model import DVAE
from dvae_tf.observations import estimation
from dvae_tf.runs.configuration import Configuration, ConfigurationError

_AUTO = "auto"  # an observation that is to be estimated
_OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamax": keras.optimizers.Adamax}


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


def with_measured(config: Configuration, dataset: datasets.Dataset) -> Configuration:
    """Return the configuration with numbers for what was to be measured of the data.

    These are a range given in percentiles, and the observation "auto", estimated from the noisy
    training images.

    Raises:
        ConfigurationError: if the noise cannot be estimated.
    """
    observation = config.observation
    if observation == _AUTO:
        try:
            found = estimation.from_images(dataset.train.records_as_float())
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        observation = observations.to_text(found)
    return dataclasses.replace(config, range=dataset.range, observation=observation)


def start(model: DVAE, train: datasets.Split) -> None:
    """Start an untrained model at the moments of the training examples."""
    if hasattr(model.decoder, "start_at"):
        inputs = datasets.channel_moments(train.noisy_split()) if train.is_paired else None
        model.decoder.start_at(datasets.channel_moments(train), inputs)
    else:
        networks.start_at_mean(model.decoder, datasets.mean_example(train))


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
                **_network_options(config),
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
        _OPTIMIZERS[config.optimizer](rate, global_clipnorm=config.max_gradient_norm),
        steps_per_execution=datasets.steps_per_call(steps_per_epoch) if is_alone else 1,
    )


def _network_options(config: Configuration) -> dict[str, Any]:
    """Return the arguments that only some networks take.

    Raises:
        ConfigurationError: if one is given for a network that does not take it.
    """
    observation = config.observation and observations.from_text(config.observation)
    wanted = {"conditional": config.conditional, "observation": observation}
    takes = networks.NETWORKS[config.network].takes
    for name, value in wanted.items():
        if value and name not in takes:
            able = ", ".join(key for key, entry in networks.NETWORKS.items() if name in entry.takes)
            raise ConfigurationError(
                f"`{name}` must go with the network {able}. Received: network {config.network!r}. "
                f"Choose {able}, or leave out `{name}`."
            )
    return {name: value for name, value in wanted.items() if name in takes}


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
