import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.stats
import skimage.color
import skimage.data
import skimage.io
import tensorflow as tf

from dvae_tf import layers, observations
from dvae_tf.observations import (
    OBSERVATIONS,
    Gaussian,
    Observation,
    Observed,
    Poisson,
    PoissonGaussian,
    estimation,
    noise_line,
)
from dvae_tf.observations.noise_line import NoiseLine
from dvae_tf.observations.saturation import saturated

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "images"
NORMAL = scipy.stats.norm


def poisson_logpdf(y, s):
    n = np.maximum(y, 0) / 0.05
    rate = s / 0.05
    return scipy.special.xlogy(n, rate) - rate - scipy.special.gammaln(n + 1) - np.log(0.05)


# An observation, its log density, and its variance, for signals of at least 0.03.
CASES = {
    "gaussian": (
        Gaussian(0.2),
        lambda y, s: NORMAL(s, 0.2).logpdf(y),
        lambda s: np.full_like(s, 0.04),
    ),
    "poisson": (Poisson(0.05), poisson_logpdf, lambda s: 0.05 * s),
    "poisson_gaussian": (
        PoissonGaussian(0.05, 0.02, 0.1),
        lambda y, s: NORMAL(s, np.sqrt(0.05 * (s - 0.02) + 0.01)).logpdf(y),
        lambda s: 0.05 * (s - 0.02) + 0.01,
    ),
}
ALL = [observation for observation, *_ in CASES.values()]


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def signals(rng, shape=(4, 9, 7, 2)):
    return rng.uniform(0.03, 1, shape).astype(np.float32)


def test_every_observation_is_tested():
    assert list(CASES) == list(OBSERVATIONS)
    assert {type(observation) for observation in ALL} == set(OBSERVATIONS.values())
    public = {
        value
        for value in vars(observations).values()
        if inspect.isclass(value) and issubclass(value, Observation)
    }
    assert public - {Observation} == set(OBSERVATIONS.values())


