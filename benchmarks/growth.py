"""How cost grows: time with batch, L, M, K, image and data set size; memory with samples.

    python benchmarks/growth.py

Each size trains on random binary images. The first epoch compiles and is not timed. Each measurement
of memory has a process of its own. The result goes to benchmarks/growth.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
sys.path.insert(0, str(ROOT))

from dvae_tf import datasets, likelihood, networks
from dvae_tf.runs import building, defaults
from dvae_tf.runs.options import Options

# What varies; the rest is the mlp 784-200-200-50 at batch 100, or conv where the image's size varies.
SWEEPS: dict[str, tuple[int, ...]] = {
    "batch_size": (25, 100, 400, 1600),
    "latent_dim": (2, 10, 50, 250, 1000),
    "num_corruptions": (1, 3, 10, 30),
    "num_samples": (1, 5, 25, 100),
    "image_side": (14, 28, 56, 112),
    "num_images": (2_000, 10_000, 50_000, 200_000),
}
SAMPLES = (500, 5_000, 50_000)
TRAINING_ROWS = ((5, 5_000), (10, 5_000), (20, 5_000))  # batch size, K


class Clock(keras.callbacks.Callback):
    """Notes the duration of every epoch."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def resident_mib(process: int | str = "self") -> float:
    """Return the resident memory of a process now."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def random_images(count: int, side: int) -> np.ndarray:
    """Return random binary images."""
    bits = np.random.default_rng(0).integers(0, 256, (count, -(-side * side // 8)), np.uint8)
    pixels = np.unpackbits(bits, axis=1)[:, : side * side] * np.uint8(255)
    return pixels.reshape(count, side, side, 1)


def fit(num_images: int, num_epochs: int, *, side: int = 28, **fields) -> Clock:
    """Train a configuration with these fields; the first epoch compiles."""
    config = defaults.resolve(Options(dataset="mnist", **fields))
    split = datasets.Split(random_images(num_images, side))
    steps = datasets.steps_per_epoch(split, config.batch_size)
    model = building.build_model(config, split.images.shape[1:])
    building.compile_model(model, config, steps)
    clock = Clock()
    model.fit(
        datasets.training_batches(split, config.batch_size, seed=0),
        steps_per_epoch=steps,
        epochs=num_epochs,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    return clock


def time_of(name: str, value: int) -> float:
    """Return the milliseconds of a step, or of an epoch if the number of images varies."""
    # As many steps as take about equally long, in whole calls of TensorFlow.
    power = 2 if name == "image_side" else 1
    steps = max(256 * SWEEPS[name][0] ** power // value**power, 8)
    batch_size = value if name == "batch_size" else 100
    fields: dict = {"batch_size": batch_size}
    if name == "image_side":
        fields |= {"side": value, "network": "conv"}
    elif name == "num_samples":
        fields |= {"num_samples": value, "objective": "iwae"}
    elif name == "num_corruptions":
        fields |= {"num_corruptions": value, "posterior": "mixture"}
    elif name == "latent_dim":
        fields |= {"latent_dim": value}
    if name == "num_images":
        return 1e3 * statistics.median(fit(value, 4, **fields).seconds[1:])
    return 1e3 * statistics.median(fit(steps * batch_size, 4, **fields).seconds[1:]) / steps


def peak_mib() -> float:
    """Return the largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory_of_likelihood(num_samples: int) -> float:
    """Return the MiB that log p(x) of 300 images adds at the peak."""
    encoder, decoder = networks.mlp((28, 28, 1), 50)
    images = random_images(300, 28).astype(np.float32) / 255
    likelihood.importance_sampling(encoder, decoder, images[:1], num_samples=1)
    before = resident_mib()
    likelihood.importance_sampling(encoder, decoder, images, num_samples=num_samples)
    return round(peak_mib() - before)


def memory_of_training(batch_size: int, num_samples: int) -> float:
    """Return the MiB that three steps of iwae with K samples add at the peak."""
    before = resident_mib()
    fit(batch_size * 3, 1, batch_size=batch_size, num_samples=num_samples, objective="iwae")
    return round(peak_mib() - before)


MEASUREMENTS = {
    "time_of": time_of,
    "memory_of_likelihood": memory_of_likelihood,
    "memory_of_training": memory_of_training,
}


def in_new_process(name: str, *arguments):
    """Run a measurement in a process of its own, and return its result."""
    words = [sys.executable, __file__, "--measure", name, *map(str, arguments)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(name, *arguments, result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, *words = options.measure
        values = [int(word) if word.isdigit() else word for word in words]
        print(json.dumps(MEASUREMENTS[name](*values)))
        return
    content = {
        "cores": os.cpu_count(),
        "milliseconds": {
            name: {value: round(in_new_process("time_of", name, value), 3) for value in values}
            for name, values in SWEEPS.items()
        },
        "likelihood_mib_by_samples": {
            count: in_new_process("memory_of_likelihood", count) for count in SAMPLES
        },
        "training_mib": [
            {"batch_size": b, "num_samples": k, "mib": in_new_process("memory_of_training", b, k)}
            for b, k in TRAINING_ROWS
        ],
    }
    (BENCHMARKS / "growth.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
