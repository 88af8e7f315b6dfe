"""Preparing a run from its configuration, and training it."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from dvae_tf import commands, datasets, randomness
from dvae_tf.model import DVAE
from dvae_tf.runs import (
    building,
    callbacks,
    checkpoints,
    diagnosis,
    outcome,
    resuming,
    warm_start,
    workers,
)
from dvae_tf.runs.configuration import Configuration, ConfigurationError
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.outcome import Outcome
from dvae_tf.runs.resuming import Progress


@dataclass(frozen=True)
class Run:
    """A run that is ready to train.

    Attributes:
        config: resolved configuration.
        dataset: data set to train on.
        model: compiled model.
        directory: run directory.
        progress: progress so far.
        is_chief: whether this process writes files; of several workers only one does.
    """

    config: Configuration
    dataset: datasets.Dataset
    model: DVAE
    directory: RunDirectory
    progress: Progress
    is_chief: bool

    @property
    def steps_per_epoch(self) -> int:
        """Number of training steps in an epoch."""
        return datasets.steps_per_epoch(self.dataset.train, self.config.batch_size)

    def batches(self, first_step: int) -> tf.data.Dataset:
        """Return the endless stream of training batches, beginning with a given step."""
        return datasets.training_batches(
            self.dataset.train,
            self.config.batch_size,
            seed=self.config.seed,
            first_step=first_step,
            augment=self.config.augment,
        )


def prepare(config: Configuration) -> Run:
    """Load the data, build the model and create the run directory, or lock the one to resume.

    The directory is created last, after everything that a user can get wrong has been checked. Its
    lock is held until `Run.directory.unlock()`, or until the run is no longer referenced.

    Raises:
        TypeError, ValueError, OSError: if the run is not possible; the message says in one line what
            to change.
    """
    # Recorded in config.json, so that the run goes on without the variable and from anywhere.
    data_dir = config.data_dir or os.environ.get("TFDS_DATA_DIR")
    init_from = config.init_from and os.path.abspath(config.init_from)
    config = dataclasses.replace(config, data_dir=data_dir, init_from=init_from)
    strategy = workers.strategy(config.strategy)
    is_chief = workers.is_chief(strategy)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise ConfigurationError(
            f"`batch_size` must be a multiple of {replicas}, the replicas that share it. "
            f"Received: {config.batch_size}. Try {replicas * 32}."
        )
    if replicas > 1 and not (config.run_dir or config.resume) and not is_chief:
        raise ConfigurationError(
            "Every worker needs the same `run_dir`, and this one has none. Add it."
        )
    directory = RunDirectory(config.resume or config.run_dir or "")
    if config.resume is not None and is_chief:
        directory.lock()
    try:
        return _prepare(config, strategy, directory, is_chief)
    except BaseException:
        directory.unlock()
        raise


def _prepare(
    config: Configuration, strategy: tf.distribute.Strategy, directory: RunDirectory, is_chief: bool
) -> Run:
    dataset = building.load_dataset(config)
    config = building.with_measured(config, dataset)
    if config.resume is not None:
        directory.check_data(dataset)
    with strategy.scope():
        model = building.build_model(config, dataset.example_shape, is_paired=dataset.is_paired)
        building.start(model, dataset.train)
        steps = datasets.steps_per_epoch(dataset.train, config.batch_size)
        building.compile_model(model, config, steps)
    _check_fit(config, model, dataset)
    progress = Progress()
    if config.resume is not None:
        progress = resuming.restore(directory, config, model, is_chief=is_chief)
    if config.init_from is not None and progress.is_new:
        with strategy.scope():
            warm_start.start(model, config)
    if config.resume is None and is_chief:
        directory = RunDirectory.create(
            config, dataset, model.kind.describe_noise(model.corruption)
        )
        directory.lock()
    return Run(config, dataset, model, directory, progress, is_chief)


def _check_fit(config: Configuration, model: DVAE, dataset: datasets.Dataset) -> None:
    """Evaluate the bound of one example, to find a network that does not work before writing files."""
    example = dataset.train.take(slice(1)).as_float()
    try:
        model.bound_terms(
            tf.nest.map_structure(tf.constant, example), seed=randomness.as_seed(config.seed)
        )
    except (ValueError, tf.errors.OpError) as error:
        raise ConfigurationError(
            f"`network`, `hidden` and `activation` must make a network for these "
            f"{dataset.kind.noun}s. Received: {config.network}, {config.hidden}, "
            f"{config.activation}. Try another activation."
        ) from error


def train(
    run: Run, *, extra: Sequence[keras.callbacks.Callback] = (), verbose: int = 1
) -> Outcome | None:
    """Train a prepared run, and write model, history and figures into its directory.

    Args:
        run: the result of `prepare`.
        extra: callbacks to call after the run's own.
        verbose: as in `keras.Model.fit`.

    Returns:
        the outcome; None in workers other than the chief, which write nothing.

    Raises:
        ConfigurationError: if training diverges, or a streamed example cannot be read.
        OSError: if something cannot be written.
    """
    directory = run.directory
    if run.progress.is_trained:
        if not run.is_chief:
            return None
        best, history = directory.load_model(), directory.read_history()
        return outcome.conclude(directory, run.config, best, run.dataset, history)
    guard, recorder = callbacks.FiniteGuard(), callbacks.Recorder(run.progress.history)
    selected = [guard, recorder, *_callbacks(run)]
    keeper = None
    if run.is_chief:  # after the callbacks whose results a checkpoint stores
        keeper = callbacks.Checkpointing(
            directory, seconds=run.config.checkpoint_seconds, resumed=run.progress.checkpoint
        )
        selected.append(keeper)
    try:
        _fit(run, [*selected, *extra], verbose)
    except tf.errors.OpError as error:
        _check_disk(error)
        _check_examples(run)
        raise
    if guard.epoch is not None:
        raise ConfigurationError(_diagnose(run, guard.epoch))
    if keeper is None:
        return None
    best = keeper.best_model or directory.load_model()
    return outcome.conclude(directory, run.config, best, run.dataset, recorder.columns)


def _callbacks(run: Run) -> list[keras.callbacks.Callback]:
    """Return the callbacks for the configuration; only those of the chief write files."""
    config, logs = run.config, run.directory.logs_path
    selected: list[keras.callbacks.Callback] = []
    if config.kl_warmup:
        selected.append(callbacks.KLWarmUp(config.kl_warmup))
    if config.patience is not None:
        selected.append(resuming.EarlyStopping(config.patience, run.progress.history))
    if not run.is_chief:
        return selected
    clean, noisy = outcome.shown_examples(config, run.dataset, run.model)
    is_resumed = run.progress.checkpoint is not None
    return [
        *selected,
        keras.callbacks.TensorBoard(str(logs), write_graph=False),
        *run.dataset.kind.training_callbacks(
            clean, noisy, log_dir=logs, every=max(config.epochs // 10, 1)
        ),
        keras.callbacks.CSVLogger(str(run.directory.history_path), append=is_resumed),
    ]


def _fit(run: Run, selected: list[keras.callbacks.Callback], verbose: int) -> None:
    config, model, steps = run.config, run.model, run.steps_per_epoch
    # Replicas take equal shares of every batch.
    replicas = model.distribute_strategy.num_replicas_in_sync
    validation = run.dataset.validation
    validation = validation.take(slice(len(validation) // replicas * replicas))
    # Larger batches save time for small examples; patches are large, and so are their networks.
    size = config.batch_size if config.patch else max(config.batch_size, 500 // replicas * replicas)
    epoch, step = run.progress.epoch, run.progress.step_in_epoch
    # Counted from 1: Keras does so for `validation_freq`, and nowhere else.
    validated = [*range(config.validate_every, config.epochs, config.validate_every), config.epochs]

    def fit(first_step: int, num_steps: int, last_epoch: int) -> None:
        model.fit(
            run.batches(first_step),
            steps_per_epoch=num_steps,
            shuffle=False,  # the stream is shuffled already
            initial_epoch=first_step // steps,
            epochs=last_epoch,
            validation_data=datasets.evaluation_batches(validation, size),
            validation_freq=validated,
            callbacks=selected,
            verbose=verbose if run.is_chief else 0,
        )

    if step:  # the rest of an epoch in which the run was stopped
        fit(epoch * steps + step, steps - step, epoch + 1)
        epoch += 1
    if epoch < config.epochs and not (step and model.stop_training):
        fit(epoch * steps, steps, config.epochs)


def _check_disk(error: tf.errors.OpError) -> None:
    """Raise TensorFlow's error as an OSError if its message names an error of the disk.

    TensorBoard's files are written by TensorFlow, which keeps no error number.
    """
    for number in commands.DISK_ERRORS:
        if os.strerror(number) in error.message:
            raise OSError(number, error.message) from error


def _check_examples(run: Run) -> None:
    """Raise an error that names an unreadable example, if that is why a step failed."""
    try:
        datasets.check_training_examples(
            run.dataset.train,
            run.config.batch_size,
            seed=run.config.seed,
            first_step=int(keras.ops.convert_to_numpy(run.model.training_steps)),
        )
    except datasets.DatasetError as error:
        raise ConfigurationError(
            f"{error} Then continue with {run.directory.resume_command}"
        ) from error


def _diagnose(run: Run, epoch: int) -> str:
    """Find the step that diverged, write diagnosis.json, and return the message for the user."""
    newest = run.directory.load_checkpoint()
    assert newest is not None, "training begins with a checkpoint"
    checkpoints.restore(run.model, callbacks.split_arrays(newest)[0])
    rest_of_epoch = (epoch + 1) * run.steps_per_epoch - newest.step
    found = diagnosis.find(run.model, run.batches(newest.step).take(rest_of_epoch), newest.step)
    what, where, more = "the loss", f"in epoch {epoch + 1}", ""
    if found is not None:  # the replay is compiled differently, and may not diverge again
        run.directory.write_diagnosis(found)
        what = (found["layers"] or found["terms"] or found["gradients"] or found["weights"])[0]
        where = f"at step {found['step']}, {where}"
        more = f" ({run.directory.diagnosis_path} has more)"
    return (
        f"Training diverged {where}: {what} is not finite{more}. The checkpoint of step "
        f"{newest.step} is complete. Try a smaller `learning_rate` than "
        f"{run.config.learning_rate:g}."
    )
