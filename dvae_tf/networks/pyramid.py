"""The bodies of convolutional networks: levels that go down, and the same levels up again."""

import functools
import math

import keras

from dvae_tf.likelihoods import LIKELIHOODS

# Images are [B, H, W, C] whatever Keras is set to.
_SAME = {"padding": "same", "data_format": "channels_last"}
convolution = functools.partial(keras.layers.Conv2D, **_SAME)
transposed_convolution = functools.partial(keras.layers.Conv2DTranspose, **_SAME)


def pyramid(example_shape, likelihood, filters, hidden, activation, down, up):
    """Return the bodies (encode, decode) of a convolutional encoder and its mirrored decoder.

    Args:
        example_shape, likelihood, filters, hidden, activation: as for `conv`.
        down, up: functions of (hidden units, channels) that halve and double height and width.
    """
    height, width, channels = example_shape
    sizes = [(height, width)]
    for _ in filters:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    per_value = LIKELIHOODS[likelihood].layer.params_size(1)

    def encode(image):
        h = image
        for number in filters:
            h = down(h, number)
        h = keras.layers.Flatten(data_format="channels_last")(h)
        return keras.layers.Dense(hidden, activation, name="hidden")(h)

    def decode(latent):
        top = (*sizes[-1], filters[-1])
        h = keras.layers.Dense(hidden, activation, name="hidden")(latent)
        h = keras.layers.Dense(math.prod(top), activation)(h)
        h = keras.layers.Reshape(top)(h)
        for number, (rows, columns) in zip(reversed(filters), reversed(sizes[:-1]), strict=True):
            h = up(h, number)
            cropping = ((0, h.shape[1] - rows), (0, h.shape[2] - columns))
            h = keras.layers.Cropping2D(cropping, data_format="channels_last")(h)
        h = convolution(channels * per_value, 3, name="parameters", dtype="float32")(h)
        # The likelihood's layer expects the first parameter of all values, then the second of all.
        h = keras.layers.Reshape((height, width, channels, per_value), dtype="float32")(h)
        h = keras.layers.Permute((4, 1, 2, 3), dtype="float32")(h)
        return keras.layers.Flatten(data_format="channels_last", dtype="float32")(h)

    return encode, decode
