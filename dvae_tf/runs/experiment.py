"""A training run from its configuration: data, model, run directory, figures."""

import csv
import dataclasses
import errno
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import corruptions, datasets, figures, files, networks, randomness
from dvae_tf.kinds import Kind
from dvae_tf.model import DVAE
from dvae_tf.runs import callbacks, checkpoints, configuration, diagnosis, workers
from dvae_tf.runs.configuration import Configuration, ConfigurationError

_PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "tensorflow-datasets", "numpy")
_NUM_SHOWN = 10
# Values of validation images, evenly spaced, of which figures tell the PSNR: drawing the noise of all
# of them at once takes about 70 bytes a value.
_MAX_MEASURED = 2**23
# Columns of history.csv.
_LOGGED = ("loss", "bound", "elbo", "reconstruction", "kl")
_HISTORY = ("epoch", *_LOGGED, *(f"val_{name}" for name in _LOGGED))
# What Keras writes there after an epoch that ended without validation.
_NOT_MEASURED = "NA"
# Of config.json; another number says that a run directory has another form.
_FORMAT = 1

# The first number folded into the run's seed for what the model itself does not draw.
_FIGURE_NOISE = 100


class Outcome(NamedTuple):
    """What a run reached on the validation images.

    Attributes:
        best_bound: nats per image.
        noisy_psnr: of the corrupted images, dB.
        denoised_psnr: dB.
    """

    best_bound: float
    noisy_psnr: float
    denoised_psnr: float


def build_corruption(config: Configuration) -> corruptions.Corruption:
    """Return the corruption of a resolved configuration."""
    return corruptions.from_name(str(config.noise), config.noise_level, clip=config.clip)


def load_dataset(config: Configuration) -> datasets.Dataset:
    """Return the data set of a resolved configuration, limited and binarised as it says."""
    dataset = datasets.load(
        config.dataset,
        data_dir=config.data_dir,
        split=config.split,
        cache=config.cache,
        limit=config.limit,
    )
    return dataset.binarized(str(config.binarize), seed=config.seed)


def build_model(config: Configuration, kind: Kind, example_shape) -> DVAE:
    """Return an uncompiled model; its initial weights are a function of the seed.

    Raises:
        ConfigurationError: if the network does not fit into memory.
    """
    keras.utils.set_random_seed(config.seed % 2**32)
    network = networks.NETWORKS[str(config.network)]
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
            f"--hidden and --latent-dim must give a network that fits into memory. "
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
        binarize=config.binarize == "dynamic",
        kind=kind,
        seed=config.seed,
    )


def compile_model(model: DVAE, config: Configuration, steps_per_epoch: int) -> None:
    """Compile with Adam, its schedule and clipping, and several steps for each call."""
    rate = _learning_rate(config, steps_per_epoch * config.epochs)
    # Keras cannot run several steps in a call that exchanges gradients between workers.
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
        # Stage i has 3^i epochs of 3280 at 10^(-i/7) times the rate: arXiv:1509.00519, section 5.
        ends = (3 ** np.arange(1, 9) - 1) / (3**8 - 1)
        return schedules.PiecewiseConstantDecay(
            [round(num_steps * end) - 1 for end in ends[:-1]],  # the last step of each stage
            [config.learning_rate * 10 ** (-stage / 7) for stage in range(8)],
        )
    return config.learning_rate


class Run(NamedTuple):
    """A run that is ready to train.

    Attributes:
        config: resolved.
        dataset: what it trains on.
        model: compiled.
        run_dir: where it writes.
        resumed: what the model was restored to, None for a new run.
        is_chief: of several workers, one writes.
    """

    config: Configuration
    dataset: datasets.Dataset
    model: DVAE
    run_dir: Path
    resumed: checkpoints.Checkpoint | None
    is_chief: bool


