"""Train a denoising variational auto-encoder: `python train.py --help`."""

import dataclasses
import os
import shlex
import sys
from pathlib import Path

# Without it TensorFlow's start-up messages bury ours. It must be set before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dvae_tf import commands
from dvae_tf.runs import configuration, experiment
from dvae_tf.serving import export


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 after a user's error, 130 after Ctrl-C."""
    try:
        config = configuration.parse(arguments)
        if config is None:
            return 0
        run = _prepare(config)
    except (ValueError, TypeError, OSError) as error:
        return commands.fail("train.py", error)
    except KeyboardInterrupt:
        return 130
    try:
        outcome = experiment.train(run)
        if outcome is None:  # a worker whose chief writes everything
            return 0
        if not (run.run_dir / "export" / "1").exists():
            export.export_run(run.run_dir, version=1)
        experiment.finish(run.run_dir)
    except configuration.ConfigurationError as error:
        return commands.fail("train.py", error)
    except OSError as error:
        remedy = f"Then go on with {experiment.resume_command(run.run_dir)}"
        return commands.fail("train.py", error, remedy)
    except KeyboardInterrupt:
        words = experiment.resume_command(run.run_dir)
        print(f"\nstopped: continue with {words}", file=sys.stderr)
        return 130
    run_dir = run.run_dir
    print(
        f"best validation bound: {outcome.best_bound:.2f} nats per image\n"
        f"validation PSNR: corrupted {outcome.noisy_psnr:.2f} dB, denoised "
        f"{outcome.denoised_psnr:.2f} dB\n"
        f"model:      {run_dir / 'model.keras'}\n"
        f"history:    {run_dir / 'history.csv'}\n"
        f"figures:    {run_dir / 'figures'}\n"
        f"SavedModel: {run_dir / 'export' / '1'}\n"
        f"evaluate:   python evaluate.py {shlex.quote(str(run_dir))}"
    )
    return 0


def _prepare(config: configuration.Configuration) -> experiment.Run:
    """Say what will run, and prepare it."""
    if config.resume is None:
        config = configuration.resolve(config)
    else:
        saved = experiment.read_configuration(Path(config.resume))
        data_dir = config.data_dir or saved.data_dir
        config = dataclasses.replace(saved, resume=config.resume, data_dir=data_dir)
    run = experiment.prepare(config)
    streamed = run.dataset.train.is_streamed
    print(
        f"data:  {config.dataset}, {len(run.dataset.train)} training images of "
        f"{' x '.join(map(str, run.dataset.example_shape))}{', read as needed' * streamed}, "
        f"binarize {config.binarize}\n"
        f"noise: {run.model.corruption.describe()}\n"
        f"model: {config.network} {' '.join(map(str, config.hidden or ()))}, "
        f"{config.latent_dim} latents, {config.likelihood} likelihood, {config.precision}\n"
        f"bound: {config.objective}, {config.posterior} posterior, M={config.num_corruptions}, "
        f"K={config.num_samples}\n"
        f"run:   {run.run_dir}",
        flush=True,
    )
    return run


if __name__ == "__main__":
    sys.exit(main())
