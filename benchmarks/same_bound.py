"""Has a change of the code changed what training reaches? MNIST's bound before and after.

    python benchmarks/same_bound.py --before COMMIT --data-dir TFDS_DIRECTORY

Both versions run `train.py --dataset mnist` for some epochs with several seeds; the earlier one runs
in a worktree. Means and standard errors go to benchmarks/same_bound.json.
"""

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent


def bound_after(root: Path, run_dir: Path, words: list[str]) -> float:
    """Train a version of the project in a new process; return its last validation bound."""
    command = [sys.executable, "train.py", "--run-dir", str(run_dir), *words]
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    with (run_dir / "history.csv").open(newline="", encoding="utf-8") as file:
        return float(list(csv.DictReader(file))[-1]["val_bound"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, help="commit to compare with")
    parser.add_argument("--data-dir", help="directory of TensorFlow Datasets")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    words = ["--dataset", "mnist", "--epochs", str(options.epochs)]
    if options.data_dir:
        words += ["--data-dir", str(Path(options.data_dir).resolve())]
    content: dict = {"command": f"python train.py {' '.join(words[:4])}", "before": options.before}
    with tempfile.TemporaryDirectory() as name:
        earlier = Path(name) / "earlier"
        worktree = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*worktree, "add", "--detach", str(earlier), options.before], check=True)
        try:
            for when, root in (("before", earlier), ("after", ROOT)):
                bounds = [
                    bound_after(root, Path(name) / f"{when}-{seed}", [*words, "--seed", str(seed)])
                    for seed in range(options.seeds)
                ]
                content[f"bound_{when}"] = {
                    "mean": round(statistics.fmean(bounds), 3),
                    "standard_error": round(statistics.stdev(bounds) / math.sqrt(len(bounds)), 3),
                    "values": [round(bound, 3) for bound in bounds],
                }
                print(when, content[f"bound_{when}"], flush=True)
        finally:
            subprocess.run([*worktree, "remove", "--force", str(earlier)], check=True)
    (BENCHMARKS / "same_bound.json").write_text(
        json.dumps(content, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
