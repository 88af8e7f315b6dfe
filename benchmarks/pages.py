"""Write docs/speed.md and its figures from the JSON files of the benchmarks.

    python -m benchmarks.pages

It runs no benchmark.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments import markdown
from experiments.markdown import table

BENCHMARKS = Path(__file__).resolve().parent
DOCS = BENCHMARKS.parent / "docs"

LABELS = {
    "dvae_tf": "dvae_tf, model.fit",
    "jax_scan": "JAX, scan",
    "jax_step": "JAX, a jitted step",
    "pytorch_compiled": "torch.compile",
    "pytorch_eager": "PyTorch, eager",
    "pythae": "pythae's trainer",
    "tf_keras_tfp": "tf_keras, tfp.layers",
}
SIZES = {
    "batch_size": "batch size B",
    "latent_dim": "latent dimensions L",
    "num_corruptions": "corruptions M, mixture posterior",
    "num_samples": "samples K, iwae",
    "image_side": "side of the image, conv network",
    "num_images": "training images",
}


def read(name: str) -> dict:
    """Return the content of a benchmark's file."""
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def training_section(content: dict) -> list[str]:
    """Return the text on steps of training beside other loops."""
    rows: list[tuple] = [
        ("workload", "contender", "ms a step", "ratio", "range", "aim", "of the ceiling", "loss")
    ]
    for name, workload in content["workloads"].items():
        for contender, row in workload["contenders"].items():
            fraction, aim = row["fraction_of_matmul_ceiling"], row["required"]
            low, high = row["ratio_range"]
            rows.append(
                (
                    name,
                    LABELS[contender],
                    f"{row['ms_per_step']:.2f}",
                    f"{row['ratio']:.2f}",
                    f"{low:.2f} to {high:.2f}",
                    "" if aim is None else aim,
                    "" if fraction is None else f"{100 * fraction:.0f} %",
                    f"{row['loss']:.1f} ± {row['loss_standard_error']:.1f}",
                )
            )
    return [
        "## A step of training, beside other loops",
        "",
        "`python benchmarks/training.py` lets the contenders take turns, "
        f"{content['repeats']} runs each, on {content['cores']} cores without an accelerator. "
        "The table shows medians.",
        "",
        "- **Ratio**: images per second of `model.fit` over those of the contender, with the range over "
        "the runs. Above one, `model.fit` is faster. **Aim** is the ratio that we set out to reach.",
        "- **Of the ceiling**: the rate of the step's matrix products, relative to the rate of one "
        f"large product in the same run ({content['matmul_gflops']} GFLOP/s).",
        "- **Loss**: the mean of the last epoch, ± its standard error over runs with different seeds.",
        "",
        "All contenders train on MNIST with the mlp 784-200-200-50, or with a convolutional network if the "
        "workload says conv. They share salt-and-pepper noise of 10 %, dynamic binarisation, Adam and float32.",
        "",
        "![Milliseconds for each step of training, by workload and contender](images/speed.png)",
        "",
        *table(*rows),
        "pythae has neither noise nor dynamic binarisation, so it does less work than the others. "
        "[NOTES.md](../benchmarks/NOTES.md) says where the time goes and what we tried.",
        "",
    ]


def draw_training(content: dict) -> plt.Figure:
    """Draw the milliseconds of each contender, workload by workload."""
    names = list(content["workloads"])
    counts = [len(content["workloads"][name]["contenders"]) for name in names]
    figure, axes = plt.subplots(
        len(names), 1, figsize=(8, 0.42 * sum(counts) + 0.7 * len(names)),
        gridspec_kw={"height_ratios": counts}, layout="constrained",
    )  # fmt: skip
    for axis, name in zip(axes, names, strict=True):
        rows = content["workloads"][name]["contenders"]
        times = [row["ms_per_step"] for row in rows.values()]
        colours = ["tab:blue" if contender == "dvae_tf" else "0.7" for contender in rows]
        bars = axis.barh([LABELS[contender] for contender in rows], times, color=colours)
        axis.bar_label(bars, [f"{value:.2f}" for value in times], padding=3, fontsize=9)
        axis.set_title(name, loc="left", fontsize=10)
        axis.margins(x=0.12)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("ms for each step of training (less is better)")
    return figure


