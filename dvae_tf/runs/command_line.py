"""The command line of train.py: a flag for every option, with choices from the registries."""

import inspect
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

import cyclopts
from cyclopts import Group, Parameter

from dvae_tf import commands
from dvae_tf.corruptions import CORRUPTIONS
from dvae_tf.kinds import KINDS
from dvae_tf.observations import OBSERVATIONS
from dvae_tf.runs import warm_start
from dvae_tf.runs.options import ConfigurationError, OneOf, Options
from dvae_tf.runs.presets import PRESETS

DATA, NOISE, BOUND, NETWORK, TRAINING, RUN = (
    Group(name, sort_key=number)
    for number, name in enumerate(("Data", "Noise", "Bound", "Network", "Training", "Run"), start=1)
)

# Arguments of the library and their flags, both with underscores (see `commands.in_flags`).
FLAGS = {option.name: option.name for option in fields(Options)} | {
    "level": "noise_level",
    "filters": "hidden",
}


@dataclass(frozen=True)
class _Flag:
    """How a flag is shown and parsed.

    Attributes:
        group: heading in --help.
        help: meaning in --help.
        parsing: arguments of cyclopts' Parameter.
        hint: type for cyclopts, if it differs from the option's.
    """

    group: Group
    help: str
    parsing: dict[str, Any] = field(default_factory=dict)
    hint: Any = None


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


_LEVEL = {"converter": _parse_level, "n_tokens": 1}
_INTS = {"converter": _parse_ints, "consume_multiple": True, "negative_iterable": ()}
_INT = {"converter": commands.parse_int, "n_tokens": 1}


def _flags() -> dict[str, _Flag]:
    """Return the flag of every option."""
    sources = " or ".join(kind.sources for kind in KINDS.values() if kind.sources)
    return {
        "dataset": _Flag(DATA, f"{sources}."),
        "kind": _Flag(DATA, "Kind of data. [default: inferred from --dataset]"),
        "data_dir": _Flag(
            DATA, "Directory of TensorFlow Datasets. [default: TFDS_DATA_DIR, or TFDS's own]"
        ),
        "split": _Flag(
            DATA, "How to choose held-out examples. [default: contiguous for frey, else random]"
        ),
        "binarize": _Flag(
            DATA,
            "How to make values binary: draw them in every step (dynamic) or once (static), cut them "
            "at 1/2 (threshold), or not at all. [default: dynamic for a Bernoulli likelihood, else "
            "none]",
        ),
        "limit": _Flag(DATA, "Train on the first N training examples only. [default: all]", _INT),
        "cache": _Flag(
            DATA,
            "Where to keep the training examples of a folder or of tfds:NAME: memory, or none to read "
            "them from disk as needed. auto streams data sets above 1 GiB (decoded).",
        ),
        "clean": _Flag(
            DATA,
            "Folder of the clean images that belong to the noisy ones in --dataset, matched by name: "
            "train on these pairs.",
        ),
        "patch": _Flag(
            DATA,
            "Train on patches of N x N pixels, at random places of images of any size. [default: "
            "complete images of one size]",
            _INT,
        ),
        "augment": _Flag(DATA, "Turn and flip patches at random."),
        "range": _Flag(
            DATA,
            "Values that become 0 and 1: LO,HI, or percentile:A,B of all (clean) values. [default: by "
            "type; 0,1 for floats]",
        ),
        "noise": _Flag(NOISE, "Corruption p(x~|x). [default for noisy images: none]"),
        "noise_level": _Flag(
            NOISE,
            "A level L, or LO:HI to draw a level for each example. The level is, for "
            f"{_meanings_of_levels()}.",
            _LEVEL,
            Any,  # with the option's own type --help would show "FLOAT FLOAT"
        ),
        "clip": _Flag(NOISE, "Clip corrupted values to [0, 1]."),
        "observation": _Flag(
            NOISE,
            "The images are noisy, and this is the model p(y|s) of their noise, on the scale of "
            f"[0, 1]: {_forms_of_observations()}. auto estimates it.",
        ),
        "objective": _Flag(BOUND, "Mean (elbo) or log-mean-exp (iwae) of the log weights."),
        "posterior": _Flag(
            BOUND, "The posterior of each corruption (conditional), or the mixture of all M."
        ),
        "num_corruptions": _Flag(BOUND, "M, corruptions of each example.", _INT),
        "num_samples": _Flag(BOUND, "K, latent samples for each corruption.", _INT),
        "gradient": _Flag(
            BOUND,
            "Gradient estimator; doubly_reparameterized needs --objective iwae and --posterior "
            "conditional.",
        ),
        "kl_warmup": _Flag(
            BOUND,
            "Epochs over which the weight of the KL term rises from 0 to 1. [default: 0, or a quarter "
            "of all epochs for a ladder]",
            _INT,
        ),
        "likelihood": _Flag(NETWORK, "Likelihood p(x|z)."),
        "network": _Flag(NETWORK, "Architecture of encoder and decoder."),
        "hidden": _Flag(
            NETWORK,
            "Sizes of hidden layers (mlp), or channels of each level (conv, resnet, ladder).",
            _INTS,
        ),
        "conditional": _Flag(
            NETWORK,
            "Model p(x|x~): the prior p(z|x~) and the decoder read the noisy image, too (ladder). "
            "[default: whenever there are clean images]",
        ),
        "activation": _Flag(NETWORK, "Name of a Keras activation, for example relu."),
        "latent_dim": _Flag(
            NETWORK, "L, length of the latent vector; channels of each latent map (ladder).", _INT
        ),
        "epochs": _Flag(TRAINING, "Passes through the training examples.", _INT),
        "batch_size": _Flag(TRAINING, "Examples in a batch.", _INT),
        "optimizer": _Flag(TRAINING, "Optimiser."),
        "learning_rate": _Flag(TRAINING, "Learning rate at the start."),
        "schedule": _Flag(
            TRAINING,
            "Learning rate: constant, cosine decay to zero, or staged as in Burda et al. (2016). "
            "Staged falls to a tenth in eight stages, each three times as long as the one before.",
        ),
        "max_gradient_norm": _Flag(
            TRAINING, "Clip the gradient of a step to this global norm. [default: no clipping]"
        ),
        "precision": _Flag(
            TRAINING,
            "Precision of hidden layers. Weights, densities and bounds are always float32.",
        ),
        "patience": _Flag(
            TRAINING,
            "Stop after N validations without a better bound. [default: never]",
            _INT,
        ),
        "validate_every": _Flag(
            TRAINING, "Validate after every N epochs, and after the last one.", _INT
        ),
        "validation_input": _Flag(TRAINING, "Validate on corrupted or on clean examples."),
        "seed": _Flag(TRAINING, "Seed of all random numbers; it makes a run repeatable.", _INT),
        "strategy": _Flag(
            RUN,
            "Train on one device (none), on all of this machine (mirrored), or in all processes of "
            "TF_CONFIG (multiworker). auto chooses by GPUs and TF_CONFIG.",
        ),
        "checkpoint_seconds": _Flag(
            RUN, "Least time between two checkpoints; 0 writes as many as possible."
        ),
        "preset": _Flag(RUN, "A named group of settings; other flags override it."),
        "run_dir": _Flag(RUN, "Directory to create. [default: runs/DATASET-NOISE-NUMBER]"),
        "init_from": _Flag(
            RUN,
            "Start from the best weights of the run in this directory, with a new optimiser and "
            "schedule. Flags that you leave out are those of that run.",
        ),
        "resume": _Flag(RUN, "Continue the run in this directory, with its own configuration."),
    }


