"""Train a denoising variational auto-encoder: `python train.py --help`."""

import os
import shlex
import sys

# Otherwise TensorFlow's start-up messages would bury ours. Both variables only work before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever keras.json says

from dvae_tf import commands
from dvae_tf.runs import command_line, defaults, resuming, training
from dvae_tf.runs.configuration import ConfigurationError
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options
from dvae_tf.runs.outcome import Outcome
from dvae_tf.runs.training import Run
from dvae_tf.serving import export


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 after a user's error, 130 after Ctrl-C."""
    with commands.terminal(), commands.Interruptible() as interruptible:
        try:
            options = command_line.parse(arguments)
            if options is None:
                return 0
            if options.resume is not None:
                interruptible.hint = _hint(RunDirectory(options.resume))
            run = _prepare(options)
        except (ValueError, TypeError, OSError) as error:
            return _fail(error)
        interruptible.hint = _hint(run.directory)
        try:
            return _train(run)
        finally:
            run.directory.unlock()
    return 130


def _train(run: Run) -> int:
    """Train, export and report; return the exit status."""
    directory = run.directory
    try:
        outcome = training.train(run)
        if outcome is None:  # a worker; the chief writes everything
            return 0
        if not directory.is_exported(1):
            export.export_run(directory.path, version=1)
        directory.remove_checkpoints()
    except ConfigurationError as error:
        return _fail(error)
    except OSError as error:
        return _fail(error, f"Then continue with {directory.resume_command}")
    _report(run, outcome)
    return 0


def _hint(directory: RunDirectory) -> str:
    return f"stopped: continue with {directory.resume_command}"


def _fail(error: BaseException, remedy: str = "") -> int:
    return commands.fail("train.py", error, remedy, flags=command_line.FLAGS)


def _prepare(options: Options) -> Run:
    """Prepare the run, and print what it will do."""
    if options.resume is None:
        config = defaults.resolve(options)
    else:
        config = resuming.read_configuration(options.resume, options.data_dir)
    run = training.prepare(config)
    train = run.dataset.train
    print(
        f"data:  {config.dataset}, {len(train)} training {run.dataset.kind.noun}s of "
        f"{_in_words(run.dataset.example_shape)}{', read as needed' * train.is_streamed}, "
        f"binarize {config.binarize}\n"
        f"noise: {_noise(run)}\n"
        f"model: {config.network} {' '.join(map(str, config.hidden))}, "
        f"{config.latent_dim} latents, {config.likelihood} likelihood, {config.precision}\n"
        f"bound: {config.objective}, {config.posterior} posterior, M={config.num_corruptions}, "
        f"K={config.num_samples}\n"
        f"run:   {run.directory}",
        flush=True,
    )
    return run


def _noise(run: Run) -> str:
    """Describe the noise: that which is simulated, or that which is in the data."""
    if run.model.observation is not None:
        return f"in the data, {run.model.observation.describe()}"
    if run.dataset.is_paired:
        return "in the data, learnt from pairs"
    return run.dataset.kind.describe_noise(run.model.corruption)


def _in_words(shape) -> str:
    """Write the shape of an example, a tuple of integers or a nest of tuples, as "8 x 8 x 1"."""
    if isinstance(shape, dict):
        return ", ".join(f"{name} {_in_words(part)}" for name, part in shape.items())
    return " x ".join(
        str(part) if isinstance(part, int) else f"({_in_words(part)})" for part in shape
    )


def _report(run: Run, outcome: Outcome) -> None:
    """Print the results of a run, and the places of its files."""
    directory = run.directory
    print(f"best validation bound: {outcome.best_bound:.2f} nats per {run.dataset.kind.noun}")
    if outcome.noisy_psnr is not None:
        print(
            f"validation PSNR: corrupted {outcome.noisy_psnr:.2f} dB, denoised "
            f"{outcome.denoised_psnr:.2f} dB"
        )
    print(
        f"model:      {directory.model_path}\n"
        f"history:    {directory.history_path}\n"
        f"figures:    {directory.path / 'figures'}\n"
        f"SavedModel: {directory.export_path / '1'}\n"
        f"{_next(run, shlex.quote(str(directory)))}"
    )


def _next(run: Run, directory: str) -> str:
    """Return the command that one would use next, with its purpose."""
    if run.dataset.is_paired or run.model.is_conditional or run.model.observation is not None:
        return f"denoise:    python denoise.py {directory} FILES --out cleaned"
    return f"evaluate:   python evaluate.py {directory}"


if __name__ == "__main__":
    sys.exit(main())
