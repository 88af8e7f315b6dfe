"""Every number of evaluation/metrics.json, computed a second time.

Once more from the trained model, with NumPy, scikit-learn and scikit-image, and from the public
names of dvae_tf alone. Nothing of its evaluation is used but the seeds that it draws with:
fold_in(seed, 0) for the noise on all images at once, fold_in(seed, first image) for the bound of a
batch, seed + 1 for the attack, (seed, 3) for the pixels of probed images. Batches are of seven
images, of which the last is not full. One run is of grey images; the other of binarised ones,
under a bound that is not the ELBO.
"""

import functools
import json
import math

import keras
import numpy as np
import pytest
import skimage.metrics
import tensorflow as tf
from matplotlib.figure import Figure
from scipy.special import logsumexp
from skimage import filters, morphology, restoration
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import evaluate
import train
from dvae_tf import corruptions, randomness

BATCH = 7
SEED = 3
NUM_TRAIN, NUM_TEST, NUM_SAMPLES, NUM_ANNEALED = 300, 24, 10, 3
LEVELS = (0.0, 0.4)
NOISES = ("gaussian", "salt_pepper", "masking", "speckle", "poisson", "block")
LATENT_DIM = 2  # so that log p(x) is an integral over a plane
TRAIN = (
    f"--limit {NUM_TRAIN} --epochs 2 --batch-size 10 --learning-rate 0.01 --hidden 16 "
    f"--latent-dim {LATENT_DIM} --seed 5"
)
RUNS = {
    "grey": "",
    "binarised": "--likelihood bernoulli --objective iwae --num-samples 2 --num-corruptions 3",
}
# float32 sums of other orders; the chains of annealing and of the attack magnify it.
RELATIVE, ABSOLUTE = 2e-5, 2e-5


def set_batch_size(monkeypatch) -> None:
    """Have the evaluation take batches of `BATCH` images."""
    settings = functools.partial(evaluate.Settings, batch_size=BATCH)
    monkeypatch.setattr(evaluate, "Settings", settings)


