"""What a training run is: a frozen, typed configuration, its defaults and its presets, as data."""

import dataclasses
import itertools
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

import cyclopts
from cyclopts import Group, Parameter

from dvae_tf import commands

Noise = Literal[
    "none",
    "gaussian",
    "salt_pepper",
    "masking",
    "speckle",
    "poisson",
    "block",
    "authors_salt_pepper",
]
Likelihood = Literal["bernoulli", "gaussian", "discretized_logistic", "continuous_bernoulli"]
Network = Literal["mlp", "conv", "resnet"]
Objective = Literal["elbo", "iwae"]
Posterior = Literal["conditional", "mixture"]
Gradient = Literal["reparameterized", "doubly_reparameterized"]
Binarize = Literal["dynamic", "static", "threshold", "none"]
SplitKind = Literal["contiguous", "random"]
Cache = Literal["auto", "memory", "none"]
Schedule = Literal["constant", "cosine", "staged"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
ValidationInput = Literal["corrupted", "clean"]
Strategy = Literal["auto", "none", "mirrored", "multiworker"]
Preset = Literal["mnist-im2017", "frey-im2017", "mnist-vae", "mnist-diwae"]

_DATA = Group("Data", sort_key=1)
_NOISE = Group("Noise", sort_key=2)
_BOUND = Group("Bound", sort_key=3)
_NETWORK = Group("Network", sort_key=4)
_TRAINING = Group("Training", sort_key=5)
_RUN = Group("Run", sort_key=6)


class ConfigurationError(ValueError):
    """A configuration that cannot be run; the message is one line that says what to do."""


def _parse_level(type_: Any, tokens) -> float | tuple[float, float]:
    """Parse "L" or "LO:HI"."""
    parts = tokens[0].value.split(":")
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    raise ValueError(f"it must be a number L, or a range LO:HI, and not {tokens[0].value!r}")


def _parse_ints(type_: Any, tokens) -> tuple[int, ...]:
    return tuple(commands.parse_int(int, [token]) for token in tokens)


def _field(group: Group, help: str, **kwargs) -> Parameter:
    return Parameter(group=group, help=help, **kwargs)


def _count(group: Group, help: str) -> Parameter:
    return commands.whole_number(help, group=group)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A training run. None means: as the preset says, else the data set's default.

    Raises:
        ConfigurationError: if a value is out of range.
    """

    dataset: Annotated[
        str,
        _field(_DATA, "digits, mnist, frey, tfds:NAME, or a path: .npz, .npy, folder of images."),
    ] = "digits"
    data_dir: Annotated[
        str | None,
        _field(_DATA, "Directory of TensorFlow Datasets. [default: TFDS_DATA_DIR, or TFDS's own]"),
    ] = None
    split: Annotated[
        SplitKind | None,
        _field(
            _DATA, "How held-out images are chosen. [default: contiguous for frey, else random]"
        ),
    ] = None
    binarize: Annotated[
        Binarize | None,
        _field(
            _DATA,
            "dynamic draws binary pixels anew for every step. [default: dynamic for a Bernoulli "
            "likelihood, else none]",
        ),
    ] = None
    limit: Annotated[int | None, _count(_DATA, "Train on the first N training images.")] = None
    cache: Annotated[
        Cache,
        _field(
            _DATA,
            "Where the images of a folder or of tfds:NAME are while training: memory, or none for "
            "reading them from disk as they are needed. auto is none beyond 1 GiB, decoded.",
        ),
    ] = "auto"

    noise: Annotated[Noise | None, _field(_NOISE, "Corruption p(x~|x).")] = None
    # A float or a pair; not declared so, for some parsers cannot hold a union of both.
    noise_level: Annotated[
        Any,
        _field(
            _NOISE,
            "A level L, or LO:HI for a level drawn per example. Gaussian levels are standard "
            "deviations on the [0, 1] pixel scale; salt_pepper, masking: fraction of pixels hit; "
            "block: fraction of the area.",
            converter=_parse_level,
            n_tokens=1,
        ),
    ] = None
    clip: Annotated[bool, _field(_NOISE, "Clip corrupted pixels to [0, 1].")] = False

    objective: Annotated[
        Objective, _field(_BOUND, "Mean (elbo) or log-mean-exp (iwae) of the log weights.")
    ] = "elbo"
    posterior: Annotated[
        Posterior, _field(_BOUND, "Posterior of each corruption, or the mixture of all M.")
    ] = "conditional"
    num_corruptions: Annotated[int, _count(_BOUND, "M, corruptions of each example.")] = 1
    num_samples: Annotated[int, _count(_BOUND, "K, latent samples for each corruption.")] = 1
    gradient: Annotated[
        Gradient, _field(_BOUND, "doubly_reparameterized needs iwae and conditional.")
    ] = "reparameterized"
    kl_warmup: Annotated[
        int, _count(_BOUND, "Epochs over which the weight of the KL term rises from 0 to 1.")
    ] = 0

    likelihood: Annotated[Likelihood | None, _field(_NETWORK, "p(x|z).")] = None
    network: Annotated[Network | None, _field(_NETWORK, "Kind of encoder and decoder.")] = None
    hidden: Annotated[
        tuple[int, ...] | None,
        _field(
            _NETWORK,
            "Hidden sizes of an mlp, channels per level of conv and resnet.",
            consume_multiple=True,
            negative_iterable=(),
            converter=_parse_ints,
        ),
    ] = None
    activation: Annotated[str | None, _field(_NETWORK, "A Keras activation.")] = None
    latent_dim: Annotated[int | None, _count(_NETWORK, "L, length of the latent vector.")] = None

    epochs: Annotated[int | None, _count(_TRAINING, "Passes through the training images.")] = None
    batch_size: Annotated[int | None, _count(_TRAINING, "Images in a batch.")] = None
    learning_rate: Annotated[
        float | None, _field(_TRAINING, "Adam's learning rate at the start.")
    ] = None
    schedule: Annotated[
        Schedule,
        _field(
            _TRAINING,
            "Learning rate: constant, cosine decay to zero, or staged as Burda et al. (2016) do: a "
            "tenth of it in the end, in eight stages, each thrice as long as the one before.",
        ),
    ] = "cosine"
    max_gradient_norm: Annotated[
        float | None,
        _field(
            _TRAINING,
            "Scale the gradient of a step down to this global norm where it is longer. [default: "
            "as long as it is]",
        ),
    ] = None
    precision: Annotated[
        Precision,
        _field(
            _TRAINING,
            "What hidden layers compute in; weights, densities and bounds are float32 always.",
        ),
    ] = "float32"
    patience: Annotated[
        int | None, _count(_TRAINING, "Stop after N validations without a better bound.")
    ] = None
    validate_every: Annotated[
        int, _count(_TRAINING, "Validate after every N epochs, and after the last.")
    ] = 1
    validation_input: Annotated[
        ValidationInput, _field(_TRAINING, "Whether validation corrupts its input.")
    ] = "corrupted"
    seed: Annotated[int, _count(_TRAINING, "The same seed gives the same run.")] = 0
    strategy: Annotated[
        Strategy,
        _field(
            _RUN,
            "What trains together: one device, all of this machine (mirrored), or the processes of "
            "TF_CONFIG (multiworker).",
        ),
    ] = "auto"
    checkpoint_seconds: Annotated[
        float, _field(_RUN, "Least time between two checkpoints; 0 writes as many as can be.")
    ] = 30.0

    preset: Annotated[Preset | None, _field(_RUN, "A named setting; other flags override it.")] = (
        None
    )
    run_dir: Annotated[
        str | None, _field(_RUN, "Directory to write. [default: runs/DATASET-NOISE-NUMBER]")
    ] = None
    resume: Annotated[
        str | None, _field(_RUN, "Continue the run in this directory, with its own configuration.")
    ] = None

    def __post_init__(self):
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), hints[field.name])
        for name in (
            "limit",
            "num_corruptions",
            "num_samples",
            "latent_dim",
            "epochs",
            "batch_size",
            "patience",
            "validate_every",
        ):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise ConfigurationError(
                    f"{_flag(name)} must be at least 1 and less than 2**31. Received: {value}. "
                    "Give a positive integer."
                )
        if self.kl_warmup < 0:
            raise ConfigurationError(
                f"--kl-warmup must not be negative. Received: {self.kl_warmup}. Give 0 for none."
            )
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise ConfigurationError(
                f"--learning-rate must be positive. Received: {self.learning_rate}. Try 0.001."
            )
        if not 0 <= self.checkpoint_seconds < float("inf"):
            raise ConfigurationError(
                "--checkpoint-seconds must be finite and not negative. "
                f"Received: {self.checkpoint_seconds}. Try 30."
            )
        if self.max_gradient_norm is not None and not 0 < self.max_gradient_norm < float("inf"):
            raise ConfigurationError(
                "--max-gradient-norm must be positive and finite. "
                f"Received: {self.max_gradient_norm}. Try 100, or leave it out for no limit."
            )
        if not 0 <= self.seed < 2**62:
            raise ConfigurationError(
                f"--seed must be from 0 to 2**62 - 1. Received: {self.seed}. Try 0."
            )
        if self.hidden is not None and (not self.hidden or min(self.hidden) < 1):
            raise ConfigurationError(
                f"--hidden must hold positive sizes. Received: {self.hidden}. Try --hidden 200 200."
            )
        if self.gradient == "doubly_reparameterized":
            if (self.objective, self.posterior) != ("iwae", "conditional"):
                raise ConfigurationError(
                    "--gradient doubly_reparameterized must go with --objective iwae and "
                    "--posterior conditional. "
                    f"Received: {self.objective}, {self.posterior}. Give --gradient reparameterized."
                )
            if self.kl_warmup:
                raise ConfigurationError(
                    "--gradient doubly_reparameterized must go without --kl-warmup, under which it "
                    f"is biased. Received: --kl-warmup {self.kl_warmup}. Give --gradient "
                    "reparameterized."
                )


# What a flag is when neither the command line nor a preset says: first by data set, then by noise.
_DATASET_DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {
        "noise": "salt_pepper",
        "likelihood": "discretized_logistic",
        "latent_dim": 16,
        "learning_rate": 3e-3,
        "epochs": 300,
        "batch_size": 64,
    },
    "mnist": {
        "noise": "salt_pepper",
        "likelihood": "bernoulli",
        "latent_dim": 50,
        "epochs": 100,
        "batch_size": 100,
    },
    "frey": {
        "noise": "gaussian",
        "likelihood": "gaussian",
        "latent_dim": 20,
        "epochs": 400,
        "batch_size": 100,
    },
}
_OTHER_DATASET = {
    "noise": "gaussian",
    "likelihood": "gaussian",
    "network": "conv",
    "latent_dim": 64,
    "epochs": 100,
    "batch_size": 100,
}
_NOISE_LEVELS = {"none": 0.0, "masking": 0.25, "block": 0.1}
_NOISE_LEVELS_BY_DATASET = {("digits", "salt_pepper"): 0.2}
_NETWORK_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (200, 200), "activation": "swish"},
    "conv": {"hidden": (32, 64), "activation": "relu"},
    "resnet": {"hidden": (32, 64), "activation": "swish"},
}

PRESETS: dict[str, dict[str, Any]] = {
    # Im et al. (2017), section 5: networks of 200-200 softplus units and 50 latents.
    "mnist-im2017": {
        "dataset": "mnist",
        "noise": "authors_salt_pepper",
        "noise_level": 0.05,
        "num_corruptions": 5,
        "binarize": "static",
        "hidden": (200, 200),
        "activation": "softplus",
        "latent_dim": 50,
    },
    "frey-im2017": {
        "dataset": "frey",
        "noise": "gaussian",
        "noise_level": 0.05,
        "num_corruptions": 5,
        "split": "random",
        "hidden": (200, 200),
        "activation": "softplus",
        "latent_dim": 50,
    },
    # The reference point of every comparison: no corruption, one sample.
    "mnist-vae": {"dataset": "mnist", "noise": "none"},
    "mnist-diwae": {
        "dataset": "mnist",
        "noise": "salt_pepper",
        "noise_level": 0.05,
        "objective": "iwae",
        "num_samples": 5,
        "gradient": "doubly_reparameterized",
    },
}


def parse(arguments: list[str] | None = None) -> Configuration | None:
    """Return the configuration that command-line arguments ask for; None after --help.

    Flags that are given win over the preset, the preset over the defaults.

    Raises:
        ConfigurationError: on anything a user can get wrong, with one line that says what.
    """
    app = commands.app(
        "train.py",
        "Train a denoising variational auto-encoder, and leave model, figures and history in "
        "a run directory. A flag without a default below has one that depends on data set and "
        "network: config.json says which.",
        default_parameter=Parameter(show_env_var=False),
    )

    @app.default
    def receive(configuration: Configuration | None = None) -> Configuration:
        return configuration or Configuration()

    try:
        arguments = _with_preset(sys.argv[1:] if arguments is None else arguments)
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        if command is not receive:  # --help
            command(*bound.args, **bound.kwargs)
            return None
        given = receive(*bound.args, **bound.kwargs)
    except cyclopts.CycloptsError as error:
        raise ConfigurationError(commands.one_line(error)) from error
    given = dataclasses.replace(
        given, run_dir=_at_home(given.run_dir), resume=_at_home(given.resume)
    )
    if given.resume is not None:
        own = Configuration(resume=given.resume, data_dir=given.data_dir)
        if given != own:
            raise ConfigurationError(
                "--resume must stand alone, but for --data-dir: a run goes on with its own "
                "configuration. Received: other flags beside it. Drop them, or start a new run."
            )
    return given


def _at_home(path: str | None) -> str | None:
    """Expand ~, which shells leave in --run-dir=~/run; an unknown ~user stays."""
    return None if path is None else os.path.expanduser(path)


def _with_preset(arguments: list[str]) -> list[str]:
    """Return the arguments preceded by those flags of their preset that they do not give."""
    words = [word.split("=", 1) for word in arguments]
    chosen = [
        word[1] if len(word) == 2 else following[0]
        for word, following in itertools.pairwise([*words, [""]])
        if word[0] == "--preset"
    ]
    given = {word[0].replace("_", "-") for word in words}
    flags: list[str] = []
    for name, value in PRESETS.get(chosen[0] if chosen else "", {}).items():
        if _flag(name) not in given:
            values = value if isinstance(value, tuple) else (value,)
            flags += [_flag(name), *map(str, values)]
    return [*flags, *arguments]


def resolve(configuration: Configuration) -> Configuration:
    """Return the configuration with every default of data set, noise and network filled in."""

    def fill(base: Configuration, defaults: dict[str, Any]) -> Configuration:
        missing = {k: v for k, v in defaults.items() if getattr(base, k) is None}
        return dataclasses.replace(base, **missing)

    defaults = _DATASET_DEFAULTS.get(configuration.dataset, _OTHER_DATASET)
    resolved = fill(configuration, {"network": "mlp"} | defaults)
    resolved = fill(
        resolved,
        _NETWORK_DEFAULTS[str(resolved.network)]
        | {
            "noise_level": _NOISE_LEVELS_BY_DATASET.get(
                (resolved.dataset, str(resolved.noise)),
                _NOISE_LEVELS.get(str(resolved.noise), 0.1),
            ),
            "learning_rate": 1e-3,
            "binarize": "dynamic" if resolved.likelihood == "bernoulli" else "none",
            "split": "contiguous" if resolved.dataset == "frey" else "random",
        },
    )
    return resolved


def check_resolved(configuration: Configuration) -> None:
    """Refuse a configuration that `resolve` would still change.

    Raises:
        ConfigurationError: if a value is missing.
    """
    missing = [
        key
        for key, value in vars(resolve(configuration)).items()
        if value != getattr(configuration, key)
    ]
    if missing:
        raise ConfigurationError(
            f"A run's configuration must be whole. Received: no {', '.join(missing)}. Train again."
        )


def to_dict(configuration: Configuration) -> dict[str, Any]:
    """Return the configuration as JSON values."""
    values = dataclasses.asdict(configuration)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def from_dict(values: dict[str, Any]) -> Configuration:
    """Return the configuration that `to_dict` wrote.

    Raises:
        ConfigurationError: if a key is unknown or a value is not of its kind.
    """
    known = {field.name for field in dataclasses.fields(Configuration)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigurationError(
            f"A configuration must have no other keys than {', '.join(sorted(known))}. "
            f"Received: {', '.join(unknown)}. Was it written by another version?"
        )
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return Configuration(**arguments)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_type(name: str, value, hint) -> None:
    """Check what the command line already guarantees, for those who come from Python or JSON."""
    if name == "noise_level":
        values = value if isinstance(value, tuple) else (value,)
        valid = value is None or (len(values) in (1, 2) and all(_is_number(v) for v in values))
    elif name == "hidden":
        valid = value is None or (isinstance(value, tuple) and all(type(v) is int for v in value))
    elif name in ("learning_rate", "max_gradient_norm", "checkpoint_seconds"):
        valid = value is None or _is_number(value)
    else:
        options = get_args(hint) or (hint,)
        literals = [c for option in (hint, *options) for c in get_args(option) if type(c) is str]
        kinds = tuple(option for option in options if isinstance(option, type))
        valid = value in literals if literals else type(value) in kinds
        if literals and not valid:
            valid = value is None and type(None) in options
            hint = "one of " + ", ".join(literals)
    if not valid:
        kind = hint.__name__ if isinstance(hint, type) else hint
        kind = "a number or a pair of numbers" if name == "noise_level" else kind
        raise ConfigurationError(f"{_flag(name)} must be {kind}. Received: {value!r}.")


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