def startup_section(content: dict) -> list[str]:
    """Return the text on where one command spends its time."""
    rows: list[tuple] = [("done with", "seconds after start", "took")]
    before = 0.0
    for name, seconds in content["seconds_after_start"].items():
        rows.append((name, f"{seconds:.1f}", f"{seconds - before:.1f}"))
        before = seconds
    return [
        "## One command, from start to exported model",
        "",
        f"`python benchmarks/startup.py` runs `{content['command']}`, which trains for 400 epochs of "
        f"15 steps. The table shows medians of {content['repeats']} runs.",
        "",
        *table(*rows),
    ]


def likelihood_section(content: dict) -> list[str]:
    """Return the text on log p(x)."""
    rates = " and ".join(map(str, content["matmul_gflops_before_and_after"]))
    return [
        "## Importance-sampled log p(x)",
        "",
        f"`python benchmarks/likelihood.py` takes {content['samples']:,} samples of each of "
        f"{content['images']:,} images in {content['seconds']:.0f} s, or "
        f"{content['images_per_second']:.0f} images a second. This is "
        f"{content['times_the_arithmetic_floor']:.2f} times the time of the decoder's matrix products at "
        f"the rate of a large product in the same run ({rates} GFLOP/s before and after). It is "
        f"{content['times_pythae']:.1f} times as fast as pythae's `get_nll` on an equal network, and "
        f"adds {content['resident_gib_beyond_import']:.2f} GiB of memory.",
        "",
    ]


def growth_section(content: dict) -> list[str]:
    """Return the text on how time and memory grow."""
    samples = content["likelihood_mib_by_samples"]
    return [
        "## How cost grows",
        "",
        "`python benchmarks/growth.py` varies one size at a time. The dashed lines are proportional to the size, or "
        "to the number of pixels where the image grows. The mixture's density costs M² evaluations of a posterior, "
        "which shows at M=30. Large images of the convolutional network exceed the processor's caches.",
        "",
        "![Time against batch, latent, M, K, image and data set size](images/growth.png)",
        "",
        "Samples of log p(x) are taken in chunks: 300 images add "
        + ", ".join(f"{mib} MiB with {int(n):,} samples" for n, mib in samples.items())
        + ". Training holds all samples of a batch at once, and adds "
        + ", ".join(
            f"{row['mib']:,} MiB at batch {row['batch_size']}, K={row['num_samples']:,}"
            for row in content["training_mib"]
        )
        + ".",
        "",
    ]


