"""Signatures of models that are no image models, or whose posterior or prior is not normal.

Those of image models are in test_export.py.
"""

import json

import check
import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from dvae_tf import DVAE, export, latents, layers, networks
from dvae_tf.kinds import Kind
from dvae_tf.layers.layer import ProbabilisticLayer
from dvae_tf.priors import Prior
from dvae_tf.serving import purity

register = keras.saving.register_keras_serializable(package="test_signatures")
LATENTS = 3


class Vectors(Kind):
    """Vectors of reals, [B, D]: written here alone."""

    name = "vectors"
    noun = "vector"
    field = "vector"


@register
class ShiftedPrior(Prior):
    """p(z) = N(1, 4 I), which has no closed form with anything."""

    def log_prob(self, z):
        return tf.reduce_sum(tfd.Normal(1.0, 2.0).log_prob(z), axis=-1)

    def sample(self, num_samples, *, seed):
        shape = [num_samples, *self.event_shape]
        return 1.0 + 2.0 * tf.random.stateless_normal(shape, seed)


@register
def student_t(parameters):
    loc, raw = tf.split(parameters, 2, axis=-1)
    return tfd.Independent(tfd.StudentT(5.0, loc, tf.nn.softplus(raw)), 1)


@register
def softplus_of_normal(parameters):
    """softplus(u), u normal: TFP does not know its mean."""
    loc, raw = tf.split(parameters, 2, axis=-1)
    normal = tfd.Independent(tfd.Normal(loc, tf.nn.softplus(raw)), 1)
    return tfd.TransformedDistribution(normal, tfb.Softplus())


POSTERIORS = {"student_t": student_t, "softplus": softplus_of_normal}


def encoder_of(posterior, values: int = 5) -> keras.Model:
    """Return an encoder of vectors that ends in a distribution from two parameters a latent."""
    x = keras.Input((values,), name="x")
    parameters = keras.layers.Dense(2 * LATENTS, name="parameters")(x)
    return keras.Model(x, layers.DistributionLayer(posterior)(parameters))


