"""Does memory stay flat over 200 epochs of train.py, and over thousands of requests to the server?

    python benchmarks/memory.py

Resident memory and its medians by quarter go to benchmarks/memory.json. Memory rises and falls with
what checkpoints and arenas hold for a while. A slope would mostly show where they stood at the end.
"""

import http.client
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from growth import BENCHMARKS, resident_mib

from dvae_tf.runs import command_line, defaults, training
from dvae_tf.serving import export
from serving import running_server

EPOCHS = 200
REQUESTS = 4000
EVERY = 20  # requests between two measurements


class Memory(keras.callbacks.Callback):
    """Records the resident memory after each epoch."""

    def __init__(self):
        super().__init__()
        self.mib: list[float] = []

    def on_epoch_end(self, epoch, logs=None):
        self.mib.append(resident_mib())


def summarize(mib: list[float], unit: str, each: int) -> dict:
    """Return the resident memory, measured every `each` units, and its medians by quarter."""
    quarters = np.array_split(np.array(mib), 4)
    return {
        f"{unit}s_apart": each,
        "mib": [round(value, 1) for value in mib],
        "median_mib_by_quarter": [round(float(np.median(quarter)), 1) for quarter in quarters],
    }


def of_training(run_dir: str) -> dict:
    """Train on digits with everything that train.py does."""
    words = ["--epochs", str(EPOCHS), "--run-dir", run_dir, "--checkpoint-seconds", "1"]
    given = command_line.parse(words)
    assert given is not None
    run = training.prepare(defaults.resolve(given))
    memory = Memory()
    training.train(run, extra=[memory], verbose=0)
    return summarize(memory.mib, "epoch", 1)


def of_serving(export_dir: Path) -> dict:
    """Send requests to a server in a process of its own, one after the other."""
    with running_server(export_dir) as (address, process):
        connection = http.client.HTTPConnection(address)
        rng = np.random.default_rng(0)
        mib = []
        for index in range(REQUESTS):
            rows = rng.random((1 + index % 4, 8, 8, 1)).round(3).tolist()
            connection.request("POST", "/v1/models/dvae:predict", json.dumps({"instances": rows}))
            answer = connection.getresponse()
            if answer.read() and answer.status != 200:
                raise RuntimeError(answer.status)
            if index % EVERY == 0:
                mib.append(resident_mib(process))
    return summarize(mib, "request", EVERY)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        training = of_training(f"{directory}/run")
        export.export_run(Path(directory) / "run", version=1)
        content = {"training": training, "serving": of_serving(Path(directory) / "run" / "export")}
    for name, values in content.items():
        print(name, {k: v for k, v in values.items() if k != "mib"})
    (BENCHMARKS / "memory.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