def memory_section(content: dict, streaming: dict) -> list[str]:
    """Return the text on memory that stays flat."""
    quarters = {
        name: " to ".join(f"{values['median_mib_by_quarter'][i]:,.0f}" for i in (1, 3))
        for name, values in content.items()
    }
    large = streaming["folders"][0]
    last = large["mib"][len(large["mib"]) // 2 :]
    steps = large["step"][-1] - large["step"][len(large["mib"]) // 2]
    return [
        "## Memory over time",
        "",
        f"`python benchmarks/memory.py` runs {len(content['training']['mib'])} epochs of the default run, "
        "with everything that `train.py` does, and a server that gets one request after the other. From the "
        f"second quarter to the last, the median resident memory went from {quarters['training']} MiB in "
        f"training, and from {quarters['serving']} MiB in the server. It rises and falls with the memory that "
        "checkpoints hold for a while.",
        "",
        "![Resident memory over epochs and over requests](images/memory.png)",
        "",
        f"`python benchmarks/streaming.py` trains on a folder of {large['images']:,} images, which it reads "
        f"during training. Resident memory went from {last[0]:,.0f} to {last[-1]:,.0f} MiB over the last "
        f"{steps:,} steps of {streaming['batch_size']} images.",
        "",
    ]


def workers_section(content: dict) -> list[str]:
    """Return the text on several processes."""
    rows: list[tuple] = [
        ("network", "parameters", "workers", "ms a step", "MB a step, measured", "MB of a ring")
    ]
    for row in content["rows"]:
        is_plain = row["workers"] == 0
        rows.append(
            (
                row["network"],
                f"{row['parameters']:,}",
                "no strategy" if is_plain else row["workers"],
                f"{row['ms_per_step']:.2f}",
                "" if is_plain else f"{row['mb_per_step']:.2f}",
                "" if is_plain else f"{row['ring_mb_per_step']:.2f}",
            )
        )
    return [
        "## Several processes",
        "",
        f"`python benchmarks/workers.py` shares one global batch of {content['batch_size']} images among local "
        f"processes of MultiWorkerMirroredStrategy. All run on the same {content['cores']} cores, so the table "
        f"shows what sharing costs, and not a gain. It shows medians of {content['repeats']} runs. A ring "
        "all-reduce of P float32 numbers among W workers sends 2 (W - 1) 4 P bytes in all. Bytes are measured "
        "on the loopback interface.",
        "",
        *table(*rows),
        "[workers.md](workers.md) says what this means for several machines.",
        "",
    ]


def draw_growth(content: dict) -> plt.Figure:
    """Draw time against each size, on logarithmic axes."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), layout="constrained")
    for axis, (name, label) in zip(axes.flat, SIZES.items(), strict=True):
        sizes = np.array([int(size) for size in content["milliseconds"][name]])
        times = np.array(list(content["milliseconds"][name].values()))
        work = sizes.astype(float) ** (2 if name == "image_side" else 1)
        axis.loglog(sizes, times[-1] * work / work[-1], "--", color="0.7")
        axis.loglog(sizes, times, "o-", color="tab:blue")
        for size, time in zip(sizes, times, strict=True):
            axis.annotate(
                f"{time:,.0f}" if time >= 100 else f"{time:.3g}",
                (size, time), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8,
            )  # fmt: skip
        axis.set_xlabel(label)
        axis.set_ylabel("ms an epoch" if name == "num_images" else "ms a step")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.margins(0.12, 0.18)
        axis.set_ylim(times.min() / 1.8, times.max() * 2.2)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def draw_memory(content: dict) -> plt.Figure:
    """Draw resident memory over epochs, and over requests."""
    figure, panels = plt.subplots(1, 2, figsize=(8.5, 2.8), layout="constrained")
    for axis, (name, label) in zip(
        panels, (("training", "epoch"), ("serving", "request")), strict=True
    ):
        mib, each = content[name]["mib"], content[name][f"{label}s_apart"]
        axis.plot(each * np.arange(1, len(mib) + 1), mib, color="tab:blue")
        axis.set_xlabel(label)
        axis.set_ylabel("resident memory, MiB")
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_ylim(0, 1.15 * max(mib))
        axis.set_xlim(0, each * len(mib))
        axis.locator_params(axis="x", nbins=5)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def render() -> str:
    """Return the text of docs/speed.md."""
    lines = [
        "# Speed",
        "",
        "`python -m benchmarks.pages` makes this page from the JSON files of `benchmarks/`.",
        "",
        *training_section(read("training")),
        *startup_section(read("startup")),
        *likelihood_section(read("likelihood")),
        *growth_section(read("growth")),
        *memory_section(read("memory"), read("streaming")),
        *workers_section(read("workers")),
    ]
    return markdown.page(lines)


def main() -> None:
    training, growth = read("training"), read("growth")
    (DOCS / "speed.md").write_text(render(), encoding="utf-8")
    for name, figure in (
        ("speed", draw_training(training)),
        ("growth", draw_growth(growth)),
        ("memory", draw_memory(read("memory"))),
    ):
        figure.savefig(DOCS / "images" / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main()
