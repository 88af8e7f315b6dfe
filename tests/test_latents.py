"""Latents of several parts, posteriors without closed forms: the same bounds for all of them."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from dvae_tf import DVAE, corruptions, latents, layers, likelihood, nests, networks, randomness
from dvae_tf.priors import StandardNormal

SEED = randomness.as_seed(3)
SIZES = (3, 2)  # of the two parts of a latent


@keras.saving.register_keras_serializable(package="test_latents")
class TwoPartEncoder(keras.Model):
    """q(z_1, z_2 | x) as a joint distribution of two normal parts."""

    def __init__(self, encoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder

    @property
    def input_shape(self):
        return self.encoder.input_shape

    def call(self, x):
        normal = self.encoder(x).distribution
        locs, scales = (tf.split(t, SIZES, axis=-1) for t in (normal.loc, normal.scale))
        parts = zip(locs, scales, strict=True)
        return tfd.JointDistributionSequential(
            [tfd.Independent(tfd.Normal(loc, scale), 1) for loc, scale in parts], batch_ndims=1
        )

    def build_from_config(self, config):
        self.built = True  # the inner model is

    def get_config(self):
        return {"encoder": keras.saving.serialize_keras_object(self.encoder)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["encoder"]))


@pytest.fixture(scope="module")
def pair():
    """A model with one latent of five units, and one with two latents of three and two."""
    keras.utils.set_random_seed(1)
    encoder, decoder = networks.mlp((2, 2, 1), sum(SIZES), "gaussian", hidden=(4,))
    inputs = [keras.Input((size,)) for size in SIZES]
    two = keras.Model(inputs, decoder(keras.layers.Concatenate()(inputs)))
    options = {"corruption": corruptions.Gaussian(0.1), "num_corruptions": 2, "num_samples": 3}
    return (
        DVAE(encoder, decoder, **options),
        DVAE(TwoPartEncoder(encoder), two, **options),
    )


def test_the_prior_has_the_shape_of_the_decoders_inputs(pair):
    one, two = pair
    assert one.prior.event_shape == (5,)
    assert two.prior.event_shape == ((3,), (2,))
    assert one.latent_dim == two.latent_dim == 5


@pytest.mark.parametrize(
    "cell",
    [
        {},
        {"objective": "iwae"},
        {"objective": "iwae", "gradient": "doubly_reparameterized"},
        {"posterior": "mixture"},
        {"objective": "iwae", "posterior": "mixture"},
    ],
    ids=str,
)
def test_every_bound_of_two_parts_is_that_of_one(pair, cell, rng, monkeypatch):
    """Fed with the same draws, a latent in two parts is the same model."""
    x = tf.constant(rng.random((4, 2, 2, 1)), tf.float32)
    noise = rng.normal(size=(3, 8, 5)).astype(np.float32)  # [K, M B, L]

    def drawn(q, *, seed, num_samples):
        is_joint = isinstance(q, tfd.JointDistributionSequential)
        parts = q.model if is_joint else [q]
        locs, scales = zip(
            *((p.distribution.loc, p.distribution.scale) for p in parts), strict=True
        )
        sizes = SIZES if is_joint else (5,)
        eps = tf.split(noise, sizes, axis=-1)
        z = tuple(a + b * e for a, b, e in zip(locs, scales, eps, strict=True))
        return z if is_joint else z[0]

    monkeypatch.setattr(latents, "draw", drawn)
    terms, gradients = [], []
    for model in pair:
        for name, value in ({"objective": "elbo", "posterior": "conditional"} | cell).items():
            monkeypatch.setattr(model, name, value)
        if "gradient" not in cell:
            monkeypatch.setattr(model, "gradient", "reparameterized")
        with tf.GradientTape() as tape:
            found = model.bound_terms(x, seed=SEED)
            loss = tf.reduce_sum(found.objective)
        terms.append(found)
        gradients.append(tape.gradient(loss, model.trainable_variables))
    one, two = terms
    for name in ("objective", "bound", "reconstruction"):
        if name == "reconstruction" or cell:  # the KL term of one has a closed form
            np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-5)
    if cell:
        for a, b in zip(*gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)


@pytest.mark.slow
def test_two_parts_train_score_and_come_back(pair, tmp_path, rng):
    two = pair[1]
    two.compile(keras.optimizers.Adam(1e-3))
    x = rng.random((12, 2, 2, 1)).astype(np.float32)
    history = two.fit(x, epochs=2, batch_size=6, validation_data=x, verbose=0)
    assert np.isfinite(history.history["val_bound"]).all()
    assert two.predict(x, verbose=0).shape == two.sample(12).shape == x.shape
    assert two.denoise(x).stddev.shape == x.shape
    # The KL term that elbo() samples is the closed form of the normal parts.
    q = two.encoder.encoder(x)
    kl = StandardNormal((5,)).kl(q).numpy()
    elbo = [two.elbo(x, num_samples=500, seed=seed).numpy() for seed in range(8)]
    z = tf.unstack(q.sample(4_000, seed=1), axis=0)
    p = two.decoder([tf.concat([v[:, :3] for v in z], 0), tf.concat([v[:, 3:] for v in z], 0)])
    log_p = tf.reshape(p.log_prob(np.tile(x, (4_000, 1, 1, 1))), [4_000, 12]).numpy()
    error = np.hypot(np.std(elbo, 0) / np.sqrt(8), log_p.std(0) / np.sqrt(4_000))
    assert np.all(np.abs(np.mean(elbo, 0) - (log_p.mean(0) - kl)) < 5 * error)
    two.save(tmp_path / "two.keras")
    loaded = keras.models.load_model(tmp_path / "two.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), two.predict(x, verbose=0))


@pytest.mark.slow
def test_evidence_of_two_parts_is_that_of_one(rng):
    keras.utils.set_random_seed(1)
    encoder, decoder = networks.mlp((2, 2, 1), sum(SIZES), "gaussian", hidden=(4,))
    inputs = [keras.Input((size,)) for size in SIZES]
    two = keras.Model(inputs, decoder(keras.layers.Concatenate()(inputs)))
    x = rng.random((3, 2, 2, 1)).astype(np.float32)
    a = likelihood.importance_sampling(encoder, decoder, x, num_samples=4_000)
    b = likelihood.importance_sampling(TwoPartEncoder(encoder), two, x, num_samples=4_000)
    error = np.hypot(a.monte_carlo_error, b.monte_carlo_error)
    assert np.all(np.abs(a.log_likelihood - b.log_likelihood) < 5 * error)
    # By annealing, beside log E_p(z)[p(x|z)] from draws of NumPy's.
    annealed = likelihood.annealed_importance_sampling(
        two, x, prior=StandardNormal(((3,), (2,))), num_temperatures=200
    )
    z = rng.normal(size=(100_000, 5)).astype(np.float32)
    weights = np.exp([decoder(z).log_prob(row[None]).numpy() for row in x])  # [3, S]
    error = weights.std(1) / weights.mean(1) / np.sqrt(100_000)
    difference = annealed.log_likelihood - np.log(weights.mean(1))
    assert np.all(np.abs(difference) < 5 * np.hypot(error, annealed.monte_carlo_error))


def test_vectors_and_back(rng):
    z = tuple(tf.constant(rng.normal(size=(4, size)), tf.float32) for size in SIZES)
    vectors = latents.as_vectors(z)
    assert vectors.shape == (4, 5)
    for a, b in zip(latents.from_vectors(vectors, ((3,), (2,))), z, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(latents.from_vectors(vectors, (5,)), vectors)


def test_latents_of_any_rank_are_vectors_too():
    z = (tf.reshape(tf.range(12.0), [2, 3, 2]), tf.reshape(tf.range(8.0), [2, 4]))
    vectors = latents.as_vectors(z)
    assert vectors.shape == (2, 10)
    for a, b in zip(latents.from_vectors(vectors, ((3, 2), (4,))), z, strict=True):
        np.testing.assert_array_equal(a, b)
    assert latents.size_of((3, 2)) == 6
    assert latents.size_of(((3, 2), (4,))) == 10


def test_moments_of_a_distribution_that_does_not_know_them():
    loc = tf.constant([[0.3, -1.0]])
    q = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(loc, [[0.5, 2.0]]), tfb.Exp())
    with pytest.raises(NotImplementedError):
        q.mean()
    # E exp(N(m, s^2)) = exp(m + s^2 / 2), of the first unit, whose tail is light
    expected = scipy.stats.lognorm(0.5, scale=np.exp(0.3))
    error = expected.std() / np.sqrt(256)
    assert abs(latents.mean(q)[0, 0] - expected.mean()) < 5 * error
    draws = q.sample(256, seed=tf.constant([0, 0])).numpy()
    np.testing.assert_allclose(latents.stddev(q), draws.std(axis=0), rtol=1e-5)
    assert draws[:, 0, 0].std() == pytest.approx(expected.std(), rel=0.3)
    np.testing.assert_array_equal(latents.mean(q), latents.mean(q))
    normal = layers.IndependentNormal(2)(tf.zeros([1, 4]))
    np.testing.assert_array_equal(latents.mean(normal), normal.mean())


def test_choose_takes_one_component(rng):
    z = rng.normal(size=(5, 3, 4, 2)).astype(np.float32)  # [S, M, B, L]
    component = rng.integers(0, 3, (5, 4))
    one_hot = tf.one_hot(component, 3, axis=1)
    expected = np.take_along_axis(z, component[:, None, :, None], axis=1)[:, 0]
    np.testing.assert_array_equal(latents.choose(z, one_hot), expected)


class TestNests:
    NEST = ({"a": np.arange(12.0).reshape(6, 2)}, np.arange(6.0))

    def test_repeat_and_separate(self):
        repeated = nests.repeat(self.NEST, 3)
        np.testing.assert_array_equal(repeated[1], np.tile(np.arange(6.0), 3))
        separate = nests.separate(repeated, 3)
        assert separate[0]["a"].shape == (3, 6, 2)
        np.testing.assert_array_equal(separate[0]["a"][1], self.NEST[0]["a"])
        np.testing.assert_array_equal(nests.merge(separate)[0]["a"], repeated[0]["a"])

    def test_take_size_and_matrix(self):
        assert nests.batch_size(self.NEST) == 6
        some = nests.take(self.NEST, [0, 5])
        np.testing.assert_array_equal(nests.as_matrix(some), [[0, 1, 0], [10, 11, 5]])

    def test_merge_inner(self):
        x = np.arange(24.0).reshape(2, 3, 4)
        np.testing.assert_array_equal(nests.merge_inner(x), x.reshape(2, 12))
