"""The ladder: its densities, its conditional form, and images of any size."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import dvae_tf
from dvae_tf import corruptions, latents, networks, observations, randomness

SEED = randomness.as_seed(5)
SHAPE = (9, 7, 2)


def ladder(conditional=False, observation=None, policy="float32", **options):
    """Encoder and decoder of three small levels with weights that are nowhere zero."""
    with networks.dtype_policy(policy):
        models = networks.ladder(
            SHAPE, 3, filters=(8, 6, 4), conditional=conditional, observation=observation, **options
        )
    rng = np.random.default_rng(1)
    for variable in models[0].trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    return models


@pytest.fixture(scope="module")
def noisy():
    return np.random.default_rng(2).normal(0.5, 0.3, (4, *SHAPE)).astype(np.float32)


def test_draws_carry_their_own_densities(noisy):
    """What is computed along with a draw is what the latents alone give, and SciPy's density."""
    encoder, decoder = ladder()
    q = encoder(noisy)
    z = latents.draw_along(q, seed=SEED, num_samples=3)
    np.testing.assert_allclose(z.log_density, q.log_prob(z.levels), rtol=1e-5, atol=1e-3)
    along = decoder(tf.nest.map_structure(lambda part: part[1], z)).mean()
    np.testing.assert_allclose(along, decoder(tuple(eps[1] for eps in z.levels)).mean(), atol=1e-5)
    # The noise of each level, recovered from its draw, has the density of N(0, I) over the spreads.
    log_density = np.zeros((3, 4))
    noise = latents.draw_along(q, seed=SEED, num_samples=3)
    for level, spread in enumerate(noise.spreads):
        shape = tf.constant([*spread.shape[2:]])
        standard = randomness.normal_maps(0, 3, 4, shape, randomness.fold_in(SEED, level)).numpy()
        each = scipy.stats.norm.logpdf(standard) - np.log(spread)
        log_density += each.sum(axis=(2, 3, 4))
    np.testing.assert_allclose(z.log_density, log_density, rtol=1e-5, atol=1e-3)


def test_kl_of_each_level_is_the_mean_of_its_log_ratio(noisy):
    """Per level against Monte Carlo, within five standard errors of the difference."""
    encoder, _ = ladder()
    z = latents.draw_along(encoder(noisy[:1]), seed=SEED, num_samples=4000)
    for level, (eps, spread) in enumerate(zip(z.levels, z.spreads, strict=True)):
        shape = tf.constant([*eps.shape[2:]])
        standard = randomness.normal_maps(0, 4000, 1, shape, randomness.fold_in(SEED, level))
        log_q = scipy.stats.norm.logpdf(standard) - np.log(spread)
        ratio = (log_q - scipy.stats.norm.logpdf(eps)).sum(axis=(1, 2, 3, 4))
        difference = ratio - z.kl[:, 0, level].numpy()
        error = difference.std() / np.sqrt(difference.size)
        assert z.kl[:, 0, level].numpy().mean() > 3 * error  # not a test of zeros
        assert abs(difference.mean()) < 5 * error