def prepare(config: Configuration) -> Run:
    """Load the data, build the model and create the run directory of a resolved configuration.

    The directory is created last: whatever a user can get wrong is found before.

    Raises:
        TypeError, ValueError, OSError: with one line that says what to change.
    """
    # Written down, so that the run is evaluated where the variable is not set.
    data_dir = config.data_dir or os.environ.get("TFDS_DATA_DIR")
    config = dataclasses.replace(config, data_dir=data_dir)
    strategy = workers.strategy(config.strategy)
    is_chief = workers.is_chief(strategy)
    if config.batch_size % strategy.num_replicas_in_sync:
        raise ConfigurationError(
            f"--batch-size must be a multiple of {strategy.num_replicas_in_sync}, the replicas that "
            f"share it. Received: {config.batch_size}. Try {strategy.num_replicas_in_sync * 32}."
        )
    if strategy.num_replicas_in_sync > 1 and not (config.run_dir or config.resume) and not is_chief:
        raise ConfigurationError(
            "--run-dir must be given to every worker, the same one. Received: none. Add it."
        )
    dataset = load_dataset(config)
    if config.resume is not None:
        check_data(Path(config.resume), dataset)
    with strategy.scope():
        model = build_model(config, dataset.kind, dataset.example_shape)
        networks.start_at_mean(model.decoder, datasets.mean_example(dataset.train))
        compile_model(model, config, datasets.steps_per_epoch(dataset.train, config.batch_size))
    # Encoder, decoder and bound fit together: better known before anything is written.
    example = dataset.train.take(slice(1)).as_float()
    try:
        model.bound_terms(tf.constant(example), seed=randomness.as_seed(config.seed))
    except (ValueError, tf.errors.OpError) as error:
        raise ConfigurationError(
            "--network, --hidden and --activation must make a network for these images. "
            f"Received: {config.network}, {config.hidden}, {config.activation}. Try another "
            "activation."
        ) from error
    if config.resume is None:
        run_dir = create_run_dir(config, dataset) if is_chief else Path(str(config.run_dir))
        return Run(config, dataset, model, run_dir, resumed=None, is_chief=is_chief)
    run_dir = Path(config.resume)
    resumed = _restore(run_dir, config, model, is_chief=is_chief)
    return Run(config, dataset, model, run_dir, resumed, is_chief)


def train(
    run: Run, *, extra: Sequence[keras.callbacks.Callback] = (), verbose: int = 1
) -> Outcome | None:
    """Train a prepared run, and leave model, history and figures in its directory.

    Args:
        run: what `prepare` returned.
        extra: callbacks that come after the run's own.
        verbose: as in `keras.Model.fit`.

    Returns:
        what the run reached; None in workers that are not the chief, which writes everything.

    Raises:
        ConfigurationError: if the loss does not stay finite, or a streamed image cannot be read.
        OSError: if something cannot be written.
    """
    run_dir = run.run_dir
    if not _is_trained(run_dir, run.config):
        guard = callbacks.FiniteGuard()
        try:
            _fit(run, [guard, *_callbacks(run), *extra], verbose)
        except tf.errors.OpError:
            _check_images(run)
            raise
        if guard.epoch is not None:
            raise ConfigurationError(_diagnose(run, guard.epoch))
    if not run.is_chief:
        return None
    return write_figures(run_dir, load_model(run_dir), run.dataset, read_history(run_dir))


def finish(run_dir: Path) -> None:
    """Remove the checkpoints of a run whose training, figures and export are complete."""
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)