def _forms_of_observations() -> str:
    """Return how each observation is written: "gaussian:SIGMA, ..."."""
    return ", ".join(observation.form() for observation in OBSERVATIONS.values())


def _meanings_of_levels() -> str:
    """Return the meaning of the level for all kinds of noise: "a, b: fraction of ...; c: ..."."""
    names: dict[str, list[str]] = {}
    for name, corruption in CORRUPTIONS.items():
        names.setdefault(corruption.level_means, []).append(name)
    return "; ".join(f"{', '.join(some)}: {meaning}" for meaning, some in names.items())


def parse(arguments: list[str] | None = None) -> Options | None:
    """Parse command-line arguments to options; return None after --help.

    Flags take precedence over the preset, and the preset over the defaults.

    Raises:
        ConfigurationError: if an argument is wrong; the message is one line.
    """
    app = commands.app(
        "train.py",
        "Train a denoising variational auto-encoder, and write model, figures and history into "
        "a run directory. Defaults that are not listed below depend on the data set and the "
        "network. The run's config.json records them.",
        default_parameter=Parameter(show_env_var=False),
    )

    def receive(**given: Any) -> dict[str, Any]:
        return given

    receive.__signature__ = _signature()  # type: ignore[attr-defined]
    app.default(receive)
    words = sys.argv[1:] if arguments is None else arguments
    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise ConfigurationError(commands.one_line(error)) from error
    if command is not receive:  # --help
        command(*bound.args, **bound.kwargs)
        return None
    given = receive(*bound.args, **bound.kwargs)
    for name in ("run_dir", "init_from", "resume"):
        if name in given:
            given[name] = os.path.expanduser(given[name])  # shells leave alone --run-dir=~/run
    source = warm_start.options_of(given["init_from"]) if "init_from" in given else {}
    options = Options(**(source | dict(PRESETS.get(given.get("preset", ""), {})) | given))
    if options.resume is not None and options != Options(
        resume=options.resume, data_dir=options.data_dir
    ):
        raise ConfigurationError(
            "--resume must stand alone, or with --data-dir: a run continues with its own "
            "configuration. Received: other flags beside it. Drop them, or start a new run."
        )
    return options


def _signature() -> inspect.Signature:
    """Return the signature of a function that takes every option as a flag."""
    flags = _flags()
    plain = get_type_hints(Options)
    annotated = get_type_hints(Options, include_extras=True)
    parameters = []
    for option in fields(Options):
        flag = flags[option.name]
        names = _choices(annotated[option.name])
        hint: Any = flag.hint or plain[option.name]
        if names is not None:
            hint = Literal[tuple(names)] | None  # type: ignore[valid-type] # only known at run time
        parameter = Parameter(group=flag.group, help=flag.help, **flag.parsing)
        parameters.append(
            inspect.Parameter(
                option.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=option.default,
                annotation=Annotated[hint, parameter],
            )
        )
    return inspect.Signature(parameters)


def _choices(hint: Any) -> Collection[str] | None:
    """Return the names that an annotation allows, or None if it allows any value."""
    if isinstance(hint, OneOf):
        return hint.names
    inner = [*get_args(hint), *getattr(hint, "__metadata__", ())]
    return next((names for part in inner if (names := _choices(part)) is not None), None)
