"""What is no batch of images is refused, wherever a model is given one."""

import numpy as np
import pytest
import tensorflow as tf

from dvae_tf import DVAE, likelihood, networks
from dvae_tf.kinds.image import checks as images

GOOD = np.linspace(0, 1, 3 * 64, dtype=np.float32).reshape(3, 8, 8, 1)
WRONG_SHAPES = {
    r"shape \(3, 8, 8\)\. Add the channel, x\[\.\.\., None\]": GOOD[..., 0],
    r"shape \(8, 8, 1\)\. .*the batch, x\[None\]": GOOD[0],
    r"shape \(3, 64\)\. Reshape flat vectors": GOOD.reshape(3, 64),
    r"must be 8 x 8 x 1 \(height, width, channels\).*shape \(3, 4, 4, 4\)": GOOD.reshape(
        3, 4, 4, 4
    ),
}
WRONG_TYPES = {
    r"dtype uint8\. Divide 8-bit images by 255": (GOOD * 255).astype(np.uint8),
    r"dtype bool\. Convert them": GOOD > 0.5,
}
WRONG_VALUES = {
    r"values from 0 to 255\. Divide them by 255": GOOD * 255,
    r"values from -1 to 1\. Rescale or clip": GOOD * 2 - 1,
    r"values from 0 to 1\.0000001\d*\.": GOOD * np.float32(1.0000001),
    "NaN or infinity": np.where(GOOD == 1, np.nan, GOOD),
    "Received: NaN or inf": np.where(GOOD == 1, np.inf, GOOD),
}


@pytest.fixture(scope="module")
def model():
    # A likelihood that broadcasts: one image of wrong shape would be scored against eight.
    model = DVAE(*networks.mlp((8, 8, 1), latent_dim=2, likelihood="gaussian", hidden=(4,)))
    model.compile("adam")
    return model


def uses(model):
    """What takes clean images, and what takes any."""
    clean = {
        "fit": lambda x: model.fit(x, batch_size=1, verbose=0),
        "evaluate": lambda x: model.evaluate(x, batch_size=1, verbose=0),
        "elbo": model.elbo,
        "log_likelihood": lambda x: model.log_likelihood(x, num_samples=2),
    }
    free = {
        "call": model,
        "predict": lambda x: model.predict(x, batch_size=8, verbose=0),
        "denoise": model.denoise,
        "importance sampling": lambda x: likelihood.importance_sampling(
            model.encoder, model.decoder, x, num_samples=2
        ),
    }
    return clean, free


@pytest.mark.parametrize("name", ["fit", "evaluate", "elbo", "log_likelihood"])
def test_clean_images(model, name):
    for message, x in (WRONG_TYPES | WRONG_VALUES | WRONG_SHAPES).items():
        with pytest.raises(ValueError, match=message):
            uses(model)[0][name](x)


@pytest.mark.parametrize("name", ["call", "predict", "denoise", "importance sampling"])
def test_other_images_may_have_any_value(model, name):
    use = uses(model)[1][name]
    for message, x in (WRONG_TYPES | WRONG_SHAPES).items():
        with pytest.raises(ValueError, match=message):
            use(x)
    use(3 * GOOD - 1)


def test_annealing(model):
    with pytest.raises(ValueError, match="Add the channel"):
        likelihood.annealed_importance_sampling(model.decoder, GOOD[..., 0], latent_dim=2)


def test_batches_of_data_sets(model):
    """Their values are in a graph; types and shapes are known there."""
    for message, x in (WRONG_TYPES | WRONG_SHAPES).items():
        with pytest.raises(ValueError, match=message):
            model.fit(tf.data.Dataset.from_tensors(x), shuffle=False, verbose=0)
    examples = tf.data.Dataset.from_tensors({"image": GOOD, "label": [1, 2, 3]})
    with pytest.raises(TypeError, match=r"dictionary of image, label\. Take the images out"):
        model.fit(examples, shuffle=False, verbose=0)
    pixels = examples.map(lambda example: example["image"])
    history = model.fit(pixels, shuffle=False, verbose=0).history
    assert np.isfinite(history["bound"]).all()


@pytest.mark.slow
def test_the_clean_half_of_pairs():
    model = DVAE(
        *networks.mlp((8, 8, 1), latent_dim=2, likelihood="gaussian", hidden=(4,)), paired=True
    )
    model.compile("adam")
    model.fit(3 * GOOD - 1, GOOD, verbose=0)
    with pytest.raises(ValueError, match="values from -1 to 2"):
        model.fit(GOOD, 3 * GOOD - 1, verbose=0)
    # Of pairs the sizes may differ: here a model from halves to wholes.
    (encoder, _), (_, decoder) = (
        networks.mlp(shape, latent_dim=2, likelihood="gaussian", hidden=(4,))
        for shape in ((8, 4, 1), (8, 8, 1))
    )
    model = DVAE(encoder, decoder, paired=True)
    model.compile("adam")
    assert np.isfinite(model.fit(GOOD[:, :, :4], GOOD, verbose=0).history["bound"]).all()


def test_empty_batches_and_unknown_shapes():
    assert images.as_images(GOOD[:0], clean=True).shape == (0, 8, 8, 1)
    assert images.as_images(GOOD.astype(np.float64), clean=True).dtype == tf.float32

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def of_any_rank(x):
        return images.as_images(x, clean=True)

    np.testing.assert_array_equal(of_any_rank(GOOD), GOOD)
