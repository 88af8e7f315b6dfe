"""What an evaluation computes: measures against NumPy, and a kind of data that is no image."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
import scipy.stats
from scipy.special import logsumexp

from dvae_tf import DVAE, corruptions, networks, randomness
from dvae_tf.data.splits import Dataset, Split
from dvae_tf.evaluation import (
    Settings,
    comparison,
    drawing,
    evaluate,
    features,
    probes,
    report,
    unfinished,
)
from dvae_tf.evaluation.batchwise import batchwise
from dvae_tf.evaluation.denoising import squared_error
from dvae_tf.evaluation.summary import Summary, as_json, summarize
from dvae_tf.evaluation.uncertainty import calibration
from dvae_tf.kinds import Kind
from dvae_tf.priors import StandardNormal


def test_summary_against_scipy(rng):
    values = rng.normal(3, 2, 50)
    summary = summarize(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.standard_error == pytest.approx(scipy.stats.sem(values))
    assert summary.count == 50
    assert summarize(np.array([2.0])) == Summary(2.0, None, 1)
    assert as_json(Summary(np.nan, None, 1)) == {"mean": None, "standard_error": None, "count": 1}


def test_active_units_and_kl(rng):
    means = rng.normal(0, [1.0, 0.2, 0.05], (500, 3))
    assert features.active_units(means).tolist() == [True, True, False]
    stddevs = rng.uniform(0.2, 1.5, (500, 3))
    expected = 0.5 * (means**2 + stddevs**2 - 1 - np.log(stddevs**2))
    np.testing.assert_allclose(StandardNormal((3,)).kl_per_unit(means, stddevs), expected.mean(0))


def test_probes_find_what_is_there_and_nothing_else(rng):
    labels = rng.integers(0, 3, 600)
    vectors = rng.normal(size=(600, 4)) + 4 * np.eye(3, 4)[labels]
    for fit in (probes.fit_linear_probe, probes.fit_nearest_neighbours):
        assert fit(vectors[:400], labels[:400]).score(vectors[400:], labels[400:]) > 0.9
        noise = rng.normal(size=(600, 4))
        assert fit(noise[:400], labels[:400]).score(noise[400:], labels[400:]) < 0.5


def test_calibration_of_a_calibrated_and_of_a_proud_prediction(rng):
    stddev = rng.uniform(0.05, 0.5, (40, 20, 20, 1))
    error = stddev * rng.normal(size=stddev.shape)
    bins = calibration(error, stddev, num_bins=8)
    assert bins.count.tolist() == [2000] * 8
    assert np.all(np.diff(bins.predicted) > 0)
    # A root mean square of 2,000 normal draws is measured to 1 / sqrt(4000).
    np.testing.assert_allclose(bins.actual, bins.predicted, rtol=5 / np.sqrt(4000))
    proud = calibration(error, stddev / 2, num_bins=8)
    np.testing.assert_allclose(proud.actual, 2 * proud.predicted, rtol=5 / np.sqrt(4000))


def test_nests_are_taken_in_batches_and_weigh_every_value_alike(rng):
    nest = {"a": rng.random((7, 2)), "b": rng.random((7, 3, 2))}
    sizes = []

    def double(x):
        sizes.append(len(x["a"]))
        return {key: 2 * value for key, value in x.items()}

    doubled = batchwise(double, nest, 3)
    assert sizes == [3, 3, 1]
    for key, value in nest.items():
        np.testing.assert_array_equal(doubled[key], 2 * value)
    squares = (nest["a"] ** 2).sum(axis=1) + (nest["b"] ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(squared_error(nest, doubled), squares / 8)


def test_settings_say_their_batch_size_where_it_is_not_the_usual_one():
    assert "batch_size" not in Settings().described()
    assert Settings(batch_size=7).described()["batch_size"] == 7
    levels = Settings().levels(corruptions.Gaussian((0.1, 0.3)))
    assert levels == (0, 0.15, 0.3, 0.6, 0.9, 1)
    assert Settings().levels(corruptions.Identity()) == (0, 0.05, 0.1, 0.2, 0.3, 0.5)
    with pytest.raises(ValueError, match=r"`batch_size` must be an integer of at least 1"):
        Settings(batch_size=0)


# ---- a kind of data that is no image ----


@keras.saving.register_keras_serializable(package="tests")
class Records(Kind):
    """Vectors of reals, [B, D]."""

    name = "records"
    noun = "record"


class Opaque(StandardNormal):
    """A prior that knows no KL in closed form."""

    def kl(self, q):
        return None

    def kl_per_unit(self, mean, stddev):
        return None


NUM_TEST, SIZE, SEED = 24, 6, 3
SETTINGS = Settings(
    num_importance_samples=2000,
    noise_levels=(0.0, 0.3),
    num_annealed=2,
    seed=SEED,
    batch_size=7,
)


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(1)
    plane = rng.normal(size=(2, SIZE))
    z = rng.normal(size=(300, 2))
    x = (z @ plane + 0.1 * rng.normal(size=(300, SIZE))).astype(np.float32)
    split = Split(x, (z[:, 0] > 0).astype(int), Records())
    parts = (slice(200), slice(200, 276), slice(276, 300))
    return Dataset("plane", *(split.take(part) for part in parts))


@pytest.fixture(scope="module")
def model(dataset):
    encoder, decoder = networks.mlp((SIZE,), 2, "gaussian", hidden=(16,))
    model = DVAE(encoder, decoder, corruption=corruptions.Gaussian(0.2), kind=Records())
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(dataset.train.examples, batch_size=50, epochs=20, verbose=0)
    return model


@pytest.fixture(scope="module")
def evaluation(model, dataset):
    return evaluate(model, dataset, SETTINGS)


def test_vectors_have_the_numbers_of_numpy(evaluation, model, dataset):
    measured, clean = evaluation.metrics, dataset.test.as_float()
    means = model.encoder(clean).mean().numpy()
    assert measured["features"]["active_units"] == sum(
        np.mean((unit - unit.mean()) ** 2) > 0.01 for unit in means.T
    )
    rows = measured["robustness"]
    assert [(r["noise"], r["level"]) for r in rows] == [
        (noise, level) for noise in ("gaussian", "masking") for level in (0.0, 0.3)
    ]
    for row in rows:
        corruption = corruptions.from_name(row["noise"], row["level"])
        seed = randomness.fold_in(randomness.as_seed(SEED), 0)
        denoised = model.predict(corruption(clean, seed=seed).numpy(), verbose=0)
        errors = ((denoised - clean) ** 2).sum(axis=1) / SIZE
        assert row["squared_error"]["mean"] == pytest.approx(errors.mean(), rel=1e-5)
        error = scipy.stats.sem(errors)
        assert row["squared_error"]["standard_error"] == pytest.approx(error, rel=1e-5)
        assert row["squared_error"]["count"] == NUM_TEST
    same = [r["squared_error"] for r in measured["denoising"] if r["method"] == "model_mean"]
    assert same == [row["squared_error"] for row in rows]


def test_vectors_have_log_p_as_an_integral_over_latents(evaluation, model, dataset):
    measured, clean = evaluation.metrics, dataset.test.as_float()
    axis, step = np.linspace(-6, 6, 241, retstep=True)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
    p = model.decoder(z)
    log_prior = scipy.stats.norm.logpdf(z).sum(axis=1) + 2 * np.log(step)
    exact = np.array([logsumexp(p.log_prob(x[None]).numpy() + log_prior) for x in clean])
    estimate = measured["log_likelihood"]
    error = estimate["monte_carlo_error"]
    assert 0 < error < 0.1
    assert estimate["mean"] == pytest.approx(exact.mean(), abs=4 * error)
    difference = measured["reconstruction"]["mean"] - measured["kl"]["mean"]
    assert measured["elbo"]["mean"] == pytest.approx(difference, rel=1e-5)
    annealed = measured["annealed"]
    assert annealed["log_likelihood"]["mean"] == pytest.approx(
        exact[[0, -1]].mean(), abs=5 * annealed["monte_carlo_error"]
    )


def test_vectors_have_nothing_that_images_have(evaluation):
    measured = evaluation.metrics
    assert "bits_per_dimension" not in measured
    keys = {"method", "noise", "level", "squared_error"}
    assert all(set(row) == keys for row in measured["denoising"])
    assert {row["method"] for row in measured["denoising"]} == {
        "noisy",
        "model_mean",
        "model_average",
    }
    drawn = drawing.draw(evaluation, Records())
    assert set(drawn) == {
        *("squared_error", "calibration", "latents", "kl"),
        *("bound", "error", "probe", "adversarial"),
    }
    config = {"noise": "gaussian", "noise_level": 0.2, "binarize": "none"}
    page = report.render(
        measured,
        dict.fromkeys(drawn, b""),
        Records(),
        failures={},
        title="plane",
        config=config,
        versions={},
    )
    text = re.sub(r"data:image/png|<style>.*</style>", "", page, flags=re.DOTALL)
    assert "24 test records" in text
    assert not re.search("image|pixel|PSNR|SSIM|classical", text)


def test_best_error_is_the_lowest(evaluation):
    table = report.denoising_table(evaluation.metrics, Records())
    assert len(table) == 2
    for row in table:
        errors = {name: cell["squared_error"]["mean"] for name, cell in row["cells"].items()}
        assert errors[row["best"]] == min(errors.values()) < max(errors.values())


def test_log_p_is_called_too_low_where_annealing_is_clearly_higher():
    for mean, error, expected in ((2.1, 1.0, True), (1.9, 1.0, False), (-9.0, 1.0, False)):
        difference = {"mean": mean, "standard_error": error}
        assert report._is_underestimated({"annealed": {"difference": difference}}) == expected
    assert not report._is_underestimated({})


def test_prior_without_closed_form(model, dataset):
    opaque = DVAE(model.encoder, model.decoder, prior=Opaque((2,)), kind=Records())
    settings = Settings(num_importance_samples=5, noise_levels=(0.1,), num_annealed=0)
    evaluation = evaluate(opaque, dataset, settings)
    assert "kl_per_unit" not in evaluation.metrics["features"]
    assert "kl" not in drawing.draw(evaluation, Records())
    variances = evaluation.arrays["latents"].var(axis=0)
    assert evaluation.arrays["traversal_units"].tolist() == np.argsort(-variances).tolist()


def test_only_runs_with_the_same_test_examples_are_compared(dataset):
    one, other = dataset.test, dataset.validation
    comparison.check({"a": one, "b": Split(one.examples.copy(), None, Records())})
    with pytest.raises(ValueError, match=r"same test records.* Received: a and c\."):
        comparison.check({"a": one, "b": one, "c": other.take(slice(NUM_TEST))})


# ---- what a stop, a failure or a single example leaves ----

PARTS = [
    "bounds",
    "log p(x), 2000 importance samples",
    "denoising",
    "robustness and uncertainty",
    "adversarial noise",
    "features",
]


@pytest.mark.slow
def test_a_stopped_evaluation_measures_only_the_rest(evaluation, model, dataset, tmp_path):
    measurements = unfinished.Measurements(tmp_path / "measured.npz", "some key")

    def stop_late(part):
        if part == "adversarial noise":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, dataset, SETTINGS, report=stop_late, unfinished=measurements)
    lines = []
    resumed = evaluate(model, dataset, SETTINGS, report=lines.append, unfinished=measurements)
    assert lines == [f"{part}: measured before the stop" for part in PARTS[:4]] + PARTS[4:]
    # The parts that were measured twice come from one compiled program: equal to the last bit.
    assert json.dumps(resumed.metrics) == json.dumps(evaluation.metrics)
    lines.clear()
    drawn = evaluate(model, dataset, SETTINGS, report=lines.append, unfinished=measurements)
    assert all(line.endswith("before the stop") for line in lines)
    assert json.dumps(drawn.metrics) == json.dumps(evaluation.metrics)
    assert drawn.arrays.keys() == evaluation.arrays.keys()
    for name, array in evaluation.arrays.items():
        np.testing.assert_array_equal(drawn.arrays[name], array)
    measurements.remove()
    assert list(tmp_path.iterdir()) == []


def test_parts_are_read_as_they_were_written(tmp_path, rng):
    path = tmp_path / "measured.npz"
    nest = {"a": rng.random((3, 2)), "b": (rng.random(3), [rng.integers(0, 9, 4)])}
    part = unfinished.Part({"kl": {"mean": 0.1, "standard_error": None}}, {"samples": nest})
    unfinished.Measurements(path, "one").save({"features": part})
    loaded = unfinished.Measurements(path, "one").load()["features"]
    assert loaded.metrics == part.metrics
    read = loaded.arrays["samples"]
    assert isinstance(read["b"], tuple)
    assert isinstance(read["b"][1], list)
    for ours, theirs in zip((read["a"], *read["b"]), (nest["a"], *nest["b"]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert unfinished.Measurements(path, "other").load() == {}
    path.write_bytes(path.read_bytes()[:-100])
    assert unfinished.Measurements(path, "one").load() == {}


def test_what_is_measured_has_a_key_of_its_own(dataset):
    def changed(split, where):
        examples = split.examples.copy()
        examples[where] += 1
        return dataclasses.replace(split, examples=examples)

    keys = [
        unfinished.key(model, data, settings)
        for model, data, settings in (
            (b"model", dataset, SETTINGS),
            (b"other", dataset, SETTINGS),
            (b"model", dataset, dataclasses.replace(SETTINGS, seed=4)),
            (b"model", dataset, dataclasses.replace(SETTINGS, batch_size=8)),
            (b"model", dataclasses.replace(dataset, test=changed(dataset.test, -1)), SETTINGS),
            (b"model", dataclasses.replace(dataset, train=changed(dataset.train, 0)), SETTINGS),
        )
    ]
    assert len(set(keys)) == len(keys)
    # What an evaluation does not read does not count.
    unread = dataclasses.replace(dataset, validation=changed(dataset.validation, 0))
    assert unfinished.key(b"model", unread, SETTINGS) == keys[0]


@keras.saving.register_keras_serializable(package="tests")
class Undrawable(Records):
    """Vectors, of which one figure cannot be drawn."""

    def evaluation_figures(self, arrays):
        def fail():
            raise FloatingPointError("no <b>ink</b>\nleft.")

        return {"broken": fail}


def test_a_figure_that_fails_is_a_line_of_the_report(evaluation, tmp_path):
    config = {"noise": "gaussian", "noise_level": 0.2, "binarize": "none"}
    failures = report.write(
        tmp_path, evaluation, Undrawable(), title="plane", config=config, versions={}
    )
    assert failures == {"broken": "no <b>ink</b> left"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The figure broken could not be drawn: no &lt;b&gt;ink&lt;/b&gt; left." in page
    written = {path.stem for path in tmp_path.glob("*.png")}
    assert written == set(drawing.draw(evaluation, Records()))
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == evaluation.metrics