def test_bound_is_the_sum_of_its_parts(noisy):
    encoder, decoder = ladder(observation=observations.Gaussian(0.2))
    model = dvae_tf.DVAE(encoder, decoder, num_samples=2)
    terms = model.bound_terms(tf.constant(noisy), seed=SEED)
    _, latent_seed = randomness.split(SEED)
    z = latents.draw_along(encoder(noisy), seed=latent_seed, num_samples=2)
    signal = z.parameters.numpy()
    reconstruction = scipy.stats.norm.logpdf(noisy, signal, 0.2).sum(axis=(2, 3, 4)).mean(axis=0)
    np.testing.assert_allclose(terms.reconstruction, reconstruction, rtol=1e-5)
    np.testing.assert_allclose(terms.kl, z.kl.numpy().sum(-1).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(terms.bound, reconstruction - terms.kl, rtol=1e-4)


@pytest.mark.parametrize(
    "cell",
    [
        {"objective": "iwae", "num_samples": 3},
        {"objective": "iwae", "num_samples": 3, "gradient": "doubly_reparameterized"},
        {"posterior": "mixture", "num_corruptions": 2},
    ],
    ids=str,
)
def test_bound_has_the_gradient_of_its_differences(cell, noisy):
    """Finite differences of the bound along the gradient, for the decoder's part of the weights."""
    encoder, decoder = ladder()
    model = dvae_tf.DVAE(encoder, decoder, corruption=corruptions.Gaussian(0.1), **cell)
    weights = [encoder.core.readout.kernel]  # of p(x|z) alone, where all gradients are ordinary

    def bound():
        return tf.reduce_mean(model.bound_terms(tf.constant(noisy), seed=SEED).objective)

    with tf.GradientTape() as tape:
        value = bound()
    gradient = tape.gradient(value, [weight.value for weight in weights])
    norm = tf.linalg.global_norm(gradient)
    step, ends = 1e-2, []
    for sign in (1, -1):
        for weight, direction in zip(weights, gradient, strict=True):
            weight.assign_add(sign * step * direction / norm)
        ends.append(float(bound()))
        for weight, direction in zip(weights, gradient, strict=True):
            weight.assign_add(-sign * step * direction / norm)
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(norm), rel=0.02)


@pytest.mark.parametrize("conditional", [False, True])
def test_saved_halves_share_their_core(conditional, noisy, tmp_path):
    model = dvae_tf.DVAE(*ladder(conditional), corruption=corruptions.Gaussian(0.1))
    model.compile("adam", run_eagerly=True)
    model.train_on_batch(noisy.clip(0, 1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.encoder.core is loaded.decoder.core
    count = len(model.trainable_variables)
    assert len(loaded.trainable_variables) == len(loaded.optimizer.variables[2::2]) == count
    odd = np.random.default_rng(3).random((1, 13, 22, 2), np.float32)
    np.testing.assert_allclose(loaded.draws(odd, 2), model.draws(odd, 2), atol=1e-6)


def test_conditional_prior_reads_the_noisy_image_and_the_posterior_both(noisy):
    encoder, decoder = ladder(conditional=True)
    clean = noisy[::-1]
    prior, posterior = encoder(noisy), encoder.recognize(clean, noisy)
    z = latents.draw_along(prior, seed=SEED, num_samples=2)
    assert not z.kl.numpy().any()
    standard = sum(scipy.stats.norm.logpdf(eps).sum(axis=(2, 3, 4)) for eps in z.levels)
    np.testing.assert_allclose(z.log_density, standard, rtol=1e-5)
    other = latents.draw_along(encoder(clean), seed=SEED, num_samples=2)
    assert np.abs(z.parameters - other.parameters).max() > 1e-3
    drawn = latents.draw_along(posterior, seed=SEED, num_samples=2)
    assert drawn.kl.numpy().min() > 0
    assert np.abs(drawn.levels[0] - z.levels[0]).max() > 1e-3
    model = dvae_tf.DVAE(encoder, decoder, paired=True)
    terms = model.bound_terms(tf.constant(clean), noisy=tf.constant(noisy), seed=SEED)
    _, latent_seed = randomness.split(SEED)
    z = latents.draw_along(posterior, seed=latent_seed, num_samples=1)
    np.testing.assert_allclose(terms.kl, z.kl[0].numpy().sum(-1), rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 51), (37, 53), (8, 8)])
def test_any_size(size):
    model = dvae_tf.DVAE(*ladder())
    x = np.random.default_rng(4).random((2, *size, 2), np.float32)
    assert model(x).shape == model.denoise(x, num_samples=2).mean.shape == x.shape
    assert model.draws(x, 3).shape == (3, *x.shape)
    assert np.isfinite(model.elbo(x)).all()


