"""Starting a run from the best weights of another one, with a schedule of its own."""

from typing import Any

import keras

from dvae_tf.model import DVAE
from dvae_tf.runs.configuration import Configuration, ConfigurationError
from dvae_tf.runs.directory import RunDirectory

# Options that make the network, which must be those of the other run.
_NETWORK = ("kind", "likelihood", "network", "hidden", "activation", "latent_dim")
# Options that belong to one run and its machine, and not to the next run.
_OWN = ("init_from", "preset", "resume", "run_dir", "strategy", "checkpoint_seconds")


def options_of(run_dir: str) -> dict[str, Any]:
    """Return the options of a run that another one takes over, for `Options`.

    Raises:
        ConfigurationError: if `run_dir` is not a run directory.
    """
    saved, _ = RunDirectory(run_dir).read_config()
    return {name: value for name, value in vars(saved).items() if name not in _OWN}


def start(model: DVAE, config: Configuration) -> None:
    """Set the weights of encoder, decoder and prior to those of the run `config.init_from`.

    Raises:
        ConfigurationError: if that run has no model, or another network or shape of examples.
    """
    directory = RunDirectory(str(config.init_from))
    saved, _ = directory.read_config()
    for name in _NETWORK:
        ours, theirs = (getattr(some, name) for some in (config, saved))
        if ours != theirs:
            raise ConfigurationError(
                f"`{name}` must be {theirs}, as in {directory}, to start from its weights. "
                f"Received: {ours}. Leave it out, or leave out `init_from`."
            )
    source = directory.load_model()
    if model.encoder.input_shape != source.encoder.input_shape:
        raise ConfigurationError(
            f"`dataset` must hold examples of the shape {source.encoder.input_shape[1:]}, as "
            f"{directory} was trained on, to start from its weights. Received: "
            f"{model.encoder.input_shape[1:]}. Choose other data, or leave out `init_from`."
        )
    variables, values = _weights(model), _weights(source)
    if [v.shape for v in variables] != [v.shape for v in values]:
        raise ConfigurationError(
            f"{directory.model_path} must hold the weights of the network in its config.json. "
            "Received: other ones. Name a run that train.py made."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(keras.ops.convert_to_numpy(value))


def _weights(model: DVAE) -> list[keras.Variable]:
    return [*model.encoder.weights, *model.decoder.weights, *model.prior.weights]