def parameters_of(encoder: keras.Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return location and scale that an encoder of `encoder_of` gives, by NumPy."""
    kernel, bias = encoder.get_layer("parameters").get_weights()
    loc, raw = np.split(x.astype(np.float64) @ kernel + bias, 2, axis=1)
    return loc, np.logaddexp(0, raw)


def vector_model(encoder: keras.Model | None = None, **kwargs) -> DVAE:
    keras.utils.set_random_seed(3)
    made, decoder = networks.mlp((5,), LATENTS, "gaussian", hidden=(8,))
    return DVAE(made if encoder is None else encoder, decoder, kind=Vectors(), **kwargs)


def load(model: DVAE, path):
    """Export a model; return its directory and its signatures, whose golden outputs are checked."""
    version = export.export(model, path, version=1)
    assert not any(purity.impurities((version / "saved_model.pb").read_bytes()).values())
    loaded = tf.saved_model.load(str(version))
    functions = {name: loaded.signatures[name] for name in loaded.signatures}

    def run(signature, inputs):
        answer = functions[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        return {k: v.numpy() for k, v in answer.items()}

    assert check.differences(version, run) == []
    assert len(list(check.warmup_requests(version))) == 3 * len(functions)
    run.loaded = loaded  # its variables live as long as it does
    return version, run


@pytest.fixture
def x(rng):
    return rng.normal(size=(4, 5)).astype(np.float32)


@pytest.fixture
def seed(rng):
    return rng.integers(0, 2**31, (4, 2)).astype(np.int32)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A model of vectors, the directory of its export, and the function that runs a signature."""
    model = vector_model()
    return model, *load(model, tmp_path_factory.mktemp("vectors"))


class TestVectors:
    def test_signatures_have_the_names_of_the_kind(self, vectors):
        _, version, _ = vectors
        described = json.loads((version / "signature.json").read_text(encoding="utf-8"))[
            "signatures"
        ]
        names = {
            name: (sorted(entry["inputs"]), sorted(entry["outputs"]))
            for name, entry in described.items()
        }
        assert names == {
            "denoise": (["vector"], ["denoised", "stddev", "valid"]),
            "serving_default": (["vector"], ["denoised", "stddev", "valid"]),
            "encode": (["vector"], ["mean", "stddev", "valid"]),
            "decode": (["latent"], ["vector"]),
            "sample": (["seed"], ["vector"]),
            "score": (["seed", "vector"], ["elbo", "kl", "reconstruction", "valid"]),
        }
        assert described["denoise"]["inputs"]["vector"]["shape"] == [None, 5]
        assert described["denoise"]["inputs"]["vector"]["range"] == [None, None]

    def test_nothing_speaks_of_images(self, vectors):
        _, version, _ = vectors
        for name in ("signature.json", "model_card.md"):
            text = (version / name).read_text(encoding="utf-8").lower()
            assert "vector" in text
            assert not any(word in text for word in ("image", "pixel", "png"))

    def test_outputs_are_the_models(self, vectors, x, seed):
        model, _, run = vectors
        close = {"rtol": 1e-4, "atol": 1e-5}
        denoised = run("denoise", {"vector": x})
        np.testing.assert_allclose(denoised["denoised"], model(x), **close)
        p = model.denoise(x, num_samples=0)
        np.testing.assert_allclose(denoised["stddev"], p.stddev, **close)
        q = model.encoder(x)
        encoded = run("encode", {"vector": x})
        np.testing.assert_allclose(encoded["mean"], q.mean(), **close)
        np.testing.assert_allclose(encoded["stddev"], q.stddev(), **close)
        mean, stddev = q.mean().numpy(), q.stddev().numpy()
        kl = 0.5 * np.sum(mean**2 + stddev**2 - 2 * np.log(stddev) - 1, axis=1)
        np.testing.assert_allclose(run("score", {"vector": x, "seed": seed})["kl"], kl, rtol=1e-4)

    def test_rows_that_are_not_finite_are_zeros(self, vectors, x):
        _, _, run = vectors
        broken = x.copy()
        broken[1, 3] = np.nan
        answer, whole = run("denoise", {"vector": broken}), run("denoise", {"vector": x})
        np.testing.assert_array_equal(answer["valid"], [True, False, True, True])
        assert not answer["denoised"][1].any()
        np.testing.assert_allclose(answer["denoised"][2:], whole["denoised"][2:], rtol=1e-5)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_each_row_depends_on_its_own_input_and_seed(posterior, x, seed, tmp_path):
    """Also where draws stand in for moments that the posterior does not know."""
    _, run = load(vector_model(encoder_of(POSTERIORS[posterior])), tmp_path)
    for name, inputs in (("score", {"vector": x, "seed": seed}), ("encode", {"vector": x})):
        whole = run(name, inputs)
        order = [2, 0, 3]
        some = run(name, {key: value[order] for key, value in inputs.items()})
        for key, value in whole.items():
            np.testing.assert_allclose(some[key], value[order], rtol=1e-4, atol=1e-5)
    others = run("score", {"vector": x, "seed": seed + 1})
    assert np.abs(others["kl"] - run("score", {"vector": x, "seed": seed})["kl"]).min() > 1e-4


def test_score_of_a_student_t_posterior(x, seed, tmp_path):
    """Against SciPy's densities, at the draws of TFP for one row at a time."""
    encoder = encoder_of(student_t)
    model = vector_model(encoder)
    version, run = load(model, tmp_path)
    loc, scale = parameters_of(encoder, x)
    z = np.concatenate(
        [latents.draw(encoder(x[i : i + 1]), seed=tf.constant(seed[i])).numpy() for i in range(4)]
    )
    log_q = scipy.stats.t.logpdf(z, 5, loc, scale).sum(axis=1)
    log_prior = scipy.stats.norm.logpdf(z).sum(axis=1)
    p = model.decoder(z)
    log_p = scipy.stats.norm.logpdf(x, p.mean(), p.stddev()).sum(axis=1)
    score = run("score", {"vector": x, "seed": seed})
    np.testing.assert_allclose(score["kl"], log_q - log_prior, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score["reconstruction"], log_p, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score["elbo"], log_p - log_q + log_prior, rtol=1e-4, atol=1e-4)
    encoded = run("encode", {"vector": x})
    np.testing.assert_allclose(encoded["mean"], loc, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoded["stddev"], scale * np.sqrt(5 / 3), rtol=1e-4)
    content = json.loads((version / "signature.json").read_text(encoding="utf-8"))
    assert content["signatures"]["score"]["outputs"]["kl"]["range"] == [None, None]


def test_kl_of_a_student_t_posterior_averages_to_the_integral(x, tmp_path):
    encoder = encoder_of(student_t)
    _, run = load(vector_model(encoder), tmp_path)
    loc, scale = parameters_of(encoder, x[:1])
    expected = 0.0
    for m, s in zip(loc[0], scale[0], strict=True):
        q = scipy.stats.t(5, m, s)
        expected += scipy.integrate.quad(
            lambda z, q=q: q.pdf(z) * (q.logpdf(z) - scipy.stats.norm.logpdf(z)), -np.inf, np.inf
        )[0]
    rows = 3000
    seeds = np.arange(2 * rows, dtype=np.int32).reshape(rows, 2)
    kl = run("score", {"vector": np.repeat(x[:1], rows, axis=0), "seed": seeds})["kl"]
    assert abs(kl.mean() - expected) < 4 * kl.std() / np.sqrt(rows)


def test_moments_that_are_not_known_are_those_of_draws(x, tmp_path):
    encoder = encoder_of(softplus_of_normal)
    _, run = load(vector_model(encoder), tmp_path)
    loc, scale = parameters_of(encoder, x)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    values = np.logaddexp(0, loc[..., None] + scale[..., None] * nodes)
    mean = values @ weights
    stddev = np.sqrt(values**2 @ weights - mean**2)
    encoded = run("encode", {"vector": x})
    # 256 draws a row; 5 standard errors.
    assert np.all(np.abs(encoded["mean"] - mean) < 5 * stddev / 16)
    np.testing.assert_allclose(encoded["stddev"], stddev, rtol=0.35)
    p = vector_model(encoder).decoder(encoded["mean"])
    np.testing.assert_allclose(
        run("denoise", {"vector": x})["denoised"], p.mean(), rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """As `vectors`, with another prior."""
    model = vector_model(prior=ShiftedPrior((LATENTS,)))
    return model, *load(model, tmp_path_factory.mktemp("prior"))


class TestOtherPrior:
    def test_samples_are_of_the_prior_row_by_row(self, shifted, seed):
        model, _, run = shifted
        z = np.concatenate([model.prior.sample(1, seed=tf.constant(row)) for row in seed])
        expected = model.decoder(z).mean()
        sampled = run("sample", {"seed": seed})["vector"]
        np.testing.assert_allclose(sampled, expected, rtol=1e-4, atol=1e-5)

    def test_kl_averages_to_that_of_two_normals(self, shifted, x):
        model, version, run = shifted
        q = model.encoder(x[:1])
        mean, stddev = q.mean().numpy()[0], q.stddev().numpy()[0]
        expected = np.sum(np.log(2 / stddev) + (stddev**2 + (mean - 1) ** 2) / 8 - 0.5)
        rows = 3000
        seeds = np.arange(2 * rows, dtype=np.int32).reshape(rows, 2)
        kl = run("score", {"vector": np.repeat(x[:1], rows, axis=0), "seed": seeds})["kl"]
        assert abs(kl.mean() - expected) < 4 * kl.std() / np.sqrt(rows)
        content = json.loads((version / "signature.json").read_text(encoding="utf-8"))
        meaning = content["signatures"]["decode"]["inputs"]["latent"]["meaning"]
        assert meaning == "latent variables"


@register
class TwoNormals(ProbabilisticLayer):
    """A joint distribution over two latents, of 1 and of 2 values."""

    def make_distribution(self, parameters):
        first, second = parameters[..., :1], parameters[..., 1:3]
        return tfd.JointDistributionSequential(
            [
                tfd.Independent(tfd.Normal(first, 0.5), 1),
                tfd.Independent(tfd.Normal(second, 2.0), 1),
            ],
            batch_ndims=1,
            use_vectorized_map=False,
        )

    def compute_output_shape(self, input_shape):
        return input_shape


def test_a_latent_of_two_parts(x, seed, tmp_path):
    given = keras.Input((5,), name="x")
    dense = keras.layers.Dense(3, name="dense")
    encoder = keras.Model(given, TwoNormals()(dense(given)))
    parts = [keras.Input((1,), name="latent_1"), keras.Input((2,), name="latent_2")]
    merged = keras.layers.Concatenate()(parts)
    hidden = keras.layers.Dense(layers.IndependentNormal.params_size(5), name="decoder")(merged)
    model = DVAE(encoder, keras.Model(parts, layers.IndependentNormal(5)(hidden)), kind=Vectors())
    version, run = load(model, tmp_path)
    content = json.loads((version / "signature.json").read_text(encoding="utf-8"))["signatures"]
    assert {k: v["shape"] for k, v in content["decode"]["inputs"].items()} == {
        "latent_1": [None, 1],
        "latent_2": [None, 2],
    }
    encoded = run("encode", {"vector": x})
    loc = np.asarray(dense(x))
    np.testing.assert_allclose(encoded["mean_1"], loc[:, :1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(encoded["mean_2"], loc[:, 1:], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(encoded["stddev_1"], np.full((4, 1), 0.5))
    np.testing.assert_allclose(encoded["stddev_2"], np.full((4, 2), 2.0))
    kernel, bias = (w.numpy() for w in model.decoder.get_layer("decoder").weights)
    decoded = run("decode", {"latent_1": loc[:, :1], "latent_2": loc[:, 1:]})["vector"]
    np.testing.assert_allclose(decoded, (loc @ kernel + bias)[:, :5], rtol=1e-4, atol=1e-5)
    denoised = run("denoise", {"vector": x})["denoised"]
    np.testing.assert_allclose(denoised, decoded, rtol=1e-4, atol=1e-5)
    rows = 2000
    seeds = np.arange(2 * rows, dtype=np.int32).reshape(rows, 2)
    kl = run("score", {"vector": np.repeat(x[:1], rows, axis=0), "seed": seeds})["kl"]
    stddev = np.array([0.5, 2.0, 2.0])
    expected = 0.5 * np.sum(loc[0] ** 2 + stddev**2 - 2 * np.log(stddev) - 1)
    assert abs(kl.mean() - expected) < 4 * kl.std() / np.sqrt(rows)
    sampled = run("sample", {"seed": seed})["vector"]
    z = [model.prior.sample(1, seed=tf.constant(row)) for row in seed]
    expected = model.decoder(tuple(np.concatenate(part) for part in zip(*z, strict=True))).mean()
    np.testing.assert_allclose(sampled, expected, rtol=1e-4, atol=1e-5)


@register
class AgeAndBody(ProbabilisticLayer):
    """A distribution over {"age": [1], "body": [2]} with unit scales."""

    def make_distribution(self, parameters):
        return tfd.JointDistributionNamed(
            {
                "age": tfd.Independent(tfd.Normal(parameters[..., :1], 1.0), 1),
                "body": tfd.Independent(tfd.Normal(parameters[..., 1:], 1.0), 1),
            },
            batch_ndims=1,
            use_vectorized_map=False,
        )

    def compute_output_shape(self, input_shape):
        return input_shape


def record_model(*names: str) -> DVAE:
    """Return a model of examples that are dicts with these two names, of 1 and of 2 values."""
    parts = {name: keras.Input((i,), name=name) for i, name in enumerate(names, start=1)}
    # tanh hides infinity from what follows: the guard alone sees it.
    merged = keras.ops.tanh(keras.layers.Concatenate()(list(parts.values())))
    dense = keras.layers.Dense(layers.IndependentNormal.params_size(2))
    encoder = keras.Model(parts, layers.IndependentNormal(2)(dense(merged)))
    latent = keras.Input((2,))
    return DVAE(
        encoder, keras.Model(latent, AgeAndBody()(keras.layers.Dense(3, name="dense")(latent)))
    )


def test_an_example_of_two_parts_has_an_input_for_each(rng, seed, tmp_path):
    model = record_model("age", "body")
    version, run = load(model, tmp_path)
    x = {
        "age": rng.normal(size=(4, 1)).astype(np.float32),
        "body": rng.normal(size=(4, 2)).astype(np.float32),
    }
    denoised = run("denoise", x)
    assert set(denoised) == {
        *("denoised_age", "denoised_body", "stddev_age", "stddev_body", "valid")
    }
    z = run("encode", x)["mean"]
    kernel, bias = model.decoder.get_layer("dense").get_weights()
    mean = z @ kernel + bias
    np.testing.assert_allclose(denoised["denoised_age"], mean[:, :1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(denoised["denoised_body"], mean[:, 1:], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(denoised["stddev_body"], np.ones((4, 2)))
    decoded = run("decode", {"latent": z})
    np.testing.assert_allclose(decoded["age"], mean[:, :1], rtol=1e-4, atol=1e-5)
    q = model.encoder(x)
    kl = 0.5 * np.sum(
        q.mean().numpy() ** 2 + q.variance().numpy() - np.log(q.variance().numpy()) - 1, axis=1
    )
    np.testing.assert_allclose(run("score", x | {"seed": seed})["kl"], kl, rtol=1e-4)
    broken = {"age": x["age"].copy(), "body": x["body"]}
    broken["age"][2] = np.inf
    answer = run("denoise", broken)
    np.testing.assert_array_equal(answer["valid"], [True, True, False, True])
    assert not answer["denoised_body"][2].any()
    assert "age, body" in (version / "model_card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["seed", "mean", "a-b", "class"])
def test_names_that_inputs_cannot_have_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="must have different names, of letters"):
        export.export(record_model("age", name), tmp_path, version=1)
    assert not list(tmp_path.iterdir())


def test_examples_of_any_size_are_refused(tmp_path):
    given = keras.Input((None, 5))
    pooled = keras.layers.GlobalAveragePooling1D()(given)
    dense = keras.layers.Dense(layers.IndependentNormal.params_size(2))
    encoder = keras.Model(given, layers.IndependentNormal(2)(dense(pooled)))
    latent = keras.Input((2,))
    decoder = keras.Model(latent, layers.IndependentNormal(5)(keras.layers.Dense(10)(latent)))
    with pytest.raises(ValueError, match="must take examples of one size"):
        export.export(DVAE(encoder, decoder), tmp_path, version=1)


def test_a_likelihood_that_does_not_know_the_shape_of_its_moments(rng, tmp_path):
    """TFP's Laplace computes the standard deviation's shape in the graph."""

    def laplace(parameters):
        loc, raw = tf.split(tf.reshape(parameters, [-1, 4, 3, 2]), 2, axis=-1)
        return tfd.Independent(tfd.Laplace(loc, layers.positive(raw)), 3)

    keras.saving.register_keras_serializable("tests")(laplace)
    encoder, _ = networks.mlp((4, 3, 1), LATENTS, hidden=(8,))
    latent = keras.Input((LATENTS,))
    decoder = keras.Model(
        latent, layers.DistributionLayer(laplace)(keras.layers.Dense(24, name="parameters")(latent))
    )
    version, run = load(DVAE(encoder, decoder), tmp_path)
    described = json.loads((version / "signature.json").read_text(encoding="utf-8"))["signatures"][
        "denoise"
    ]
    assert described["outputs"]["stddev"]["shape"] == [None, 4, 3, 1]
    image = rng.random((2, 4, 3, 1)).astype(np.float32)
    kernel, bias = decoder.get_layer("parameters").get_weights()
    raw = (encoder(image).mean().numpy() @ kernel + bias).reshape(2, 4, 3, 2)[..., 1:]
    expected = np.sqrt(2) * (layers.SCALE_FLOOR + np.logaddexp(0, raw))
    np.testing.assert_allclose(run("denoise", {"image": image})["stddev"], expected, rtol=1e-5)
