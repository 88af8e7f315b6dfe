"""Where `python train.py --dataset frey --noise gaussian` spends its time, from start to export.

    python benchmarks/startup.py --data-dir TFDS_DIRECTORY

The command runs in a process of its own, with clocks around its parts. Medians over the repeats go to
benchmarks/startup.json.
"""

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent


def run_with_clocks(arguments: list[str]) -> None:
    """Run train.py in this process, and print when each part was done."""
    started = float(os.environ["STARTED"])
    done: dict[str, float] = {}

    def mark(name: str) -> None:
        done.setdefault(name, round(time.time() - started, 3))

    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from dvae_tf.runs import building, outcome, training
    from dvae_tf.serving import export

    mark("import")

    class FirstSteps(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            mark("first call of steps")

        def on_epoch_end(self, epoch, logs=None):
            mark("first epoch with validation")

    def after(module, function: str, name: str) -> None:
        original = getattr(module, function)

        def timed(*values, **keywords):
            result = original(*values, **keywords)
            mark(name)
            return result

        setattr(module, function, timed)

    after(building, "load_dataset", "data")
    after(training, "prepare", "model, and a run directory")
    after(training, "_fit", "all epochs")
    after(outcome, "conclude", "figures")
    after(export, "export_run", "export")
    own = training._callbacks
    training._callbacks = lambda *values: [*own(*values), FirstSteps()]
    sys.argv[1:] = arguments
    try:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    finally:
        print("RESULT " + json.dumps(done))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="directory of TensorFlow Datasets")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_with_clocks(options.run)
        return 0
    results = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as directory:
            words = ["--dataset", "frey", "--noise", "gaussian", "--run-dir", f"{directory}/run"]
            if options.data_dir:
                words += ["--data-dir", options.data_dir]
            started = time.time()
            output = subprocess.run(
                [sys.executable, __file__, "--run", *words],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"STARTED": str(started)},
            ).stdout
            (line,) = [text for text in output.splitlines() if text.startswith("RESULT ")]
            whole = round(time.time() - started, 3)
            results.append(json.loads(line[7:]) | {"end of the process": whole})
            print(results[-1], flush=True)
    content = {
        "command": "python train.py --dataset frey --noise gaussian",
        "cores": os.cpu_count(),
        "repeats": options.repeats,
        "seconds_after_start": {
            name: round(statistics.median(result[name] for result in results), 2)
            for name in results[0]
        },
    }
    (BENCHMARKS / "startup.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