def test_log_prob_and_variance_against_scipy(case, rng):
    observation, logpdf, variance = case
    s = signals(rng)
    y = (s + 0.3 * rng.normal(size=s.shape)).astype(np.float32)
    expected = logpdf(y.astype(float), s.astype(float))
    np.testing.assert_allclose(observation.log_prob(y, s), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(observation.variance(s), variance(s.astype(float)), rtol=1e-5)
    # Several signals for one image.
    broadcast = observation.log_prob(y[:1], s).numpy()
    expected = logpdf(y[:1].astype(float), s.astype(float))
    np.testing.assert_allclose(broadcast, expected, rtol=1e-5, atol=1e-5)


def test_moments_of_samples(case):
    observation, _, variance = case
    n = 200_000
    for value in (0.05, 0.4, 3.0):
        s = np.full(n, value, np.float32)
        y = observation.sample(s, tf.constant([1, 2])).numpy().astype(float)
        assert abs(y.mean() - value) < 5 * y.std() / np.sqrt(n)
        fourth = np.mean((y - y.mean()) ** 4)
        error = np.sqrt((fourth - y.var() ** 2) / n)
        assert abs(y.var() - variance(np.array([float(value)]))[0]) < 5 * error


def test_samples_are_a_function_of_the_seed(case, rng):
    observation, s = case[0], signals(rng)
    first = observation.sample(s, tf.constant([3, 4])).numpy()
    assert first.dtype == np.float32 and first.shape == s.shape
    np.testing.assert_array_equal(first, observation.sample(s, tf.constant([3, 4])))
    assert np.abs(first - observation.sample(s, tf.constant([3, 5])).numpy()).max() > 0.05


def test_photons_and_read_noise_are_independent():
    n = 100_000
    y = PoissonGaussian(1e-4, 0.0, 0.3).sample(np.full(n, 900.0, np.float32), tf.constant([1, 2]))
    # Both have a standard deviation of 0.3: were they equal, the variance would be four times 0.09.
    assert abs(np.var(y.numpy().astype(float)) / 0.18 - 1) < 5 * np.sqrt(2 / n)


def test_poisson_samples_are_counts():
    y = Poisson(0.05).sample(np.full(20_000, 0.15, np.float32), tf.constant([5, 6])).numpy()
    counts = np.round(y / 0.05)
    np.testing.assert_allclose(y, 0.05 * counts, atol=1e-6)
    observed = np.bincount(counts.astype(int), minlength=12)[:12]
    expected = scipy.stats.poisson(3).pmf(np.arange(12))
    expected *= observed.sum() / expected.sum()
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_poisson_is_a_probability_at_every_signal():
    n = np.arange(400, dtype=np.float32)
    for s in (0.25, 2.0, 30.0, 200.0):
        log_mass = Poisson(0.5).log_prob(0.5 * n, s).numpy().astype(float) + np.log(0.5)
        expected = scipy.stats.poisson(s / 0.5).logpmf(n)
        if s <= 30:
            assert np.exp(log_mass).sum() == pytest.approx(1, abs=1e-5)
        visible = expected > -50
        np.testing.assert_allclose(log_mass[visible], expected[visible], rtol=1e-5, atol=1e-5)
    for s in (-5.0, -0.1, 0.0, 0.004):  # below the floor mass is only lost
        total = np.exp(Poisson(0.5).log_prob(0.5 * n, s).numpy().astype(float)).sum() * 0.5
        assert total < 1 + 1e-5
    dark = Poisson(0.5).log_prob(0.0, 0.0).numpy() + np.log(0.5)
    assert dark == pytest.approx(-0.01, abs=1e-6)


def test_poisson_at_large_counts_does_not_cancel():
    n = np.array([9.99e5, 1e6, 1.003e6])
    log_mass = Poisson(1.0).log_prob(n.astype(np.float32), 1e6).numpy()
    np.testing.assert_allclose(log_mass, scipy.stats.poisson(1e6).logpmf(n), atol=2e-3)


def test_poisson_takes_negative_values_for_no_photons():
    p = Poisson(0.1)
    np.testing.assert_array_equal(p.log_prob(-0.3, 0.5), p.log_prob(0.0, 0.5))


def test_poisson_gaussian_has_a_width_without_read_noise():
    p = PoissonGaussian(0.2, 0.1, 0.0)
    np.testing.assert_allclose(
        p.variance(np.float32([-1.0, 0.1, 0.6])), [4e-4, 4e-4, 0.1], rtol=1e-6
    )
    total, _ = scipy.integrate.quad(
        lambda y: np.exp(p.log_prob(np.float32(y), np.float32(0)).numpy()), -0.2, 0.2
    )
    assert total == pytest.approx(1, abs=1e-4)


def test_gradients_are_those_of_finite_differences(case, rng):
    observation, logpdf, _ = case
    s = signals(rng, (200,))
    y = (s + 0.2 * rng.normal(size=s.shape)).astype(np.float32)
    with tf.GradientTape() as tape:
        variable = tf.Variable(s)
        log_p = observation.log_prob(y, variable)
    y, s = y.astype(float), s.astype(float)
    expected = (logpdf(y, s + 1e-6) - logpdf(y, s - 1e-6)) / 2e-6
    gradient = tape.gradient(log_p, variable)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize(
    "observation", [*ALL, PoissonGaussian(0.05, 0.02, 0.0)], ids=observations.to_text
)
def test_gradients_are_finite_and_lead_back_to_light(observation):
    s = tf.Variable([-10.0, -0.1, 0.0, 1e-30, 1e-4, 0.02, 1.0])
    for y in (-0.5, 0.0, 0.3, 5.0):
        with tf.GradientTape() as tape:
            log_p = observation.log_prob(tf.fill([7], y), s)
        gradient = tape.gradient(log_p, s).numpy()
        assert np.isfinite(gradient).all() and np.isfinite(log_p).all()
        if y > 0:
            assert (gradient[:4] > 0).all()


def test_round_trips(case, rng):
    observation = case[0]
    saved = keras.saving.serialize_keras_object(observation)
    assert keras.saving.deserialize_keras_object(saved) == observation
    assert type(observation).from_config(observation.get_config()) == observation
    assert eval(repr(observation), vars(observations)) == observation
    assert hash(observation) == hash(type(observation).from_config(observation.get_config()))
    assert observations.from_text(observations.to_text(observation)) == observation
    assert observation.name in observation.describe()
    assert observation != Gaussian(0.3) and observation != "gaussian"


def test_text():
    assert observations.from_text("gaussian:0.1") == Gaussian(0.1)
    assert observations.from_text("poisson:0.01") == Poisson(0.01)
    text = "poisson_gaussian:0.068,0.043,1e-05"
    assert observations.from_text(text) == PoissonGaussian(0.068, 0.043, 1e-5)
    assert observations.to_text(observations.from_text(text)) == text
    precise = Gaussian(np.float32(1 / 3))
    assert observations.from_text(observations.to_text(precise)) == precise
    assert PoissonGaussian(0.1).form() == "poisson_gaussian:GAIN,OFFSET,READ_NOISE"


@pytest.mark.parametrize(
    "text",
    ["", "gauss:0.1", "gaussian", "gaussian:", "gaussian:a", "gaussian:1,2", "poisson:"],
)
def test_text_that_is_no_observation_lists_the_forms(text):
    with pytest.raises(ValueError, match="must be one of gaussian:SIGMA, poisson:GAIN, ") as raised:
        observations.from_text(text)
    assert "poisson_gaussian:GAIN,OFFSET,READ_NOISE" in str(raised.value)
    assert repr(text) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda bad: Gaussian(bad), "sigma"),
        (lambda bad: Poisson(bad), "gain"),
        (lambda bad: PoissonGaussian(bad), "gain"),
    ],
)
def test_parameters_that_cannot_be(make, name):
    for bad in (0, -0.1, float("nan"), float("inf")):
        with pytest.raises(
            ValueError, match=rf"`{name}` must be .* above 0\. Received: {name}="
        ) as e:
            make(bad)
        assert "\n" not in str(e.value)
    for bad in (None, "0.1", True, [0.1]):
        with pytest.raises(TypeError, match=f"`{name}` must be"):
            make(bad)


