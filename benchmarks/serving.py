"""Speed of an exported model: `denoise` through the C API, and requests to the web server.

    python benchmarks/serving.py

The network is that of `train.py --dataset mnist`, the mlp 784-200-200-50. `denoise` runs at batch 64
through TensorFlow's C API, the session that TensorFlow Serving uses. It takes turns with the same
matrix products alone in a TensorFlow function, in one process. Both are called from one thread, and
from one thread for each core. The ratio is the median over the turns. Then 1,000 requests of one image
go over 8 threads to `python -m dvae_tf.serve`. The result goes to benchmarks/serving.json.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from workloads import HIDDEN, LATENT_DIM

ROOT = Path(__file__).resolve().parents[1]
SIZE = 784


def matmuls():
    """Return a function of flat images: the matrix products of encoder and decoder alone."""
    import tensorflow as tf

    def weights(*sizes):
        return [tf.Variable(0.05 * tf.random.normal([a, b])) for a, b in itertools.pairwise(sizes)]

    encoder = weights(SIZE, *HIDDEN, 2 * LATENT_DIM)
    decoder = weights(LATENT_DIM, *reversed(HIDDEN), SIZE)

    @tf.function
    def run(h):
        for kernel in encoder:
            h = h @ kernel
        h = h[:, :LATENT_DIM]
        for kernel in decoder:
            h = h @ kernel
        return h

    return run


def throughput(version_dir: Path, batch: int, callers: int, repeats: int, calls: int) -> dict:
    """Return the images per second of both, called from several threads, and their ratio."""
    import numpy as np
    import tensorflow as tf
    from c_api import Session

    image = np.random.default_rng(0).random((batch, 28, 28, 1), np.float32)
    flat = tf.constant(image.reshape(batch, SIZE))
    session, products = Session(version_dir), matmuls()
    contenders = {
        "denoise": lambda: session.run("denoise", {"image": image}),
        "matmuls": lambda: products(flat).numpy(),
    }

    def seconds(call) -> float:
        def work():
            for _ in range(calls // callers):
                call()

        threads = [threading.Thread(target=work) for _ in range(callers)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, call in contenders.items():
            rate = batch * (calls // callers) * callers / seconds(call)
            if repeat:  # the first one warms up
                rates[name].append(rate)
    ratios = np.array(rates["denoise"]) / np.array(rates["matmuls"])
    return {
        "batch": batch,
        "callers": callers,
        "denoise_images_per_second": round(float(np.median(rates["denoise"]))),
        "matmul_images_per_second": round(float(np.median(rates["matmuls"]))),
        "ratio": round(float(np.median(ratios)), 2),
        "ratio_range": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)],
    }


@contextlib.contextmanager
def running_server(export_dir: Path) -> Iterator[tuple[str, int]]:
    """Serve an export in a process of its own; yield its address and process number."""
    command = [sys.executable, "-m", "dvae_tf.serve", str(export_dir), "--port", "0"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield re.search(r"http://([^ ]*:\d+)", process.stdout.readline())[1], process.pid
    finally:
        process.terminate()
        process.communicate()


def latency(export_dir: Path, requests: int, threads: int) -> dict:
    """Return quantiles of the latency of requests to the web server, in milliseconds."""
    import numpy as np

    with running_server(export_dir) as (address, _):
        image = np.random.default_rng(0).random((28, 28, 1)).round(3).tolist()
        body = json.dumps({"instances": [image]}).encode()

        local = threading.local()

        def once(_):
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection(address)
            start = time.perf_counter()
            local.connection.request("POST", "/v1/models/dvae:predict", body)
            response = local.connection.getresponse()
            content = response.read()
            milliseconds = 1e3 * (time.perf_counter() - start)
            if response.status != 200:
                raise RuntimeError(content)
            return milliseconds

        for index in range(20):
            once(index)
        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            times = list(pool.map(once, range(requests)))
        seconds = time.perf_counter() - start
    return {
        "requests": requests,
        "threads": threads,
        "errors": 0,  # one would have been raised
        "p50_ms": round(float(np.quantile(times, 0.5)), 1),
        "p99_ms": round(float(np.quantile(times, 0.99)), 1),
        "requests_per_second": round(requests / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "serving")]

    from dvae_tf import DVAE, corruptions, networks
    from dvae_tf.serving import export

    encoder, decoder = networks.mlp((28, 28, 1), LATENT_DIM, hidden=HIDDEN, activation="swish")
    model = DVAE(encoder, decoder, corruption=corruptions.SaltPepper(0.1))
    with tempfile.TemporaryDirectory() as directory:
        version = export.export(model, Path(directory), version=1)
        content = {
            "what": "export of the mlp 784-200-200-50, Bernoulli",
            "cores": os.cpu_count(),
            "c_api": [
                throughput(version, 64, callers, options.repeats, options.calls)
                for callers in (1, os.cpu_count() or 1)
            ],
            "http": latency(Path(directory), 1000, 8),
        }
    (ROOT / "benchmarks" / "serving.json").write_text(
        json.dumps(content, indent=2) + "\n", encoding="utf-8"
    )
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