def draw_nothing(monkeypatch) -> None:
    """Leave figures empty: drawing them takes a quarter of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **kwargs: file.write(b"empty"))


@pytest.fixture(scope="module", params=["grey", pytest.param("binarised", marks=pytest.mark.slow)])
def run(request, tmp_path_factory):
    """The name of a run, its model and the content of its metrics.json."""
    run_dir = tmp_path_factory.mktemp("runs") / request.param
    annealed = NUM_ANNEALED if request.param == "grey" else 0
    words = f"--num-importance-samples {NUM_SAMPLES} --limit {NUM_TEST} --seed {SEED}".split()
    words += ["--num-annealed", str(annealed), "--noise-levels", *map(str, LEVELS)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        draw_nothing(monkeypatch)
        set_batch_size(monkeypatch)
        flags = [*TRAIN.split(), *RUNS[request.param].split()]
        assert train.main([*flags, "--run-dir", str(run_dir)]) == 0
        assert evaluate.main([str(run_dir), *words]) == 0
    model = keras.models.load_model(run_dir / "model.keras")
    return (
        request.param,
        model,
        json.loads((run_dir / "evaluation/metrics.json").read_text(encoding="utf-8")),
    )


@pytest.fixture(scope="module")
def expected(run):
    return Expected(run[1], is_binary=run[0] == "binarised")


class Expected:
    """The numbers that a model's evaluation must find, by the documented definitions.

    Args:
        model: the trained model.
        is_binary: whether its images are binarised.
    """

    def __init__(self, model, *, is_binary: bool):
        self.model = model
        images, labels, train, test = _split_digits()
        self.clean = images[test][:NUM_TEST]
        self.labels = labels[test][:NUM_TEST]
        fitted = images[train][:NUM_TRAIN]
        if is_binary:
            # The test images are drawn with seeds (0, 2), over all of the split; probes see draws
            # of the training images with seeds (seed, 3).
            shape = (len(test), *images.shape[1:])
            draws = np.random.default_rng([0, 2]).random(shape, np.float32)[:NUM_TEST]
            self.clean = (self.clean > draws).astype(np.float32)
            draws = np.random.default_rng([SEED, 3]).random(fitted.shape, np.float32)
            fitted = (fitted > draws).astype(np.float32)
        self.noisy = self.corrupt(model.corruption)
        features, fitted_labels = self.posterior(fitted)[0], labels[train][:NUM_TRAIN]
        self.probes = {
            "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            "nearest_neighbours": KNeighborsClassifier(5),
        }
        for probe in self.probes.values():
            probe.fit(features, fitted_labels)

    def corrupt(self, corruption) -> np.ndarray:
        """Return all clean images under a noise, which is drawn for all of them at once."""
        return corruption(self.clean, seed=_seed(SEED, 0)).numpy()

    def posterior(self, images) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of q(z|x): [N, L] each."""
        q = self.model.encoder(tf.constant(images))
        return q.mean().numpy(), q.stddev().numpy()

    def denoised(self, images) -> np.ndarray:
        return self.model.predict(images, verbose=0)

    def averaged(self, images) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation by 16 posterior samples, whose seed all batches share."""
        parts = [
            self.model.denoise(images[i : i + BATCH], num_samples=16, seed=SEED)
            for i in range(0, len(images), BATCH)
        ]
        return np.concatenate([p.mean for p in parts]), np.concatenate([p.stddev for p in parts])

    def bound_terms(self, corruption) -> dict[str, np.ndarray]:
        """Return bound, elbo, reconstruction and kl: [N] each."""
        model, terms = self.model, []
        m, k = model.num_corruptions, model.num_samples
        for start in range(0, NUM_TEST, BATCH):
            x = self.clean[start : start + BATCH]
            size = len(x)
            corruption_seed, latent_seed = randomness.split(_seed(SEED, start))
            noisy = corruption(np.tile(x, (m, 1, 1, 1)), seed=corruption_seed).numpy()
            means, stddevs = self.posterior(noisy)  # [M B, L]
            eps = randomness.normal([k, m * size, LATENT_DIM], latent_seed).numpy()
            z = means + stddevs * eps  # [K, M B, L]
            log_likelihood = self.log_likelihood(np.tile(x, (m, 1, 1, 1)), z)
            kl = (0.5 * (means**2 + stddevs**2 - 1) - np.log(stddevs)).sum(axis=-1)
            log_w = log_likelihood + _log_normal(z) - _log_normal(z, means, stddevs)
            log_w, log_likelihood = (v.reshape(k * m, size) for v in (log_w, log_likelihood))
            reconstruction, kl = log_likelihood.mean(axis=0), kl.reshape(m, size).mean(axis=0)
            elbo = reconstruction - kl
            bound = logsumexp(log_w, axis=0) - math.log(k * m)
            terms.append((bound if model.objective == "iwae" else elbo, elbo, reconstruction, kl))
        return dict(zip(("bound", "elbo", "reconstruction", "kl"), np.hstack(terms), strict=True))

    def log_likelihood(self, x, z) -> np.ndarray:
        """Return log p(x|z) in nats: [B, H, W, C], [K, B, L] -> [K, B]."""
        p = self.model.decoder(tf.constant(z.reshape(-1, LATENT_DIM), tf.float32))
        values = p.log_prob(np.tile(x, (len(z), 1, 1, 1))).numpy()
        return values.reshape(z.shape[:2]).astype(np.float64)

    def importance_weights(self) -> np.ndarray:
        """Return log p(x, z) - log q(z|x) of the samples that the estimate takes: [S, N]."""
        _, seed = randomness.split(_seed(SEED, 0))
        seed, _ = randomness.split(randomness.fold_in(seed, 0))
        means, stddevs = self.posterior(self.clean)
        eps = randomness.normal([NUM_SAMPLES, NUM_TEST, LATENT_DIM], seed).numpy()
        z = means + stddevs * eps
        return self.log_likelihood(self.clean, z) + _log_normal(z) - _log_normal(z, means, stddevs)

    def integrated(self, images) -> np.ndarray:
        """Return log p(x) as an integral over a grid of latents: [N]."""
        axis, step = np.linspace(-5, 5, 201, retstep=True)
        z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, LATENT_DIM)
        p = self.model.decoder(tf.constant(z[:, 0], tf.float32))
        log_prior = _log_normal(z)[:, 0] + math.log(step**2)
        return np.array([logsumexp(p.log_prob(x[np.newaxis]).numpy() + log_prior) for x in images])

    def correct(self, probe: str, images) -> np.ndarray:
        return self.probes[probe].predict(self.posterior(images)[0]) == self.labels

    def attack(self, norms) -> np.ndarray:
        """Return images under 20 steps of gradient ascent from `random_noise`, on balls of L2."""
        x, size = tf.constant(self.clean), norms.reshape(-1, 1, 1, 1).astype(np.float32)
        delta = self.random_noise(norms)
        for _ in range(20):
            variable = tf.Variable(delta)
            with tf.GradientTape() as tape:
                error = tf.reduce_sum((self.model(x + variable) - x) ** 2)
            gradient = tape.gradient(error, variable).numpy()
            delta = delta + size / 2 * gradient / _l2(gradient)
            delta = delta * np.minimum(1, size / _l2(delta))
        return self.clean + delta

    def random_noise(self, norms) -> np.ndarray:
        noise = randomness.normal(self.clean.shape, randomness.as_seed(SEED + 1)).numpy()
        return norms.reshape(-1, 1, 1, 1).astype(np.float32) * noise / _l2(noise)


def _split_digits():
    """Return images, labels and the places of training and test images.

    A tenth is held out for validation and as much for test, in the order of a permutation.
    """
    digits = load_digits()
    images = (digits.images[..., np.newaxis] / 16).astype(np.float32)
    size = len(images) // 10
    order = np.random.default_rng(0).permutation(len(images))
    test = np.sort(order[size : 2 * size])
    return images, digits.target, np.sort(order[2 * size :]), test


def _seed(*numbers: int) -> tf.Tensor:
    return randomness.fold_in(randomness.as_seed(numbers[0]), *numbers[1:])


def _l2(x) -> np.ndarray:
    return np.sqrt((x**2).sum(axis=(1, 2, 3), keepdims=True))


def _log_normal(z, mean=0.0, stddev=1.0) -> np.ndarray:
    """Return log N(z; mean, stddev^2), summed over the last axis."""
    each = -0.5 * ((z - mean) / stddev) ** 2 - np.log(stddev) - 0.5 * math.log(2 * math.pi)
    return np.asarray(each, np.float64).sum(axis=-1)


def number(values) -> dict[str, float | int]:
    """Return the measured number of one value an image."""
    values = np.asarray(values, np.float64)
    error = math.sqrt(values.var(ddof=1) / len(values))
    return {"mean": values.mean(), "standard_error": error, "count": len(values)}


def check(measured, wanted, *, relative=RELATIVE, absolute=ABSOLUTE, place="") -> None:
    """Compare JSON values: the same keys, lengths and texts, and numbers within the tolerance."""
    if isinstance(wanted, dict):
        assert measured.keys() == wanted.keys(), place
        for key, value in wanted.items():
            check(
                measured[key], value, relative=relative, absolute=absolute, place=f"{place}.{key}"
            )
    elif isinstance(wanted, list):
        assert len(measured) == len(wanted), place
        for index, (a, b) in enumerate(zip(measured, wanted, strict=True)):
            check(a, b, relative=relative, absolute=absolute, place=f"{place}[{index}]")
    elif isinstance(wanted, str | int):
        assert measured == wanted, place
    else:
        assert measured == pytest.approx(wanted, rel=relative, abs=absolute), place


def test_there_are_no_other_numbers(run):
    name, _, measured = run
    keys = "format seed num_test_images elbo reconstruction kl log_likelihood nll denoising "
    keys += "corrupted_bound corrupted_elbo corrupted_reconstruction corrupted_kl robustness "
    keys += "uncertainty adversarial features bits_per_dimension"
    assert set(measured) == {*keys.split(), *(["annealed"] if name == "grey" else [])}
    assert (measured["format"], measured["seed"], measured["num_test_images"]) == (
        1,
        SEED,
        NUM_TEST,
    )


def test_bounds(run, expected):
    _, model, measured = run
    clean = expected.bound_terms(corruptions.Identity())
    corrupted = expected.bound_terms(model.corruption)
    wanted = {key: number(clean[key]) for key in ("elbo", "reconstruction", "kl")}
    wanted |= {f"corrupted_{key}": number(values) for key, values in corrupted.items()}
    check({key: measured[key] for key in wanted}, wanted)


def test_log_likelihood(run, expected):
    _, _, measured = run
    log_w = expected.importance_weights()
    values = logsumexp(log_w, axis=0) - math.log(NUM_SAMPLES)
    weights = np.exp(log_w - log_w.max(axis=0))
    # By the delta method: the standard error of the mean weight over that mean.
    errors = weights.std(axis=0, ddof=1) / math.sqrt(NUM_SAMPLES) / weights.mean(axis=0)
    extra = {
        "num_samples": NUM_SAMPLES,
        "monte_carlo_error": float(np.sqrt((errors**2).sum()) / NUM_TEST),
    }
    check(measured["log_likelihood"], number(values) | extra)
    check(measured["nll"], number(-values) | extra)
    check(measured["bits_per_dimension"], number(-values / math.log(2) / 64))


def test_annealed(run, expected):
    name, _, measured = run
    if name != "grey":
        assert "annealed" not in measured
        return
    annealed = measured["annealed"]
    places = [0, 12, 23]  # evenly spaced, 11.5 rounded to even
    log_w = expected.importance_weights()[:, places]
    sampled = logsumexp(log_w, axis=0) - math.log(NUM_SAMPLES)
    check(annealed["importance_sampling_on_the_same_images"], number(sampled))
    exact = number(expected.integrated(expected.clean[places]))
    log_p, error = annealed["log_likelihood"], annealed["monte_carlo_error"]
    assert 0 < error < 0.1
    assert log_p["mean"] == pytest.approx(exact["mean"], abs=4 * error)
    assert log_p["standard_error"] == pytest.approx(exact["standard_error"], abs=4 * error)
    difference = annealed["difference"]
    assert difference["mean"] == pytest.approx(log_p["mean"] - sampled.mean(), abs=1e-4)
    spread = number(expected.integrated(expected.clean[places]) - sampled)["standard_error"]
    assert difference["standard_error"] == pytest.approx(spread, abs=4 * error)
    assert {log_p["count"], difference["count"]} == {NUM_ANNEALED}
    assert annealed["num_chains"] == 16
    assert len(annealed) == 5


def test_features(run, expected):
    _, _, measured = run
    means, stddevs = expected.posterior(expected.clean)
    kl = (0.5 * (means**2 + stddevs**2 - 1) - np.log(stddevs)).mean(axis=0)
    inputs = {"clean": expected.clean, "corrupted": expected.noisy}
    wanted = {
        "latent_dim": LATENT_DIM,
        "active_units": int((means.var(axis=0) > 0.01).sum()),
        "kl_per_unit": kl.tolist(),
        "probes": [
            {"classifier": c, "input": i, "accuracy": number(expected.correct(c, x))}
            for i, x in inputs.items()
            for c in expected.probes
        ],
    }
    check(measured["features"], wanted)


def _psnr(clean, other) -> list[float]:
    """Return the PSNR of each image, that of rounding to 8 bits at most."""
    squares = ((np.clip(other, 0, 1).astype(np.float64) - clean) ** 2).mean(axis=(1, 2, 3))
    return [10 * math.log10(1 / max(square, 1 / (12 * 255**2))) for square in squares]


def _ssim(clean, other) -> list[float]:
    return [
        skimage.metrics.structural_similarity(a, b, data_range=1.0, win_size=7)
        for a, b in zip(clean[..., 0], np.clip(other, 0, 1)[..., 0], strict=True)
    ]


def _classical(noisy: np.ndarray, sigma: float) -> dict[str, np.ndarray]:
    """Return the images [N, H, W, 1] that the classical methods make, told the noise's strength."""
    images = noisy[..., 0].astype(np.float64)
    square = morphology.footprint_rectangle((3, 3))
    methods = {"median": lambda x: filters.median(x, square)}
    methods |= {
        "total_variation": lambda x: restoration.denoise_tv_chambolle(x, weight=sigma),
        "non_local_means": lambda x: restoration.denoise_nl_means(
            x, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma
        ),
        "wavelet": lambda x: restoration.denoise_wavelet(x, sigma=sigma),
    }
    if sigma == 0:  # there is nothing to take away
        methods |= dict.fromkeys(list(methods)[1:], lambda x: x)
    return {
        name: np.stack([method(image) for image in images])[..., np.newaxis]
        for name, method in methods.items()
    }


