"""Training time and all-reduce traffic with several local processes of MultiWorkerMirroredStrategy.

    python benchmarks/workers.py

1, 2 and 4 processes of this machine share each global batch, and the machine's cores. They talk over
the loopback interface, whose counter gives the traffic (Linux only). For comparison, one process
trains without a strategy: compiled by XLA, with many steps in a call. The result goes to
benchmarks/workers.json.
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

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
sys.path[:0] = [str(BENCHMARKS), str(ROOT)]

from local_cluster import environments

BATCH_SIZE = 128
STEPS = 60  # an epoch
EPOCHS = 6  # the first one, which compiles, is not counted
NETWORKS = {"200-200": (200, 200), "1000-1000": (1000, 1000)}
WORKERS = (0, 1, 2, 4)  # 0: without a distribution strategy


def loopback_bytes() -> int:
    """Return the bytes sent over the loopback interface so far."""
    for line in Path("/proc/net/dev").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[8])
    return 0


def train_here(network: str) -> dict:
    """Train in this process, alone or as one of several."""
    import keras
    from growth import random_images

    from dvae_tf import datasets, networks
    from dvae_tf.runs import building, defaults, workers
    from dvae_tf.runs.options import Options

    strategy = workers.strategy("multiworker" if os.environ.get("TF_CONFIG") else "none")
    config = defaults.resolve(
        Options(dataset="mnist", hidden=NETWORKS[network], batch_size=BATCH_SIZE, binarize="none")
    )
    split = datasets.Split(random_images(STEPS * BATCH_SIZE, 28))
    with strategy.scope():
        model = building.build_model(config, split.images.shape[1:])
        networks.start_at_mean(model.decoder, datasets.mean_image(split))
        building.compile_model(model, config, STEPS)
    rows: list[tuple[float, int]] = []

    class Meter(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter(), loopback_bytes()

        def on_epoch_end(self, epoch, logs=None):
            seconds = time.perf_counter() - self.start[0]
            rows.append((seconds / STEPS, (loopback_bytes() - self.start[1]) // STEPS))

    model.fit(
        datasets.training_batches(split, BATCH_SIZE, seed=0),
        steps_per_epoch=STEPS, epochs=EPOCHS, shuffle=False, callbacks=[Meter()], verbose=0,
    )  # fmt: skip
    return {
        "parameters": model.count_params(),
        "ms_per_step": round(1e3 * statistics.median(row[0] for row in rows[1:]), 2),
        "bytes_per_step": statistics.median(row[1] for row in rows[1:]),
    }


def train_with(count: int, network: str) -> dict:
    """Train with several processes, and return what the first one measured."""
    words = [sys.executable, __file__, "--train", network]
    processes = [
        subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for environment in (environments(count) if count else [dict(os.environ)])
    ]
    outputs = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(errors[-2000:])
    return json.loads(outputs[0][0].splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train_here(options.train)))
        return
    rows = []
    for network in NETWORKS:
        results: dict[int, list[dict]] = {count: [] for count in WORKERS}
        for _ in range(options.repeats):  # in turns
            for count in WORKERS:
                results[count].append(train_with(count, network))
        for count, measured in results.items():
            parameters = measured[0]["parameters"]
            rows.append(
                {
                    "network": network,
                    "parameters": parameters,
                    "workers": count,
                    "ms_per_step": statistics.median(m["ms_per_step"] for m in measured),
                    "mb_per_step": round(
                        statistics.median(m["bytes_per_step"] for m in measured) / 1e6, 3
                    ),
                    # A ring all-reduce of P float32 numbers, over all workers together.
                    "ring_mb_per_step": round(2 * max(count - 1, 0) * 4 * parameters / 1e6, 3),
                }
            )
            print(rows[-1], flush=True)
    content = {
        "cores": os.cpu_count(),
        "batch_size": BATCH_SIZE,
        "repeats": options.repeats,
        "rows": rows,
    }
    (BENCHMARKS / "workers.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
