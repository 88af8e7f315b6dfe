import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from dvae_tf import figures
from dvae_tf.kinds.image import pictures


def decoded(figure):
    return tf.io.decode_png(figures.to_png(figure)).numpy()


@pytest.mark.parametrize("shape", [(28, 20, 1), (6, 9, 3), (1, 1, 1)])
@pytest.mark.parametrize("count", [1, 3, 10])
def test_grids_of_any_shape(shape, count, rng):
    images = rng.random((count, *shape))
    for figure in (
        pictures.image_grid(images, title="t"),
        pictures.denoising_grid(images, images, images, title="t\nu"),
        pictures.denoising_grid(images, images, images),
        pictures.denoising_grid(None, images, images),
    ):
        assert decoded(figure).shape[2] == 4


def test_mosaic_places_images_row_by_row():
    images = np.arange(1, 6, dtype=float)[:, None, None, None] * np.ones((1, 2, 3, 1))
    mosaic = pictures._mosaic(images, 3, gap=1, fill=0.0)[..., 0]
    expected = np.zeros((5, 11))
    for index in range(5):
        row, column = divmod(index, 3)
        expected[3 * row : 3 * row + 2, 4 * column : 4 * column + 3] = index + 1
    np.testing.assert_array_equal(mosaic, expected)


def test_pixels_keep_their_grey_value():
    for value in (0.0, 0.5, 1.0, -3.0, 7.0):
        picture = decoded(pictures.image_grid(np.full((1, 8, 8, 1), value), title=""))
        middle = picture[picture.shape[0] // 2, picture.shape[1] // 2, 0]
        assert abs(int(middle) - round(255 * np.clip(value, 0, 1))) <= 1


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_learning_curves(epochs):
    history = {"epoch": range(epochs)}
    for key in ("loss", "reconstruction", "kl"):
        history |= {key: np.linspace(1, 2, epochs), f"val_{key}": np.full(epochs, np.nan)}
    figure = figures.learning_curves(history, noun="image")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2]
    assert all("nats per image" in axes.get_ylabel() for axes in figure.axes)
    decoded(figure)


@pytest.mark.parametrize("units", [1, 7, 150])
def test_encoder_filters(units, rng):
    decoded(pictures.encoder_filters(rng.normal(size=(5, 4, 3, units))))
    decoded(pictures.encoder_filters(np.zeros((5, 4, 1, units))))


def test_encoder_filters_are_the_strongest_first():
    weights = np.ones((2, 2, 1, 1)) * np.array([0.1, -0.4, 0.2, 0.3])
    (picture,) = pictures.encoder_filters(weights, num_filters=3).axes[0].images
    shown = picture.get_array()[0]
    np.testing.assert_allclose(shown[~np.isnan(shown)], np.repeat([-0.4, 0.3, 0.2], 2), rtol=1e-6)


@pytest.mark.parametrize("law", [scipy.stats.norm, scipy.stats.laplace])
def test_latent_grid_is_at_quantiles_of_the_prior(law):
    latents = figures.latent_grid(law.ppf, 5)
    assert latents.shape == (25, 2)
    quantiles = law.cdf(latents).reshape(5, 5, 2)
    np.testing.assert_allclose(quantiles[0, :, 0], [0.1, 0.3, 0.5, 0.7, 0.9], atol=1e-6)
    np.testing.assert_allclose(quantiles[:, 0, 1], [0.9, 0.7, 0.5, 0.3, 0.1], atol=1e-6)
    decoded(pictures.latent_manifold(np.zeros((25, 4, 6, 1)), latents))


def test_traversal_is_titled_with_its_range(rng):
    strip = rng.random((2, 3, 4, 4, 1))
    names = ("random_input", "random_output", "attack_input", "attack_output", "samples")
    arrays = dict.fromkeys(names, strip[0]) | {
        "repeated": strip,
        "traversal": strip,
        "traversal_units": [4, 1],
        "traversal_values": np.array([-2.0, 0.0, 2.5]),
        "interpolation": strip[:0],
    }
    drawn = pictures.of_evaluation(arrays)
    assert drawn["traversal"]().axes[0].get_title() == "Latent units from -2 to 2.5"
    assert set(drawn) == {"attack", "repeated", "traversal", "samples"}


@pytest.mark.parametrize("size", [1, 2, 3, 40])
@pytest.mark.parametrize("count", [1, 2])
def test_latents_of_few_examples(count, size, rng):
    latents, paths = rng.normal(size=(count, size)), rng.normal(size=(count, 9, size))
    (points, drawn), name = figures.project(latents, paths)
    assert points.shape == (count, 2)
    if name == "principal component":  # two axes at right angles keep no more than all lengths
        np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)
        lengths = np.linalg.norm(paths - latents.mean(axis=0), axis=-1)
        assert np.all(np.linalg.norm(drawn, axis=-1) <= lengths + 1e-12)
    assert figures.latent_scatter(latents, np.zeros(count), paths).axes