def test_a_window_has_the_draws_of_the_picture():
    """Beyond the reach of the networks the same numbers, and others if the window's place is unknown."""
    model = dvae_tf.DVAE(*ladder(conditional=True))
    x = np.random.default_rng(4).random((1, 320, 9, 2), np.float32)
    complete = model.denoise(x, num_samples=2, seed=3)
    window = model.denoise(x[:, 160:], num_samples=2, seed=3, origin=(160, 0))
    elsewhere = model.denoise(x[:, 160:], num_samples=2, seed=3)
    reach = model.encoder.receptive_field
    assert reach < 140
    for part, whole in zip(window, complete, strict=True):
        np.testing.assert_allclose(part[:, reach:], whole[:, 160 + reach :], atol=1e-5)
    assert np.abs(elsewhere.mean[:, reach:] - complete.mean[:, 160 + reach :]).max() > 1e-3


def test_nothing_is_changed_beyond_the_receptive_field():
    """One changed pixel changes nothing further away, and something more than half as far."""
    model = dvae_tf.DVAE(*ladder(conditional=True))
    x = np.zeros((1, 8, 640, 2), np.float32)
    changed = x.copy()
    changed[0, 4, 320] = 50.0
    both = [model.draws(each, 1, seed=1)[0, 0].numpy() for each in (x, changed)]
    places = np.flatnonzero(np.abs(both[0] - both[1]).max(axis=(0, 2)) > 0)
    reach = model.encoder.receptive_field
    assert places.min() >= 320 - reach
    assert places.max() <= 320 + reach
    assert max(320 - places.min(), places.max() - 320) > reach / 2


def test_missing_pixels_are_read_as_the_mean_and_not_scored(noisy):
    model = dvae_tf.DVAE(*ladder(observation=observations.Gaussian(0.2)))
    holes = noisy.copy()
    holes[:, 2:4] = np.nan
    with tf.GradientTape() as tape:
        terms = model.bound_terms(tf.constant(holes), seed=SEED)
    gradient = tape.gradient(terms.objective, [v.value for v in model.trainable_variables])
    assert all(np.isfinite(part).all() for part in gradient)
    seen = np.delete(np.arange(SHAPE[0]), [2, 3])
    z = latents.draw_along(model.encoder(holes), seed=randomness.split(SEED)[1], num_samples=1)
    signal = z.parameters.numpy()[0]
    expected = scipy.stats.norm.logpdf(holes[:, seen], signal[:, seen], 0.2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(terms.reconstruction, expected, rtol=1e-5)


def test_start_is_at_the_moments_of_the_data():
    for likelihood in ("gaussian", "bernoulli"):
        _, decoder = networks.ladder(SHAPE, 3, likelihood, filters=(8, 4))
        decoder.core.readout.kernel.assign(np.zeros(decoder.core.readout.kernel.shape))
        decoder.start_at((np.array([0.2, 0.6]), np.array([0.1, 0.3])))
        mean = np.broadcast_to([0.2, 0.6], SHAPE)
        zeros = np.zeros((1, latents.size_of(decoder.latent_shape)), np.float32)
        p = decoder(latents.from_vectors(zeros, decoder.latent_shape))
        np.testing.assert_allclose(p.mean()[0], mean, atol=1e-6)
        if likelihood == "gaussian":
            stddev = np.broadcast_to([0.1, 0.3], SHAPE)
            np.testing.assert_allclose(p.stddev()[0], stddev, atol=2e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_only_hidden_layers_leave_float32(policy, noisy):
    encoder, decoder = ladder(policy=policy)
    assert {variable.dtype for variable in encoder.variables} == {"float32"}
    core = encoder.core
    half = policy.removeprefix("mixed_")
    assert core.recognition.reading.compute_dtype == core.projections[0].compute_dtype == half
    for layer in (core.readout, *core.prior, *core.posterior):
        assert layer.compute_dtype == "float32"
    z = latents.draw_along(encoder(noisy), seed=SEED, num_samples=1)
    assert {part.dtype for part in tf.nest.flatten(z)} == {tf.float32}
    assert decoder(tf.nest.map_structure(lambda part: part[0], z)).mean().dtype == tf.float32


def test_refuses_an_observation_with_clean_images():
    with pytest.raises(ValueError, match="`observation` must be None for a conditional ladder"):
        ladder(conditional=True, observation=observations.Gaussian(0.1))
