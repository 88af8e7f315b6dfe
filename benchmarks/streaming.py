"""Resident memory of training on a folder of 200,000 images, which are read during training.

    python benchmarks/streaming.py

It trains with `--cache none` on the large folder and on one of 2,000 images, for equally many steps.
It also trains on the small folder with `--cache memory`. Images are random, 28 x 28. Each training
calls the functions of train.py in a process of its own. The small folder has many epochs, so it shows
what an epoch adds. Memory after each call of TensorFlow goes to benchmarks/streaming.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import PIL.Image
from growth import BENCHMARKS, resident_mib

from dvae_tf.runs import command_line, defaults, training

SMALL = 2_000
BATCH_SIZE = 100
FOLDER_SIZE = 2_000


class Memory(keras.callbacks.Callback):
    """Records step and resident memory after each call of TensorFlow."""

    def __init__(self):
        super().__init__()
        self.rows: list[tuple[int, float]] = []

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append((int(self.model.optimizer.iterations), resident_mib()))


def make_folder(folder: Path, count: int) -> None:
    """Write `count` random 8-bit images, 2,000 to a sub-folder."""
    rng = np.random.default_rng(0)
    for start in range(0, count, FOLDER_SIZE):
        directory = folder / f"{start // FOLDER_SIZE:04d}"
        directory.mkdir(parents=True)
        images = rng.integers(0, 256, (min(FOLDER_SIZE, count - start), 28, 28), np.uint8)
        for index, image in enumerate(images):
            PIL.Image.fromarray(image).save(directory / f"{index:04d}.png", compress_level=1)


def measure(folder: str, cache: str, num_steps: int, run_dir: str) -> dict:
    """Train for at least `num_steps`, in whole epochs."""
    words = f"--cache {cache} --network mlp --hidden 200 200 --batch-size {BATCH_SIZE}".split()
    words += ["--dataset", folder, "--run-dir", run_dir, "--epochs"]
    num_files = sum(1 for _ in Path(folder).rglob("*.png"))
    steps = (num_files - 2 * (num_files // 10)) // BATCH_SIZE
    epochs = -(-num_steps // steps)
    given = command_line.parse([*words, str(epochs)])
    assert given is not None
    before = resident_mib()
    started = time.perf_counter()
    run = training.prepare(defaults.resolve(given))
    prepared = time.perf_counter() - started
    memory = Memory()
    training.train(run, extra=[memory], verbose=0)
    rows = np.array(memory.rows)
    thinned = rows[np.linspace(0, len(rows) - 1, min(len(rows), 200)).astype(int)]
    return {
        "images": num_files,
        "cache": cache,
        "epochs": epochs,
        "seconds_to_prepare": round(prepared, 1),
        "mib_before": round(before, 1),
        "step": [int(step) for step in thinned[:, 0]],
        "mib": [round(float(value), 1) for value in thinned[:, 1]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--steps", type=int, default=8_000, help="steps of 100 images")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        folder, cache, num_steps, run_dir = options.measure
        print(json.dumps(measure(folder, cache, int(num_steps), run_dir)))
        return
    results = []
    for count, cache in ((options.images, "none"), (SMALL, "none"), (SMALL, "memory")):
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory) / "images"
            make_folder(folder, count)
            words = [str(folder), cache, str(options.steps), str(Path(directory) / "run")]
            done = subprocess.run(
                [sys.executable, __file__, "--measure", *words],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print({k: v for k, v in results[-1].items() if k not in ("step", "mib")}, flush=True)
    content = {"cores": os.cpu_count(), "batch_size": BATCH_SIZE, "folders": results}
    (BENCHMARKS / "streaming.json").write_text(
        json.dumps(content, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
