import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from dvae_tf import randomness


@pytest.mark.parametrize("draw", [randomness.uniform, randomness.normal])
def test_same_numbers_with_and_without_xla(draw):
    seed = randomness.as_seed(7)
    eager = draw([50, 30], seed).numpy()
    compiled = tf.function(lambda s: draw([50, 30], s), jit_compile=True)(seed).numpy()
    np.testing.assert_allclose(compiled, eager, rtol=0, atol=3e-5)


def test_bits_are_those_of_splitmix64():
    """The published first outputs for the seed 1234567."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    seed = tf.constant([1234567, 0], tf.int32)
    assert randomness._bits([5], seed).numpy().tolist() == published
    compiled = tf.function(lambda s: randomness._bits([5], s), jit_compile=True)
    assert compiled(seed).numpy().tolist() == published
    uniform = randomness.uniform([5], seed).numpy()
    np.testing.assert_array_equal(uniform, [(n >> 40) / 2**24 for n in published])


@pytest.mark.parametrize("neighbours", ["seeds", "folded", "places"])
def test_neighbours_are_independent(neighbours):
    """Pairs of draws fill the unit square evenly: chi-squared over 32 x 32 cells."""
    if neighbours == "seeds":
        rows = [randomness.uniform([100], randomness.as_seed(n)).numpy() for n in range(1000)]
    elif neighbours == "folded":
        base = randomness.as_seed(0)
        rows = [randomness.uniform([100], randomness.fold_in(base, n)).numpy() for n in range(1000)]
    else:
        rows = randomness.uniform([100_000], randomness.as_seed(1)).numpy()[:, None]
    u = np.asarray(rows)
    counts, _, _ = np.histogram2d(u[:-1].ravel(), u[1:].ravel(), 32, [[0, 1], [0, 1]])
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("draw", "distribution"), [(randomness.uniform, "uniform"), (randomness.normal, "norm")]
)
def test_distribution(draw, distribution):
    values = draw([20_000], randomness.as_seed(3)).numpy()
    assert scipy.stats.kstest(values, distribution).pvalue > 1e-3


@pytest.mark.parametrize("jit_compile", [False, True])
def test_normal_is_exact_for_every_bit_pattern_of_the_tails(jit_compile):
    magnitudes = np.concatenate([np.arange(4096), np.arange(2**23 - 4096, 2**23)])
    bits = np.concatenate([magnitudes, magnitudes - 2**31]).astype(np.int32)
    function = tf.function(randomness._normal_from_bits, jit_compile=jit_compile)
    lower = scipy.stats.norm.ppf(0.5 - (magnitudes + 0.5) * 2.0**-24)
    expected = np.concatenate([-lower, lower])
    np.testing.assert_allclose(function(bits).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_seeds_are_distinct():
    seed = randomness.as_seed(0)
    seeds = [*randomness.split(seed, 3), randomness.fold_in(seed, 0), randomness.fold_in(seed, 1)]
    seeds += [randomness.fold_in(seed, 0, 1), randomness.fold_in(seed, 1, 0), seed]
    assert len({tuple(s.numpy()) for s in seeds}) == len(seeds)


@pytest.mark.parametrize(
    ("seed", "halves"),
    [
        (5, [5, 0]),
        (5 + 2**31, [5, 1]),
        (2**31 - 1, [2**31 - 1, 0]),
        (2**40 + 5, [5, 512]),
        (2**62 - 1, [2**31 - 1, 2**31 - 1]),
    ],
)
def test_every_integer_is_a_seed_of_its_own(seed, halves):
    assert randomness.as_seed(seed).numpy().tolist() == halves


@pytest.mark.parametrize("seed", [-1, 2**62, [1, 2, 3]])
def test_refuses_what_is_no_seed(seed):
    with pytest.raises(ValueError, match="`seed` must"):
        randomness.as_seed(seed)


@pytest.mark.parametrize("rate", [0.0, 1e-3, 0.7, 6.0, 15.9, 16.1, 40.0, 3000.0, 65_000.0])
def test_poisson_has_the_probabilities_of_poisson(rate):
    draws = randomness.poisson(tf.fill([200_000], rate), randomness.as_seed(3)).numpy()
    np.testing.assert_array_equal(draws, np.round(draws))
    # Bins of equal probability as nearly as counts allow, and both tails.
    exact = scipy.stats.poisson(rate)
    edges = np.unique(exact.ppf([1e-4, *np.linspace(0.05, 0.95, 19), 1 - 1e-4]))
    observed = np.bincount(np.searchsorted(edges, draws), minlength=edges.size + 1)
    expected = np.diff(exact.cdf(edges), prepend=0.0, append=1.0) * draws.size
    assert observed[expected == 0.0].sum() == 0
    possible = expected > 0.0
    if possible.sum() > 1:
        assert scipy.stats.chisquare(observed[possible], expected[possible]).pvalue > 1e-3


def test_poisson_is_one_function_of_seed_and_rate():
    rate = tf.constant(np.geomspace(0.01, 2000.0, 5000), tf.float32)
    draw = tf.function(lambda: randomness.poisson(rate, randomness.as_seed(4)))
    compiled = tf.function(draw.python_function, jit_compile=True)
    plain = randomness.poisson(rate, randomness.as_seed(4)).numpy()
    np.testing.assert_array_equal(plain, draw())
    # A value at a boundary may round to its neighbour.
    assert np.mean(plain != compiled().numpy()) < 2e-3
    assert np.abs(plain - compiled().numpy()).max() <= 1.0
    assert (randomness.poisson(tf.constant([-3.0]), randomness.as_seed(1)).numpy() == 0.0).all()
