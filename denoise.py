"""Denoise pictures with a trained run: `python denoise.py RUN_DIR INPUT [INPUT ...] --out DIR`."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Annotated

# Otherwise TensorFlow's start-up messages would bury ours. Both variables only work before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever keras.json says

import cyclopts
from cyclopts import Parameter

from dvae_tf import __version__, commands
from dvae_tf.denoising import inputs
from dvae_tf.denoising.denoiser import Denoiser, Settings
from dvae_tf.denoising.job import Job
from dvae_tf.kinds.image.scale import Scale
from dvae_tf.runs.directory import RunDirectory

NAME = "denoise.py"
# Argument of the library -> flag.
FLAGS = {
    "num_samples": "samples",
    "num_draws": "draws",
    "seed": "seed",
    "tile": "tile",
    "out": "out",
}

app = commands.app(
    NAME,
    "Denoise pictures of any format and size with a trained run. Results have the names, formats, "
    "sizes and types of their inputs. A second run of the same command skips files that are done.",
)


@app.default
def _denoise(
    run_dir: Annotated[str, Parameter(name="RUN_DIR", help="Run directory from train.py.")],
    /,
    *sources: Annotated[
        str,
        Parameter(
            name="INPUT",
            help="PNG, JPEG, BMP, GIF, TIFF or .npy files, folders of them, or patterns.",
        ),
    ],
    out: Annotated[str, Parameter(help="Folder of the results.")],
    samples: Annotated[
        int, commands.whole_number("Posterior draws that are averaged.")
    ] = Settings.num_samples,
    stddev: Annotated[
        bool,
        Parameter(
            help="Write the standard deviation, too: NAME_stddev.tif, in the picture's units.",
            negative=(),
        ),
    ] = False,
    draws: Annotated[
        int, commands.whole_number("Write N single draws, too: NAME_draw1, NAME_draw2, ...")
    ] = 0,
    tile: Annotated[
        int | None,
        commands.whole_number("Side of the tiles, in pixels. [default: as memory allows]"),
    ] = None,
    seed: Annotated[int, commands.whole_number("Seed of all random numbers.")] = 0,
) -> int:
    settings = Settings(num_samples=samples, stddev=stddev, num_draws=draws, seed=seed)
    if not sources:
        raise ValueError("INPUT must be given. Name files or folders of pictures.")
    works = inputs.collect(sources, Path(out), settings)
    directory = RunDirectory(run_dir)
    config, _ = directory.read_config()
    model = directory.load_model()
    if model.kind.name != "image":
        raise ValueError(
            f"RUN_DIR must be a run on images. Received: {run_dir}, of {model.kind.noun}s. "
            "Choose another run."
        )
    scale = Scale.from_text(config.range) if config.range else None
    denoiser = Denoiser(model, settings, scale=scale, tile=tile)
    content = hashlib.sha256(directory.model_path.read_bytes()).hexdigest()
    key = [content, config.range, __version__]
    outcome = Job(works, Path(out), denoiser, name=NAME, key=key).run()
    parts = [
        f"{number} {words}"
        for number, words in zip(
            outcome, (f"denoised into {out}", "done before", "failed"), strict=True
        )
        if number
    ]
    print(f"pictures: {', '.join(parts)}")
    return 1 if outcome.failed else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status.

    0, 1 if a picture could not be denoised, 2 after a user's error, 130 after Ctrl-C.
    """
    with commands.terminal(), commands.Interruptible() as interruptible:
        try:
            words = sys.argv[1:] if arguments is None else arguments
            command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
            interruptible.hint = "stopped: the same command goes on with what is not done"
            return command(*bound.args, **bound.kwargs) or 0
        except (cyclopts.CycloptsError, ValueError, TypeError, OSError) as error:
            return commands.fail(NAME, error, flags=FLAGS)
    return 130


if __name__ == "__main__":
    sys.exit(main())
