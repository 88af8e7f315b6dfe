"""Speed of `model.fit` beside the loops that people would write instead, all in one run.

    pip install -r requirements.txt -r benchmarks/requirements.txt
    python benchmarks/training.py --data-dir TFDS_DIRECTORY --pythae-python PATH

All contenders train the same network on the same images with the same noise, bound, optimiser and
precision (see `workloads`). They take turns, several times, each in a process of its own. Medians,
ratios and ranges go to benchmarks/training.json; `pages.py` draws them. The run fails if contenders
differ in the number of parameters, or in loss by more than their noise.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
sys.path[:0] = [str(BENCHMARKS), str(ROOT)]

from likelihood import matmul_rate
from workloads import HIDDEN, LATENT_DIM, WORKLOADS, Workload

# name -> (module of contenders, variant)
CONTENDERS = {
    "dvae_tf": ("ours", ""),
    "jax_scan": ("jax_loop", "scan"),
    "jax_step": ("jax_loop", "step"),
    "pytorch_compiled": ("pytorch", "compiled"),
    "pytorch_eager": ("pytorch", "eager"),
    "pythae": ("pythae_trainer", ""),
    "tf_keras_tfp": ("tf_keras_tfp", ""),
}
# Initial weights and noise differ between contenders and repeats: losses, means over the last epoch,
# agree if they do within so many standard errors of that, or to a hundredth.
LOSS_ERRORS, LOSS_TOLERANCE = 4, 0.01


def flop_per_step(workload: Workload) -> float | None:
    """Return the FLOP of the matrix products, forward and backward; None for convolutions."""
    if workload.network != "mlp":
        return None
    a, b = HIDDEN
    encoder = 784 * a + a * b + b * 2 * LATENT_DIM
    decoder = LATENT_DIM * b + b * a + a * 784
    m, k = workload.num_corruptions, workload.num_samples
    return 6.0 * workload.batch_size * m * (encoder + k * decoder)


def run_contender(name: str, workload_name: str, images: Path, epochs: int, seed: int) -> None:
    """Run one contender in this process, and print its measurements."""
    import importlib

    module, variant = CONTENDERS[name]
    contender = importlib.import_module(f"contenders.{module}")
    result = contender.run(variant, WORKLOADS[workload_name], np.load(images), epochs, seed)
    print("RESULT " + json.dumps(result), flush=True)


def standard_error(values: list[float]) -> float:
    """Return the standard error of a mean; it is infinite for a single value."""
    if len(values) < 2:
        return math.inf
    return statistics.stdev(values) / math.sqrt(len(values))


def summarize(name: str, results: list[dict], ceiling: float) -> dict:
    """Return medians, ratios and the checks of one workload's results."""
    workload = WORKLOADS[name]
    images = workload.steps * workload.batch_size
    rates = {
        contender: [
            images / statistics.median(r["seconds"]) for r in results if r["contender"] == contender
        ]
        for contender in workload.contenders
        if any(r["contender"] == contender for r in results)
    }
    ours = rates["dvae_tf"]
    summary: dict = {"contenders": {}}
    for contender, values in rates.items():
        mine = [r for r in results if r["contender"] == contender]
        ratios = [a / b for a, b in zip(ours, values, strict=True)]
        flop = flop_per_step(workload)
        milliseconds = 1e3 * workload.batch_size / statistics.median(values)
        summary["contenders"][contender] = {
            "images_per_second": round(statistics.median(values)),
            "ms_per_step": round(milliseconds, 3),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
            "required": dict(workload.required).get(contender),
            "fraction_of_matmul_ceiling": None
            if flop is None
            else round(flop / (1e-3 * milliseconds) / ceiling, 3),
            "parameters": mine[0]["parameters"],
            "loss": round(statistics.fmean(r["loss"] for r in mine), 2),
            "loss_standard_error": round(standard_error([r["loss"] for r in mine]), 3),
        }
    return summary


def check_same_work(summary: dict) -> list[str]:
    """Return, in words, where contenders did other work than this project."""
    problems = []
    for name, workload in summary.items():
        contenders = workload["contenders"]
        ours = contenders["dvae_tf"]
        for contender, theirs in contenders.items():
            if theirs["parameters"] != ours["parameters"]:
                problems.append(f"{name}: {contender} has {theirs['parameters']} parameters")
            # pythae has no noise to remove, so that its loss is another one.
            if contender != "pythae":
                error = math.hypot(ours["loss_standard_error"], theirs["loss_standard_error"])
                limit = max(LOSS_ERRORS * error, LOSS_TOLERANCE * ours["loss"])
                if not abs(theirs["loss"] - ours["loss"]) <= limit:
                    problems.append(f"{name}: {contender} has a loss of {theirs['loss']}")
    return problems


def main() -> int:
    """Run the benchmark; return 1 if contenders did different work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="directory of TensorFlow Datasets")
    parser.add_argument("--pythae-python", help="Python of an environment with pythae")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs of each run")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--draft", action="store_true", help="print the results, write no files")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, workload, path = options.run
        run_contender(name, workload, Path(path), options.epochs, options.seed)
        return 0

    from dvae_tf import datasets

    path = BENCHMARKS / ".images.npy"
    np.save(path, datasets.load("mnist", data_dir=options.data_dir).train.images)
    results: dict[str, list[dict]] = {name: [] for name in options.workloads}
    ceilings = []
    try:
        for repeat in range(options.repeats):
            for name in options.workloads:
                for contender in WORKLOADS[name].contenders:
                    if contender not in options.contenders:
                        continue
                    python = sys.executable
                    if contender == "pythae":
                        if not options.pythae_python:
                            continue
                        python = options.pythae_python
                    ceilings.append(matmul_rate())
                    words = [python, __file__, "--run", contender, name, str(path)]
                    words += ["--epochs", str(options.epochs), "--seed", str(repeat)]
                    done = subprocess.run(words, capture_output=True, text=True)
                    if done.returncode:
                        print(done.stderr[-2000:], file=sys.stderr)
                        return 1
                    (line,) = [s for s in done.stdout.splitlines() if s.startswith("RESULT ")]
                    result = {"contender": contender} | json.loads(line[7:])
                    results[name].append(result)
                    step = 1e3 * statistics.median(result["seconds"]) / WORKLOADS[name].steps
                    print(f"{name}, {contender}: {step:.3f} ms, {result['loss']:.2f}", flush=True)
    finally:
        path.unlink()
    ceiling = statistics.median(ceilings)
    content = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "repeats": options.repeats,
        "matmul_gflops": round(ceiling / 1e9),
        "workloads": {name: summarize(name, rows, ceiling) for name, rows in results.items()},
    }
    print(json.dumps(content, indent=2))
    problems = check_same_work(content["workloads"])
    print("\n".join(problems), file=sys.stderr)
    if not options.draft:
        (BENCHMARKS / "training.json").write_text(
            json.dumps(content, indent=2) + "\n", encoding="utf-8"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