# Said by PyWavelets of images as small as these.
@pytest.mark.filterwarnings("ignore:Level value of:UserWarning")
def test_denoising(run, expected):
    _, _, measured = run
    wanted = []
    for noise in NOISES:
        for level in LEVELS:
            noisy = expected.corrupt(corruptions.from_name(noise, level))
            squares = (noisy.astype(np.float64) - expected.clean) ** 2
            estimates = {
                "noisy": noisy,
                "model_mean": expected.denoised(noisy),
                "model_average": expected.averaged(noisy)[0],
                **_classical(noisy, math.sqrt(squares.mean())),
            }
            for method, estimate in estimates.items():
                row = {"method": method, "noise": noise, "level": level}
                row |= {"psnr": number(_psnr(expected.clean, estimate))}
                wanted.append(row | {"ssim": number(_ssim(expected.clean, estimate))})
    check(measured["denoising"], wanted)


def test_robustness(run, expected):
    _, _, measured = run
    wanted = []
    for noise in NOISES:
        for level in LEVELS:
            corruption = corruptions.from_name(noise, level)
            noisy = expected.corrupt(corruption)
            error = ((expected.denoised(noisy) - expected.clean) ** 2).mean(axis=(1, 2, 3))
            wanted.append(
                {
                    "noise": noise,
                    "level": level,
                    "bound": number(expected.bound_terms(corruption)["bound"]),
                    "squared_error": number(error),
                    "probe_accuracy": number(expected.correct("linear", noisy)),
                }
            )
    check(measured["robustness"], wanted)