def _fit(run: Run, selected: list[keras.callbacks.Callback], verbose: int) -> None:
    config, dataset, model, _, resumed, *_ = run
    steps = datasets.steps_per_epoch(dataset.train, config.batch_size)
    # Replicas take equal shares of every batch.
    replicas = model.distribute_strategy.num_replicas_in_sync
    validation = dataset.validation.take(slice(len(dataset.validation) // replicas * replicas))
    epoch, step = _position(resumed)
    # Counted from 1, as Keras does here alone.
    validated = [*range(config.validate_every, config.epochs, config.validate_every), config.epochs]

    def fit(first_step: int, num_steps: int, last_epoch: int) -> None:
        model.fit(
            _batches(run, first_step),
            steps_per_epoch=num_steps,
            shuffle=False,  # the stream is in its order already
            initial_epoch=first_step // steps,
            epochs=last_epoch,
            validation_data=datasets.evaluation_batches(
                validation, max(config.batch_size, 500 // replicas * replicas)
            ),
            validation_freq=validated,
            callbacks=selected,
            verbose=verbose if run.is_chief else 0,
        )

    if step:  # the rest of an epoch that was stopped within
        fit(epoch * steps + step, steps - step, epoch + 1)
        epoch += 1
    if epoch < config.epochs and not (step and model.stop_training):
        fit(epoch * steps, steps, config.epochs)


def _batches(run: Run, first_step: int) -> tf.data.Dataset:
    return datasets.training_batches(
        run.dataset.train, run.config.batch_size, seed=run.config.seed, first_step=first_step
    )


def _position(checkpoint: checkpoints.Checkpoint | None) -> tuple[int, int]:
    """Return how many epochs, and how many steps of the next one, a run has behind it."""
    if checkpoint is None:
        return 0, 0
    return checkpoint.state["epoch"], checkpoint.state["step_in_epoch"]


def _check_images(run: Run) -> None:
    """After a step that failed: say which image it is that cannot be read, if that is why."""
    try:
        datasets.check_training_examples(
            run.dataset.train,
            run.config.batch_size,
            seed=run.config.seed,
            first_step=int(keras.ops.convert_to_numpy(run.model.optimizer.iterations)),
        )
    except datasets.DatasetError as error:
        raise ConfigurationError(
            f"{error} Repair it, and go on with {resume_command(run.run_dir)}"
        ) from error


def _diagnose(run: Run, epoch: int) -> str:
    """Find the step that went wrong, write diagnosis.json, and return a line that says so."""
    config, dataset, model, run_dir, *_ = run
    steps = datasets.steps_per_epoch(dataset.train, config.batch_size)
    newest = checkpoints.load_newest(run_dir / "checkpoints", report=lambda text: None)
    assert newest is not None, "training begins with a checkpoint"
    checkpoints.restore(model, callbacks.split_arrays(newest)[0])
    rest_of_epoch = (epoch + 1) * steps - newest.step
    found = diagnosis.find(model, _batches(run, newest.step).take(rest_of_epoch), newest.step)
    what = "the loss"
    where = f"epoch {epoch + 1}"
    if found is not None:  # compiled otherwise, the last bit can differ
        files.write(run_dir / "diagnosis.json", json.dumps(found, indent=1) + "\n")
        what = (found["layers"] or found["terms"] or found["gradients"] or found["weights"])[0]
        where = f"step {found['step']} of {where} ({run_dir / 'diagnosis.json'} has more)"
    return (
        f"Training must stay finite. Received: {what}, which is not, in {where}; the checkpoint of step "
        f"{newest.step} is whole. Try a smaller --learning-rate than {config.learning_rate:g}."
    )


def resume_command(run_dir: Path) -> str:
    """Return what a user types to go on with a run."""
    return f"python train.py --resume {shlex.quote(str(run_dir))}"


def read_configuration(run_dir: Path) -> Configuration:
    """Return the configuration a run directory was made with.

    Raises:
        ConfigurationError: if there is none, or it cannot be read.
    """
    return read_config(run_dir)[0]


def describe_run(run_dir: Path) -> dict[str, Any]:
    """Return what a run directory says of its run.

    Returns:
        the content of config.json; `history`, as `read_history`; `metrics`, the content of
        evaluation/metrics.json, or None where the run was not evaluated.

    Raises:
        ConfigurationError: if the directory is not that of a run, or a file in it is damaged.
    """
    _, content = read_config(run_dir)
    history = read_history(run_dir)
    path = run_dir / "evaluation" / "metrics.json"
    try:
        measured = json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise ConfigurationError(
            f"{path} must be the metrics of a run. Received: {error!r}. Evaluate the run again."
        ) from error
    return content | {"history": history, "metrics": measured}


def load_model(run_dir: Path) -> DVAE:
    """Return the best model of a run; nothing in its file is executed.

    Raises:
        ConfigurationError: if there is none, or it is damaged.
    """
    path = run_dir / "model.keras"
    if not path.exists():
        raise ConfigurationError(
            f"{run_dir} must hold model.keras. Received: a run without it. Let its training end: "
            f"{resume_command(run_dir)}"
        )
    try:
        return keras.models.load_model(path, safe_mode=True)
    except Exception as error:  # Keras raises many types on a damaged file
        raise ConfigurationError(
            f"{path} must be a complete model file. Received: {str(error)[:200]}. Train the run again."
        ) from error


def read_config(run_dir: Path) -> tuple[Configuration, dict[str, Any]]:
    """Return the configuration of a run directory, and the whole content of its config.json.

    Raises:
        ConfigurationError: if there is none, or it cannot be read.
    """
    path = run_dir / "config.json"
    try:
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise ConfigurationError(
                f"a run directory must have format {_FORMAT}. Received: {content['format']!r}, of "
                "another version of dvae_tf. Use that version, or train again."
            )
        config = configuration.from_dict(content["configuration"])
        configuration.check_resolved(config)
        return config, content
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{run_dir} must be a run directory with a config.json. Received: {error}. "
            "Name a directory that train.py made."
        ) from error


def _describe_data(dataset: datasets.Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        **dataset.kind.describe(dataset.train.examples),
        "num_train": len(dataset.train),
        "num_validation": len(dataset.validation),
        "num_test": len(dataset.test),
        "digest": dataset.digest(),
    }


def check_data(run_dir: Path, dataset: datasets.Dataset) -> None:
    """Refuse data of other sizes than those a run was trained on, and warn of other pixels.

    Raises:
        ConfigurationError: with what differs.
    """
    content = read_config(run_dir)[1].get("data")
    saved = content if isinstance(content, dict) else {}  # a run of before there was one
    for name, value in _describe_data(dataset).items():
        if saved.get(name, value) == value:
            continue
        if name == "digest":  # no reason to refuse: JPEGs may be decoded otherwise elsewhere
            _warn(
                f"the images are not those that {run_dir} was trained on: training images may be "
                "among the test images"
            )
            continue
        raise ConfigurationError(
            f"The data of {run_dir} must be those it was trained on, {name} {saved[name]}. "
            f"Received: {name} {value}. Restore them, or train another run."
        )


# What the system says of a path that cannot be a directory's.
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


def create_run_dir(config: Configuration, dataset: datasets.Dataset) -> Path:
    """Create the run directory with its config.json; an existing one is refused.

    Raises:
        ConfigurationError: if the directory exists already.
    """
    run_dir = Path(config.run_dir) if config.run_dir else _next_run_dir(config)
    if os.path.lexists(run_dir):
        is_run = (run_dir / "config.json").exists()
        remedy = (
            f", or continue that run with --resume {shlex.quote(str(run_dir))}" if is_run else ""
        )
        raise ConfigurationError(
            f"--run-dir must not exist yet. Received: {run_dir}. Choose another one{remedy}."
        )
    content = {
        "format": _FORMAT,
        "configuration": configuration.to_dict(config),
        "seed": config.seed,
        "corruption": build_corruption(config).describe(),
        "data": _describe_data(dataset),
        "versions": {
            "dvae_tf": importlib.import_module("dvae_tf").__version__,
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        },
    }
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        with files.appearing(run_dir) as unfinished:
            unfinished.mkdir()
            (unfinished / "config.json").write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise ConfigurationError(
            "--run-dir must be where a directory can be made. "
            f"Received: {run_dir} ({error.strerror}). Choose another place."
        ) from error
    return run_dir


def _next_run_dir(config: Configuration) -> Path:
    """Return runs/DATASET-NOISE-NUMBER with the first number that is free."""
    stem = Path(config.dataset).stem if not config.dataset.startswith("tfds:") else config.dataset
    name = re.sub(r"[^\w.-]+", "_", f"{stem}-{config.noise}")
    numbers = [
        int(match[1])
        for path in Path("runs").glob(f"{name}-*")
        if (match := re.fullmatch(re.escape(name) + r"-(\d+)", path.name))
    ]
    return Path("runs") / f"{name}-{max(numbers, default=0) + 1}"


def _is_trained(run_dir: Path, config: Configuration) -> bool:
    """Whether the history holds all epochs, or those up to where patience ended."""
    rows = read_history_rows(run_dir)
    bounds = _validation_bounds(rows)
    if not (bounds and (run_dir / "model.keras").exists()):
        return False
    waited = len(bounds) - 1 - int(np.argmax(bounds))
    is_patient = config.patience is None or waited < config.patience
    return len(rows) >= (config.epochs or 0) or not is_patient


def _restore(
    run_dir: Path, config: Configuration, model: DVAE, *, is_chief: bool
) -> checkpoints.Checkpoint | None:
    """Set the model, and if chief the history, to the newest checkpoint of a run that was stopped.

    Returns:
        the checkpoint, or None where the run had not begun or has nothing left to train.

    Raises:
        ConfigurationError: if the run has ended, or its files are damaged.
    """
    history = run_dir / "history.csv"
    directory = run_dir / "checkpoints"
    for place in (run_dir, directory, run_dir / "export") if is_chief else ():
        files.sweep(place)
    try:
        newest = checkpoints.load_newest(directory, report=_warn)
        if newest is not None:
            checkpoints.restore(model, callbacks.split_arrays(newest)[0])
    except checkpoints.CheckpointError as error:
        raise ConfigurationError(
            f"{directory} must hold a checkpoint of this run. Received: {error}. Start a new run."
        ) from error
    if newest is not None:
        if is_chief and newest.state["history"]:
            files.write(history, newest.state["history"])
        elif is_chief:
            history.unlink(missing_ok=True)
        return newest
    try:
        is_trained = _is_trained(run_dir, config)
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise ConfigurationError(
            f"{history} must be the history of a run. Received: {error!r}. Start a new run."
        ) from error
    if is_trained and (run_dir / "export" / "1").exists():
        raise ConfigurationError(
            f"--resume must name a run that was stopped. Received: {run_dir}, which has ended after "
            f"{len(read_history_rows(run_dir))} of {config.epochs} epochs. Start a new run."
        )
    if is_chief and not is_trained:  # stopped before its first checkpoint
        history.unlink(missing_ok=True)
    return None


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


class _EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras' own, which remembers the epochs before a run was stopped."""

    def __init__(self, patience: int, resumed: checkpoints.Checkpoint | None):
        super().__init__("val_bound", mode="max", patience=patience)
        text = "" if resumed is None else resumed.state["history"]
        self._past = _validation_bounds(csv.DictReader(text.splitlines()))
        self._has_begun = False

    def on_train_begin(self, logs=None):
        if self._has_begun:  # the rest of an epoch was a `fit` of its own
            return
        self._has_begun = True
        super().on_train_begin(logs)
        for epoch, bound in enumerate(self._past):
            self.on_epoch_end(epoch, {"val_bound": bound})

    def on_epoch_end(self, epoch, logs=None):
        if "val_bound" in logs:  # not every epoch ends with a validation
            super().on_epoch_end(epoch, logs)


def _callbacks(run: Run) -> list[keras.callbacks.Callback]:
    config, dataset, _, run_dir, resumed, is_chief = run
    selected: list[keras.callbacks.Callback] = []
    if config.kl_warmup:
        selected.append(callbacks.KLWarmUp(config.kl_warmup))
    if config.patience is not None:
        selected.append(_EarlyStopping(config.patience, resumed))
    if not is_chief:
        return selected
    clean, noisy = _shown_images(config, dataset)
    return [
        *selected,
        keras.callbacks.TensorBoard(str(run_dir / "logs"), write_graph=False),
        *dataset.kind.training_callbacks(
            clean, noisy, log_dir=run_dir / "logs", every=max(config.epochs // 10, 1)
        ),
        keras.callbacks.CSVLogger(str(run_dir / "history.csv"), append=resumed is not None),
        # After those whose work a checkpoint holds.
        callbacks.Checkpointing(run_dir, seconds=config.checkpoint_seconds, resumed=resumed),
    ]


def read_history_rows(run_dir: Path) -> list[dict[str, str]]:
    """Return the rows of history.csv; none where there is no file yet."""
    path = run_dir / "history.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_history(run_dir: Path) -> dict[str, list[float]]:
    """Return the columns of history.csv; NaN in epochs without validation.

    Raises:
        ConfigurationError: if it is damaged.
    """

    def value(key: str, text: str) -> float:
        return math.nan if key.startswith("val_") and text == _NOT_MEASURED else float(text)

    try:
        rows = read_history_rows(run_dir)
        columns = {key: [value(key, row[key]) for row in rows] for key in rows[0]}
        _ = [columns[key] for key in _HISTORY]
        if np.isnan(columns["val_bound"]).all():
            raise ValueError("no validation")
        return columns
    except (ValueError, TypeError, LookupError, csv.Error) as error:
        raise ConfigurationError(
            f"{run_dir / 'history.csv'} must be the history of a run with validations. Received: "
            f"{error!r}. Go on with {resume_command(run_dir)}, or train again."
        ) from error


def _validation_bounds(rows: Iterable[dict[str, str]]) -> list[float]:
    """Return the bound of every validation that is among the rows of history.csv."""
    return [float(row["val_bound"]) for row in rows if row["val_bound"] != _NOT_MEASURED]


def _shown_images(
    config: Configuration, dataset: datasets.Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """Return the validation images that figures show: clean and corrupted, with fixed noise."""
    places = datasets.evenly_spaced(len(dataset.validation), _NUM_SHOWN)
    clean = dataset.validation.take(places).as_float()
    seed = randomness.fold_in(randomness.as_seed(config.seed), _FIGURE_NOISE)
    return clean, build_corruption(config)(clean, seed=seed).numpy()


def write_figures(
    run_dir: Path, model: DVAE, dataset: datasets.Dataset, history: dict[str, list[float]]
) -> Outcome:
    """Write the PNGs of figures/, and return the outcome that they show."""
    config = read_configuration(run_dir)
    directory = run_dir / "figures"
    directory.mkdir(exist_ok=True)

    count = len(dataset.validation)
    kept = max(_MAX_MEASURED // int(np.prod(dataset.example_shape)), _NUM_SHOWN)
    places = datasets.evenly_spaced(count, kept)
    clean = dataset.validation.take(places).as_float()
    seed = randomness.fold_in(randomness.as_seed(config.seed), _FIGURE_NOISE)
    noisy = model.corruption(clean, seed=seed).numpy()
    denoised = model.predict(noisy, batch_size=500, verbose=0)
    measure = dataset.kind.measures()["psnr"]
    outcome = Outcome(
        best_bound=float(np.nanmax(history["val_bound"])),
        noisy_psnr=float(measure(clean, noisy).mean()),
        denoised_psnr=float(measure(clean, denoised).mean()),
    )
    clean_shown, noisy_shown = _shown_images(config, dataset)
    drawn = {
        "curves": figures.learning_curves(history),
    }
    arrays = {
        "clean": clean_shown,
        "noisy": noisy_shown,
        "denoised": model.predict(noisy_shown, verbose=0),
        "samples": model.sample(100, seed=config.seed).numpy(),
    }
    first = next(iter(_dense_layers(model.encoder)), None)
    if config.network == "mlp" and first is not None:
        arrays["first_layer"] = first.kernel.numpy()
    if model.latent_dim == 2 and model.prior.quantile(np.array(0.5)) is not None:
        arrays["manifold_latents"] = figures.latent_grid(model.prior.quantile)
        arrays["manifold"] = model.decoder(arrays["manifold_latents"]).mean().numpy()
    title = (
        f"{model.corruption.describe()}\nPSNR over {len(clean)} validation images: "
        f"corrupted {outcome.noisy_psnr:.1f} dB, denoised {outcome.denoised_psnr:.1f} dB"
    )
    drawn |= dataset.kind.run_figures(arrays, title=title)
    for name, figure in drawn.items():
        files.write(directory / f"{name}.png", figures.to_png(figure))
    return outcome


def _dense_layers(model: keras.Model):
    return (layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