def test_offset_and_read_noise_that_cannot_be():
    with pytest.raises(ValueError, match=r"`read_noise` must be .* at least 0"):
        PoissonGaussian(0.1, 0.0, -0.1)
    with pytest.raises(ValueError, match="`offset` must be a finite number"):
        PoissonGaussian(0.1, float("nan"), 0.1)
    with pytest.raises(ValueError, match="`sigma` must be"):
        observations.from_text("gaussian:-1")
    assert PoissonGaussian(0.1, -0.2).read_noise == 0.0


def test_observed_sums_over_the_event(case, rng):
    observation, logpdf, variance = case
    s = signals(rng)
    p = Observed(observation, s)
    assert p.batch_shape == (4,) and p.event_shape == (9, 7, 2)
    assert tuple(p.batch_shape_tensor()) == (4,) and tuple(p.event_shape_tensor()) == (9, 7, 2)
    y = p.sample(3, seed=[1, 2]).numpy()
    assert y.shape == (3, *s.shape)
    assert p.sample(seed=[1, 2]).shape == s.shape
    assert np.abs(y[0] - y[1]).max() > 0.05
    np.testing.assert_array_equal(y, p.sample(3, seed=[1, 2]))
    expected = logpdf(y.astype(float), s.astype(float)).sum((-3, -2, -1))
    assert p.log_prob(y).shape == (3, 4)
    np.testing.assert_allclose(p.log_prob(y), expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(p.log_prob(y[1]), expected[1], rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(p.mean(), s)
    np.testing.assert_array_equal(p.signal, s)
    np.testing.assert_allclose(p.stddev(), np.sqrt(variance(s)), rtol=1e-5)
    assert p.observation == observation and p.copy().observation == observation


def test_observed_with_sample_axes_of_the_signal(rng):
    s = signals(rng, (5, 4, 3, 3, 1))
    y = s[0]
    p = Observed(Gaussian(0.1), s, event_ndims=3)
    assert p.batch_shape == (5, 4)
    expected = NORMAL(s, 0.1).logpdf(y).sum((-3, -2, -1))
    np.testing.assert_allclose(p.log_prob(y), expected, rtol=1e-4)


def test_what_is_missing_adds_nothing(case, rng):
    observation, logpdf, _ = case
    s = signals(rng)
    y = (s + 0.1 * rng.normal(size=s.shape)).astype(np.float32)
    is_missing = rng.random(s.shape) < 0.3
    is_missing[3] = True
    holes = np.where(is_missing, np.float32("nan"), y)
    signal, seen = tf.Variable(s), tf.Variable(holes)
    with tf.GradientTape() as tape:
        log_p = Observed(observation, signal).log_prob(seen)
    density = logpdf(y.astype(float), s.astype(float))
    np.testing.assert_allclose(
        log_p, np.where(is_missing, 0, density).sum((1, 2, 3)), rtol=1e-5, atol=1e-3
    )
    assert log_p[3] == 0
    by_signal, by_seen = tape.gradient(log_p, [signal, seen])
    assert np.isfinite(by_signal).all() and np.isfinite(by_seen).all()
    assert not by_signal.numpy()[is_missing].any() and not by_seen.numpy()[is_missing].any()
    assert np.abs(by_signal.numpy()[~is_missing]).min() > 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_any_size_in_a_graph(case, rng, jit_compile):
    observation = case[0]
    spec = tf.TensorSpec([None, None, None, 1])

    @tf.function(input_signature=[spec, spec], jit_compile=jit_compile)
    def draw_and_score(s, y):
        p = Observed(observation, s)
        return p.sample(2, seed=tf.constant([1, 2])), p.log_prob(y), p.variance()

    for shape in ((2, 5, 3, 1), (1, 1, 1, 1), (3, 2, 9, 1)):
        s, y = signals(rng, shape), signals(rng, shape)
        y[0, 0, 0, 0] = np.nan
        p = Observed(observation, s)
        draws, log_p, variance = draw_and_score(s, y)
        np.testing.assert_allclose(draws, p.sample(2, seed=[1, 2]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_p, p.log_prob(y), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(variance, p.variance(), rtol=1e-5)


def test_observed_refuses_what_it_cannot_take(rng):
    with pytest.raises(TypeError, match="`observation` must be an Observation"):
        Observed(0.1, signals(rng))
    with pytest.raises(TypeError, match="`observation` must be an Observation"):
        layers.ObservedSignal("gaussian:0.1")
    for event_ndims in (0, 5):
        with pytest.raises(ValueError, match="`signal` must have the axes of an event"):
            Observed(Gaussian(0.1), signals(rng), event_ndims=event_ndims)


def test_a_decoder_of_any_size_is_saved_with_its_observation(tmp_path, rng):
    z = keras.Input((None, None, 2))
    signal = keras.layers.Conv2D(1, 3, padding="same", name="signal")(z)
    decoder = keras.Model(z, layers.ObservedSignal(PoissonGaussian(0.1, 0.2, 0.3))(signal))
    assert decoder.output_shape == (None, None, None, 1)
    decoder.save(tmp_path / "decoder.keras")
    restored = keras.models.load_model(tmp_path / "decoder.keras", safe_mode=True)
    assert restored.layers[-1].observation == PoissonGaussian(0.1, 0.2, 0.3)
    for shape in ((2, 5, 3, 2), (1, 8, 8, 2)):
        values = rng.normal(size=shape).astype(np.float32)
        p = restored(values)
        assert isinstance(p, Observed) and p.event_shape == (*shape[1:3], 1)
        np.testing.assert_array_equal(p.signal, decoder(values).signal)
        y = np.zeros((*shape[:3], 1), np.float32)
        np.testing.assert_array_equal(p.log_prob(y), decoder(values).log_prob(y))


# Estimation.


def photograph(name):
    image = getattr(skimage.data, name)()
    image = skimage.color.rgb2gray(image) if image.ndim == 3 else image / 255
    return image.astype(np.float64)


def camera_noise(signal, gain, read_noise, rng, offset=0.0):
    """Draw from the camera with NumPy's samplers."""
    photons = gain * rng.poisson(np.maximum(signal - offset, 0) / gain) if gain else signal - offset
    return offset + photons + read_noise * rng.normal(size=signal.shape)


def line(observation):
    """Return the slope and the intercept of the variance, from the definition."""
    if isinstance(observation, Gaussian):
        return 0.0, observation.sigma**2
    return observation.gain, observation.read_noise**2 - observation.gain * observation.offset


@pytest.mark.parametrize(
    ("gain", "read_noise"), [(0.01, 0.03), (0.05, 0.06), (0.02, 0.1), (0.004, 0.02)]
)
def test_gain_and_read_noise_of_photographs_within_5_percent(gain, read_noise, rng):
    images = [
        camera_noise(photograph(name), gain, read_noise, rng)
        for name in ("camera", "moon", "coins", "astronaut", "cat")
    ]
    found = estimation.from_images(images)
    assert isinstance(found, PoissonGaussian) and found.offset == 0
    assert found.gain == pytest.approx(gain, rel=0.05)
    assert found.read_noise == pytest.approx(read_noise, rel=0.05)


@pytest.mark.parametrize("name", ["camera", "moon", "coins", "cat"])
@pytest.mark.parametrize("sigma", [0.05, 0.1])
def test_constant_noise_of_one_photograph_is_gaussian(name, sigma, rng):
    found = estimation.from_images([camera_noise(photograph(name), 0, sigma, rng)])
    assert isinstance(found, Gaussian)
    assert found.sigma == pytest.approx(sigma, rel=0.05)


def ramp(rng, shape=(160, 200)):
    """A smooth signal from 0.2 to 1."""
    rows, columns = np.indices(shape)
    return 0.6 + 0.4 * np.sin(rows / shape[0] * 4) * np.cos(columns / shape[1] * 5)


def test_an_offset_is_found_where_there_is_no_read_noise(rng):
    signal = [ramp(rng) for _ in range(8)]
    found = estimation.from_images([camera_noise(s, 0.02, 0.0, rng, offset=0.15) for s in signal])
    assert found.read_noise == 0
    assert found.gain == pytest.approx(0.02, rel=0.05)
    assert found.offset == pytest.approx(0.15, rel=0.1)


def test_a_flat_field_is_gaussian(rng):
    """Where all signals are equal, nothing tells photons from read noise."""
    found = estimation.from_images([0.5 + 0.1 * rng.normal(size=(256, 256))])
    assert isinstance(found, Gaussian) and found.sigma == pytest.approx(0.1, rel=0.03)


def test_busy_images_have_few_flat_places(rng):
    """Places that are flat at one intensity only must not tilt the line."""
    signal = photograph("immunohistochemistry")
    found = estimation.from_images([camera_noise(signal, 0.002, 0.01, rng)])
    levels = np.quantile(signal, [0.05, 0.5, 0.95])
    slope, intercept = line(found)
    np.testing.assert_allclose(slope * levels + intercept, 0.002 * levels + 1e-4, rtol=0.1)


def test_estimates_scale_with_the_images(rng):
    images = [camera_noise(ramp(rng), 0.02, 0.05, rng) for _ in range(2)]
    small = line(estimation.from_images(images))
    large = line(estimation.from_images([1000 * image for image in images]))
    np.testing.assert_allclose(large, [1e3 * small[0], 1e6 * small[1]], rtol=1e-4)


def test_images_of_many_sizes_and_channels(rng):
    shapes = [(90, 160), (161, 47), (28, 20), (16, 16), (120, 99)] * 4
    images = [camera_noise(ramp(rng, shape), 0, 0.1, rng) for shape in shapes]
    colour = [np.stack([image] * 2, -1) for image in images[:2]]
    found = estimation.from_images([*images, *colour, rng.normal(size=(15, 300))])
    assert isinstance(found, Gaussian) and found.sigma == pytest.approx(0.1, rel=0.03)


def test_missing_and_clipped_pixels_are_left_out(rng):
    images = [camera_noise(ramp(rng, (256, 256)), 0.03, 0.05, rng) for _ in range(3)]
    expected = line(estimation.from_images(images))
    holed = [np.where(rng.random(image.shape) < 0.002, np.nan, image) for image in images]
    np.testing.assert_allclose(line(estimation.from_images(holed)), expected, rtol=0.15)
    # Noise that is clipped at 0.9 has no variance there.
    clipped = [np.clip(image, 0, 0.9) for image in images]
    np.testing.assert_allclose(line(estimation.from_images(clipped)), expected, rtol=0.15)
    assert 0.05 < np.mean([saturated(image).mean() for image in clipped]) < 0.4


def test_saturated():
    image = np.array([0, 0, 0, 0.5, np.nan, 0.7, 1, 1, 1])
    np.testing.assert_array_equal(saturated(image), [1, 1, 1, 0, 0, 0, 1, 1, 1])
    assert not saturated(np.linspace(0, 1, 50)).any()
    np.testing.assert_array_equal(saturated(np.array([0, 255, 255, 255, 9], np.uint8)).sum(), 3)
    assert not saturated(np.full((3, 3), np.nan)).any()


@pytest.mark.parametrize(
    "images", [[], [np.ones((64, 64))], [np.zeros((8, 200))], [np.full((64, 64), np.nan)]]
)
def test_images_that_tell_nothing_are_refused(images):
    with pytest.raises(ValueError, match="must be estimated from images of at least 16 x 16"):
        estimation.from_images(images)


def test_a_wrong_rank_is_refused(rng):
    with pytest.raises(ValueError, match=r"`images` must be arrays .* shape \(2, 20, 20, 1\)"):
        estimation.from_images([rng.normal(size=(2, 20, 20, 1))])


def test_pairs(rng):
    clean = [photograph(name) for name in ("camera", "coins")]
    noisy = [camera_noise(x, 0.03, 0.05, rng) for x in clean]
    noisy[0][:40, :40] = np.nan
    found = estimation.from_pairs(noisy, clean)
    assert found.gain == pytest.approx(0.03, rel=0.02)
    assert found.read_noise == pytest.approx(0.05, rel=0.02)
    # A clean image of another scale tells the same.
    other = line(estimation.from_pairs(noisy, [0.3 * x + 7 for x in clean]))
    np.testing.assert_allclose(other, line(found), rtol=1e-6)
    constant = estimation.from_pairs([x + 0.1 * rng.normal(size=x.shape) for x in clean], clean)
    assert isinstance(constant, Gaussian) and constant.sigma == pytest.approx(0.1, rel=0.01)


def test_pairs_that_tell_nothing_are_refused(rng):
    x = rng.random((40, 40))
    with pytest.raises(ValueError, match="must hold pairs of one shape"):
        estimation.from_pairs([x], [x[1:]])
    for noisy, clean in (([], []), ([x], [x]), ([x[:2, :3]], [x[:2, :3]])):
        with pytest.raises(ValueError, match="usable pixels"):
            estimation.from_pairs(noisy, clean)


@pytest.mark.parametrize("frames", [4, 5, 60])
def test_stack(frames, rng):
    scene = np.linspace(0.1, 1, 150 * 160).reshape(150, 160)
    stack = np.stack([camera_noise(scene, 0.02, 0.06, rng) for _ in range(frames)])
    found = estimation.from_stack(stack)
    # The relative standard error of the slope is about 1 % with four frames.
    assert found.gain == pytest.approx(0.02, rel=0.05)
    assert found.read_noise == pytest.approx(0.06, rel=0.03)


def test_the_slope_of_a_stack_is_not_flattened(rng):
    """The noise of a pixel's mean exceeds the spread of the scene.

    A regression on the mean itself would find a sixth of the slope. (Not of Poisson counts, whose
    mean and variance are correlated by just as much.) The standard error of the slope is about 0.04,
    that of the variance at the scene's mean 0.01.
    """
    scene = np.linspace(4, 6, 400 * 400).reshape(400, 400)
    found = estimation.from_stack(rng.normal(scene, np.sqrt(scene), (6, 400, 400)))
    slope, intercept = line(found)
    assert slope == pytest.approx(1, abs=0.2)
    assert 5 * slope + intercept == pytest.approx(5, abs=0.05)


def test_what_a_line_says(rng):
    signal = np.linspace(0.2, 1, 101)
    assert NoiseLine(0.02, 0.01).as_observation(signal, 0.001) == PoissonGaussian(0.02, 0.0, 0.1)
    below = NoiseLine(0.02, -0.002).as_observation(signal, 0.001)
    assert below == PoissonGaussian(0.02, 0.1, 0.0)
    for slope, standard_error in ((0.02, 0.01), (0.001, 1e-6), (-0.005, 1e-6)):
        constant = NoiseLine(slope, 0.01).as_observation(signal, standard_error)
        assert isinstance(constant, Gaussian)
        assert constant.sigma**2 == pytest.approx(slope * 0.6 + 0.01, rel=0.1)


@pytest.mark.parametrize("with_instrument", [False, True])
def test_standard_error_of_the_slope(with_instrument, rng):
    """The spread of 400 estimates is measured to 1 / sqrt(800) of itself."""
    truth = rng.uniform(1, 3, 500)
    slopes, errors = [], []
    for _ in range(400):
        signal, z = truth, None
        if with_instrument:
            signal, z = (truth + 0.3 * rng.normal(size=500) for _ in range(2))
        square = (truth + 1) * rng.normal(size=500) ** 2
        found = NoiseLine(1.0, 1.0)
        found = noise_line.step(found, signal, square, instrument=z)
        errors.append(noise_line.standard_error(found, signal, square, instrument=z))
        slopes.append(found.slope)
    assert np.mean(slopes) == pytest.approx(1, abs=5 * np.std(slopes) / 20)
    assert np.median(errors) == pytest.approx(np.std(slopes), rel=5 / np.sqrt(800))


@pytest.mark.parametrize("max_deviation", [1.0, 3.0])
def test_clipped_squares_are_unbiased_for_normal_residuals(max_deviation, rng):
    n = 400_000
    signal = rng.uniform(0.1, 1, n)
    variance = 0.02 * signal + 0.001
    square = variance * rng.normal(size=n) ** 2
    found = NoiseLine(0.0, 0.01)
    for _ in range(40):
        found = noise_line.robust_step(found, signal, square, max_deviation)
    error = noise_line.standard_error(found, signal, square)
    # Clipping at one standard deviation leaves a third of the information.
    factor = {1.0: np.sqrt(3), 3.0: 1.1}[max_deviation]
    assert abs(found.slope - 0.02) < 5 * factor * error
    weights = variance**-2 / np.sum(variance**-2)
    relative = weights @ found.variance(signal) / (weights @ variance) - 1
    assert abs(relative) < 5 * factor * np.sqrt(2 / n)


def test_a_stack_of_constant_noise_is_gaussian(rng):
    scene = np.linspace(0, 1, 100 * 100).reshape(100, 100)
    found = estimation.from_stack(scene + 0.2 * rng.normal(size=(8, 100, 100)))
    assert isinstance(found, Gaussian) and found.sigma == pytest.approx(0.2, rel=0.02)


def test_stacks_that_tell_nothing_are_refused(rng):
    for stack in (rng.random((3, 50, 50)), rng.random(9)):
        with pytest.raises(ValueError, match="at least four frames"):
            estimation.from_stack(stack)
    for stack in (np.ones((8, 50, 50)), rng.random((8, 5, 5))):
        with pytest.raises(ValueError, match="usable pixels"):
            estimation.from_stack(stack)


@pytest.mark.slow
def test_bsd_photographs_within_5_percent(rng):
    files = sorted((DATA / "bsd400").glob("*.png"))
    if not files:
        pytest.skip("The photographs of Berkeley are not here")
    noisy = [x / 255 + 25 / 255 * rng.normal(size=x.shape) for x in map(skimage.io.imread, files)]
    found = estimation.from_images(noisy)
    assert isinstance(found, Gaussian) and found.sigma == pytest.approx(25 / 255, rel=0.05)


@pytest.mark.slow
def test_real_micrographs_alone_agree_with_their_pairs():
    files = sorted((DATA / "w2s" / "noisy").glob("*"))[:80]
    if not files:
        pytest.skip("The micrographs of W2S are not here")
    noisy = [skimage.io.imread(file) / 255 for file in files]
    clean = [skimage.io.imread(DATA / "w2s" / "clean" / file.name) / 255 for file in files]
    alone, paired = estimation.from_images(noisy), estimation.from_pairs(noisy, clean)
    assert alone.gain == pytest.approx(paired.gain, rel=0.1)
    assert alone.offset == pytest.approx(paired.offset, rel=0.1)