def test_uncertainty(run, expected):
    _, _, measured = run
    mean, stddev = expected.averaged(expected.noisy)
    pairs = sorted(
        zip(stddev.ravel().tolist(), (mean - expected.clean).ravel().tolist(), strict=True),
        key=lambda pair: pair[0],
    )
    # Twelve bins; the first ones hold one pixel more where there is a remainder.
    bins = np.array_split(np.array(pairs), 12)
    wanted = {
        "predicted": [float(np.sqrt((b[:, 0] ** 2).mean())) for b in bins],
        "actual": [float(np.sqrt((b[:, 1] ** 2).mean())) for b in bins],
        "count": [float(len(b)) for b in bins],
    }
    # Rounding may bring pixels of nearly equal deviation into the next bin.
    check(measured["uncertainty"], wanted, relative=1e-3)


def test_adversarial(run, expected):
    _, _, measured = run
    norms = _l2(expected.noisy - expected.clean).ravel()
    wanted = []
    for size in (0.5, 1.0, 2.0):
        row = {"size": size, "l2_norm": number(size * norms)}
        inputs = {
            "random": expected.clean + expected.random_noise(size * norms),
            "attack": expected.attack(size * norms),
        }
        for name, x in inputs.items():
            error = ((expected.denoised(x) - expected.clean) ** 2).mean(axis=(1, 2, 3))
            row[name] = number(error)
        wanted.append(row)
    check(measured["adversarial"], wanted, relative=1e-3)
